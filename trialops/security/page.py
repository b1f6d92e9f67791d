"""Pages of the security monitoring: counts alone; who a finding is about is shown by command, to those who may."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from trialops.pages import Facts, Figure, Page, Section, Table, Text, Verdict, plots

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from trialops.security.findings import Finding

SHOWN = 60


def collected_page(document: Mapping[str, Any]) -> Page:
    """What was read."""
    from trialops.pages.trial_plots import dated_lines

    chain, lines = document["chain"], document["lines"]
    items: list[Any] = [
        Facts(
            {
                **{f"events, {name}": count for name, count in document["events"].items()},
                "people": document["actors"]["persons"],
                "services": document["actors"]["services"],
            }
        )
    ]
    series = []
    for source in document["events"]:
        rows = [(dt.date.fromisoformat(day), float(n)) for day, name, n in document["days"] if name == source]
        if len(rows) > 1:
            series.append((source, [r[0] for r in rows], [r[1] for r in rows]))
    if series:
        items.append(Figure(dated_lines(series, ylabel="events a day"), "Events that are kept, by source."))
    if document["not_listed"]:
        items.append(Text(f"{document['not_listed']} actors are not on the list of accounts."))
    sections = [Section("Events", items)]
    if lines["read"]:
        rows = sorted(document["reasons"].items())
        sections.append(
            Section(
                "Lines of logs",
                [Facts({k: lines[k] for k in ("read", "ignored", "quarantined")}), Table(("reason", "lines"), rows)],
            )
        )
    label = "the audit trail holds" if chain["ok"] else f"the audit trail is broken at record {chain['bad']}"
    tone = "bad" if not chain["ok"] else "warn" if chain["warning"] or lines["quarantined"] else "good"
    words = chain["problem"] or chain["warning"] or f"{chain['records']:,} records, {chain['anchors']} anchors"
    return Page("Accesses read", sections, Verdict(label, tone, words))  # type: ignore[arg-type]


def screened_page(
    document: Mapping[str, Any],
    found: Sequence[Finding],
    tails: NDArray[np.float64],
    earlier: Sequence[Mapping[str, Any]],
) -> Page:
    """What was found."""
    rows = [
        (f.id, f.title, f.severity, f.day, f.count, f.tail, f.words, "alert" if f.told else "over the budget")
        for f in found[:SHOWN]
    ]
    sections = [
        Section(
            "Screened",
            [
                Facts(
                    {
                        "from": document["since"],
                        "to before": document["until"],
                        "actor-days judged": document["actor_days"],
                        "alerts": document["told"],
                        "over the budget": document["over_budget"],
                    }
                ),
                Table(
                    ("finding", "what", "severity", "day", "count", "tail probability", "figures", "told as"),
                    rows,
                    "Who each is about: trialops security findings, for roles that may.",
                ),
                *([Figure(_histogram(tails), "Calibrated tail probabilities of actor-days; quiet ones are level.")]),
            ],
        )
    ]
    if document["unchecked"]:
        lacking = sorted(document["unchecked"].items())
        sections.append(Section("Not checked", [Table(("rule", "why"), lacking)]))
    past = [(body["until"], body["told"]) for body in earlier[-30:]]
    if past:
        bars = plots.bars([day for day, _ in past], [float(n) for _, n in past], xlabel="alerts")
        sections.append(Section("Screenings before", [Figure(bars, "Alerts of the last screenings.")]))
    told = document["told"]
    tone = "bad" if document["severities"].get("critical") else "warn" if told else "good"
    unchecked = f"; {len(document['unchecked'])} rules could not be checked" if document["unchecked"] else ""
    label = f"{told} alert{'s' if told != 1 else ''}" if told else "nothing found"
    words = f"policy version {document['policy']['version']}, {document['policy']['digest'][:12]}{unchecked}"
    return Page("Security screening", sections, Verdict(label, tone, words))  # type: ignore[arg-type]


def _histogram(tails: NDArray[np.float64]) -> str:
    import numpy as np

    judged = tails[tails < 1.0]
    edges = np.linspace(0, 1, 11)
    counts = np.histogram(judged, edges)[0]
    labels = [f"{low:.1f} to {high:.1f}" for low, high in zip(edges[:-1], edges[1:], strict=True)]
    return plots.bars(labels, [float(n) for n in counts], xlabel="actor-days")
