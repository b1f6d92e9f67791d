"""The page of a risk assessment: the verdict, its numbers, class sizes, and what would make the table pass."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trialops.pages import Facts, Figure, Page, Section, Table, Text, Tone, Verdict, plots, suppressed

if TYPE_CHECKING:
    from trialops.privacy.risk_release import ReleaseRisk

TONES: dict[str, Tone] = {"pass": "good", "fail": "bad", "insufficient": "warn"}
_BINS = ((1, 1), (2, 2), (3, 5), (6, 10), (11, 20), (21, 50), (51, None))


def risk_page(found: ReleaseRisk) -> Page:
    """Counts and measures; no values of subjects."""
    risk, judged, coarse = found.risk, found.judged, found.coarse
    labels, counts = [], []
    for low, high in _BINS:
        labels.append(f"{low}" if low == high else f"{low}-{high}" if high else f"{low} and more")
        counts.append(float(sum(n * s for s, n in risk.sizes.items() if s >= low and (high is None or s <= high))))
    diversity = [(d.column, d.distinct, d.entropy, d.closeness, "yes" if d.ordered else "no") for d in risk.diversity]
    advice: list[Text | Facts | Table] = []
    if judged.verdict == "fail":
        advice.append(Table(("column", "made coarser", "classes before", "classes after"), coarse.steps))
        advice.append(
            Facts(
                {
                    "subjects left out": suppressed(coarse.suppressed),
                    "subjects kept": suppressed(coarse.risk.records),
                    "k afterwards": coarse.risk.k,
                    "then": coarse.judgement.verdict,
                }
            )
        )
    return Page(
        f"Residual risk: {found.data_set}",
        [
            Section(
                "Measures",
                [
                    Facts(
                        {
                            "subjects": suppressed(risk.records),
                            "classes": risk.classes,
                            "k": risk.k,
                            "prosecutor, highest": risk.prosecutor,
                            "prosecutor, mean": risk.prosecutor_mean,
                            "journalist": risk.journalist,
                            "marketer": risk.marketer,
                            "part at risk": risk.at_risk,
                        }
                    ),
                    Text(f"Quasi-identifiers: {', '.join(found.quasi) or 'none'}."),
                    Table(("check", "value", "threshold", "met"), judged.checks),
                    Table(("sensitive column", "l", "entropy l", "t", "ranked"), diversity),
                    Figure(plots.bars(labels, counts, xlabel="subjects"), "Subjects by the size of their class."),
                ],
            ),
            Section("What would reach the thresholds", advice or [Text("Nothing more is needed.")]),
        ],
        Verdict(
            judged.verdict, TONES[judged.verdict], f"{found.release} release, policy version {found.policy_version}"
        ),
    )


def nothing_page(dataset: str) -> Page:
    """The page before there is anything to judge."""
    return Page(
        "Residual risk", [], Verdict("insufficient", "plain", f"the data set {dataset} has no validated version yet")
    )
