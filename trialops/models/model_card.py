"""A model card from the objects of a run: what the model is for, how well and for whom it works.

The sections follow Mitchell et al., "Model Cards for Model Reporting" (FAT* 2019), with the items TRIPOD+AI
asks of a prediction model. A pure function: nothing is read, nothing is written, no number is made up.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from trialops.models.discrimination import p_text
from trialops.models.fairness_groups import why_not
from trialops.models.record import plain

if TYPE_CHECKING:
    from trialops.models.bundle import Bundle
    from trialops.models.comparison import Comparison, Decision
    from trialops.models.evaluation import Evaluation
    from trialops.models.fairness import FairnessReport
    from trialops.models.task import Task

Item = dict[str, Any]
LEAST_FOR_CALIBRATION = 100  # events and non-events a calibration curve needs, Van Calster et al. 2016 ask for 200


def model_card(
    task: Task,
    bundle: Bundle,
    evaluation: Evaluation,
    fairness: FairnessReport,
    *,
    search: Mapping[str, Any] | None = None,
    comparison: Comparison | None = None,
    decision: Decision | None = None,
    created_by: str = "",
) -> dict[str, Any]:
    """Assemble a model card.

    Args:
        task: What is predicted, for whom.
        bundle: The model.
        evaluation: It on held-out sites.
        fairness: Its audit.
        search: Document of the search: how it was found, on which table, with which split.
        comparison: It against the model in use or the baseline.
        decision: What the policy made of it.
        created_by: The run that made it. The bundle does not say: the same data and seed give the same bundle,
            whichever run trains it.

    Returns:
        `title`, `digest` and `sections`: a list of {key, title, items}, each item {name, value, text}. Values
        are JSON values, texts are for people.
    """
    sections = [
        ("intended_use", "Intended use", _intended_use(task)),
        ("model", "Model", _model(bundle, search, created_by or bundle.created_by)),
        ("data", "Data", _data(bundle, evaluation, search)),
        ("performance", "Performance on held-out sites", _performance(evaluation, comparison)),
        ("fairness", "Fairness", _fairness(fairness)),
        ("limits", "Limits", _limits(task, bundle, evaluation, fairness)),
    ]
    if decision is not None:
        sections.append(("decision", "Decision", _decision(decision)))
    return {
        "title": task.title,
        "digest": bundle.digest,
        "sections": [{"key": key, "title": title, "items": items} for key, title, items in sections],
    }


def as_markdown(card: dict[str, Any]) -> str:
    """The card as Markdown, one heading per section and one line per item."""
    lines = [f"# Model card: {card['title']}", "", f"Bundle digest `{card['digest']}`"]
    for section in card["sections"]:
        lines += ["", f"## {section['title']}", ""]
        lines += [f"- **{item['name']}**: {item['text']}" for item in section["items"]]
    return "\n".join(lines) + "\n"


def _item(name: str, value: Any, text: str | None = None) -> Item:
    value = plain(value)
    if text is None:
        text = f"{value:.3f}" if isinstance(value, float) else "not estimable" if value is None else str(value)
    return {"name": name, "value": value, "text": text}


def _intended_use(task: Task) -> list[Item]:
    horizon = "the end of planned treatment" if task.horizon_day is None else f"day {task.horizon_day}"
    items = [
        _item("Predicts", task.label.description),
        _item("For", task.population.description),
        _item(
            "When",
            task.landmark_day,
            f"once, at day {task.landmark_day}, with data known by then; outcome to {horizon}",
        ),
        _item(
            "Use",
            "support",
            "to direct retention support at site level; it does not decide on treatment or eligibility",
        ),
    ]
    if task.blinded:
        items.append(_item("Blinding", True, "arm, dose and actual treatment are not inputs"))
    return items


def _model(bundle: Bundle, search: Mapping[str, Any] | None, created_by: str) -> list[Item]:
    items = [
        _item("Family", bundle.kind),
        _item("Inputs", bundle.features, ", ".join(bundle.features)),
        _item("Hyperparameters", bundle.params, ", ".join(f"{k} = {v:.4g}" for k, v in bundle.params.items())),
        _item("Decision threshold", bundle.threshold),
        _item("Created by", created_by, created_by or "not recorded"),
    ]
    if search is not None:
        text = (
            f"{len(search['trials'])} configurations fixed in advance; cross-validated log loss "
            f"{search['log_loss']:.3f} (prespecified model {search['baseline_log_loss']:.3f})"
        )
        items.append(_item("Search", {"log_loss": search["log_loss"], "baseline": search["baseline_log_loss"]}, text))
        items += [_item("Search", note) for note in search["notes"] if note not in bundle.notes]
    return items


def _data(bundle: Bundle, evaluation: Evaluation, search: Mapping[str, Any] | None) -> list[Item]:
    training = {**bundle.training, **(search["training"] if search else {}), "rows": bundle.training.get("rows")}
    items = [
        _item(
            "Trained on",
            training,
            f"{training.get('rows')} subjects, {training.get('events')} events, {len(training.get('sites', ()))} sites",
        ),
        _item(
            "Judged on",
            {"n": evaluation.n, "events": evaluation.events, "sites": evaluation.sites},
            f"{evaluation.n} subjects, {evaluation.events} events, {evaluation.sites} sites not used in training",
        ),
    ]
    if training.get("table"):
        digest = str(training.get("digest"))[:12]
        text = f"{training['table']} version {training.get('version')}, digest {digest}"
        items.append(_item("Table", training["table"], text))
    if search is not None:
        split = search["split"]
        train, held = split["train"], split["held_out"]
        text = (
            f"{split['share']:.0%} of subjects, by whole sites: {held['sites']} sites, {held['subjects']} subjects and "
            f"{held['events']} events held out; {train['sites']} sites, {train['subjects']} subjects and "
            f"{train['events']} events to learn from"
        )
        items.append(_item("Hold-out", split, text))
    return items


def _performance(evaluation: Evaluation, comparison: Comparison | None) -> list[Item]:
    cal, at = evaluation.calibration, evaluation.operating
    share = evaluation.decision_curve.useful_share
    useful = f"beats treat-all and treat-none at {share:.0%} of the declared thresholds"
    items = [
        _item("Verdict", evaluation.verdict, evaluation.sentence()),
        _estimate("AUROC", evaluation.auroc),
        _estimate("Average precision", evaluation.auprc),
        _estimate("Prevalence", evaluation.prevalence),
        _item("Brier score", evaluation.brier),
        _item("Scaled Brier score", evaluation.scaled_brier),
        _estimate("Calibration intercept", cal.intercept),
        _estimate("Calibration slope", cal.slope),
        _item("ICI", cal.ici),
        _estimate("Sensitivity", at.sensitivity),
        _estimate("Specificity", at.specificity),
        _estimate("PPV", at.ppv),
        _item("Net benefit", evaluation.decision_curve.useful_share, useful),
    ]
    if comparison is not None:
        text = f"AUROC difference {comparison.difference}, {p_text(comparison.p_value)}"
        items.append(_item(f"Against {comparison.role} {comparison.comparator}", comparison.difference, text))
    return items


def _estimate(name: str, estimate: Any) -> Item:
    known = estimate.value == estimate.value
    return _item(name, estimate, str(estimate) if known else f"not estimable ({estimate.method})")


def _fairness(fairness: FairnessReport) -> list[Item]:
    items = [_item("Verdict", fairness.verdict), _item("Intervals", fairness.method)]
    for report in fairness.attributes:
        items.append(_item(report.attribute, report, f"{report.verdict}: {report.reason}"))
        items += [
            _item(f"{report.attribute} {row.level}", row.n, f"not assessable: {why_not(row)}")
            for row in report.groups
            if not row.assessable
        ]
    return items


def _limits(task: Task, bundle: Bundle, evaluation: Evaluation, fairness: FairnessReport) -> list[Item]:
    items = [
        _item(
            "Sites",
            evaluation.sites,
            "intervals take subjects as independent; subjects of one site may be alike",
        ),
        _item(
            "Trial",
            task.name,
            "learned in one trial; another protocol, population or region needs a new evaluation",
        ),
    ]
    smaller = min(evaluation.events, evaluation.n - evaluation.events)
    if smaller < LEAST_FOR_CALIBRATION:
        items.append(
            _item("Calibration", smaller, f"{smaller} subjects in the smaller class: the curve is a rough guide")
        )
    if fairness.verdict != "pass":
        items.append(_item("Groups", fairness.verdict, "equal treatment of all groups has not been shown"))
    items += [
        _item("Note", note) for note in dict.fromkeys([*bundle.notes, *evaluation.notes, *evaluation.calibration.notes])
    ]
    return items


def _decision(decision: Decision) -> list[Item]:
    items = [
        _item("Action", decision.action),
        _item("Policy", decision.policy, f"{decision.policy}, digest {decision.policy_digest[:12]}"),
    ]
    return items + [
        _item(reason.rule, reason.met, f"{'met' if reason.met else 'not met'}: {reason.text}")
        for reason in decision.reasons
    ]
