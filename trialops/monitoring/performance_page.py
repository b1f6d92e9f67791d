"""The pages of the performance monitoring and of the verdict over windows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trialops.monitoring.concept import CHANGED
from trialops.monitoring.performance import FINE, INSUFFICIENT, LabelFree
from trialops.pages import Facts, Figure, Page, Section, Table, Text, Verdict, plots
from trialops.pages.page import suppressed

if TYPE_CHECKING:
    from trialops.models.task import Task
    from trialops.monitoring.verdict import MonitoringPolicy
    from trialops.monitoring.verdict import Verdict as Concluded
    from trialops.monitoring.watch import Look

TONES = {"healthy": "good", "watch": "warn", "waiting": "warn", "unknown": "warn", "retrain": "bad"}


def performance_page(look: Look, task: Task) -> Page:
    """What has matured, how the model did on it, and how its residuals went along time."""
    found = look.performance
    enough = found.verdict != INSUFFICIENT
    tone: Any = "warn" if not enough else "good" if found.verdict == FINE else "bad"
    sections = [
        Section(
            "Why",
            [Text(reason) for reason in found.reasons],
        ),
        Section(
            "Matured cohort",
            [
                Text(
                    f"Subjects whose outcome is settled by day {task.settled_day}, each by the first prediction made "
                    f"on day {task.landmark_day} or at most {look.policy.landmark_slack_days} days later."
                ),
                Facts({"subjects": found.n, "events": suppressed(found.events), "model": found.model[:19]}),
                Table(["not counted", "predictions"], sorted(found.left_out.items())),
            ],
        ),
    ]
    if enough and found.calibration is not None:
        rows = [found.at_promotion, found.auroc]
        curve = [p for p in found.calibration.curve if p.n >= 11]
        sections.append(
            Section(
                "Performance",
                [
                    Facts(
                        {
                            "AUROC": str(found.auroc),
                            "relative drop": str(found.drop),
                            "accuracy": str(found.accuracy),
                            "Brier score": found.brier,
                        }
                    ),
                    Figure(
                        plots.intervals(
                            ["at promotion", "matured cohort"],
                            [e.value for e in rows],
                            [e.low for e in rows],
                            [e.high for e in rows],
                            xlabel="AUROC",
                            reference=0.5,
                        ),
                        "AUROC on the held-out sites when the model was promoted, and on what has matured since.",
                    ),
                    Figure(
                        plots.lines(
                            [("observed", [p.predicted for p in curve], [p.observed.value for p in curve])],
                            xlabel="predicted risk",
                            ylabel="observed share",
                            diagonal=True,
                            markers=True,
                        ),
                        f"Calibration: intercept {found.calibration.intercept}, slope {found.calibration.slope}.",
                    ),
                ],
            )
        )
        sections.append(
            Section(
                "Sites",
                [
                    Text("Events against what the model expected; sites corrected for their number."),
                    Table(
                        ["site", "subjects", "observed", "expected", "p", "differs"],
                        [
                            (s.site, suppressed(s.n), suppressed(s.observed), s.expected, s.p_value, s.flagged)
                            for s in found.sites
                        ],
                    ),
                ],
            )
        )
    sections.append(_without_labels(found.without_labels, found.waiting))
    concept = look.concept
    items: list[Any] = [Text(f"{concept.verdict}: {concept.reason}.")]
    if len(concept.trace) > 1:
        steps = [concept.n * (k + 1) / len(concept.trace) for k in range(len(concept.trace))]
        figure = plots.lines(
            [("mean residual", steps, concept.trace)], xlabel="predictions, oldest first", ylabel="mean residual"
        )
        items.append(Figure(figure, "Mean residual in the adaptive window; 0 is that of a calibrated model."))
    sections.append(Section("Concept drift", items))
    sections.append(Section("Policy", [Text(f"{look.policy.name}, digest {look.policy.digest}", quiet=True)]))
    label = found.verdict if concept.verdict != CHANGED else f"{found.verdict}, {CHANGED}"
    return Page(
        "Model performance",
        sections,
        Verdict(label.capitalize(), "bad" if concept.verdict == CHANGED else tone, found.reasons[0]),
    )


def no_model_page(task: str) -> Page:
    """While no model is in use."""
    text = f"No version of {task} is in use, so there is nothing to judge. A release changes that."
    return Page("Model performance", [], Verdict("Insufficient evidence", "warn", text))


def _without_labels(cohort: LabelFree | None, waiting: LabelFree | None) -> Section:
    rows = [
        (name, part.n, part.auroc, part.brier, part.accuracy, part.prevalence)
        for name, part in (("matured cohort", cohort), ("outcome not settled", waiting))
        if part is not None and part.n >= 11
    ]
    return Section(
        "Estimate without labels",
        [
            Text(
                "What the probabilities alone imply, if every one of them is right. It follows a change of the "
                "population; it cannot show that the model has become wrong."
            ),
            Table(["of", "predictions", "AUROC", "Brier score", "accuracy", "share of events"], rows),
        ],
    )


def verdict_page(verdict: Concluded, policy: MonitoringPolicy) -> Page:
    """The windows that count, and what follows from them."""
    parts = sorted({part for window in verdict.windows for part in window.parts})
    rows = [
        (w.sequence, *(w.parts.get(part, "–") for part in parts), "bad" if w.bad else "fine", w.state)
        for w in verdict.windows
    ]
    tone: Any = TONES[verdict.state]
    return Page(
        "Monitoring verdict",
        [
            Section("Windows", [Table(["window", *parts, "counts as", "concluded"], rows)]),
            Section(
                "Rule",
                [
                    Text(
                        f"{policy.bad} bad windows of the last {policy.windows} ask for a retraining; for "
                        f"{policy.rest} windows after that it is not asked again. The same evidence is one window, "
                        "however often it is looked at."
                    ),
                    Text(f"{policy.name}, digest {policy.digest}", quiet=True),
                ],
            ),
        ],
        Verdict(verdict.state.capitalize(), tone, verdict.reason),
    )
