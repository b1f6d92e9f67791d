"""Pages of the transfer: one run with its resumes and evidence, and the durations of all runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trialops.pages import Facts, Figure, Page, Section, Table, Text, Verdict, plots
from trialops.transfer.checkpoints import Checkpoint
from trialops.transfer.durations import Bottleneck, Judged
from trialops.transfer.graph import NODES, STEPS
from trialops.transfer.policy import Policy

SHOWN = (
    "records", "version", "of_run", "why", "score", "rows", "files", "quarantined", "withheld", "point_status",
    "encrypted", "rows_ingested", "rows_dropped", "files_transferred", "files_verified", "verify_status",
)  # fmt: skip
"""What of the evidence is shown: counts and states."""


def run_page(
    trial: str,
    run_id: str,
    state: str,
    checkpoints: Sequence[Checkpoint],
    judged: Sequence[Judged],
    found: Bottleneck | None,
    policy: Policy,
) -> Page:
    """One run: where it stands, what each job showed, who took it up again, and what held it up."""
    tones: Mapping[str, Any] = {"succeeded": "good", "degraded": "warn", "failed": "bad"}
    texts = {
        "succeeded": "Every job was started once and showed its evidence.",
        "degraded": "The run used the last validated version: what was delivered could not be trusted.",
        "failed": "The run ended before its last step.",
    }
    ordered = sorted(checkpoints, key=lambda c: (STEPS.index(c.step), c.part))
    resumes = sum(c.resumes for c in ordered)
    facts: dict[str, Any] = {
        "Jobs done": sum(c.done for c in ordered),
        "Jobs failed": sum(c.state == "failed" for c in ordered),
        "Taken up again": resumes,
        "Policy": f"version {policy.version}",
    }
    if found is not None:
        facts["Bottleneck"] = f"{found.label} ({found.why}, {found.share:.0%} of the time)"
    sections = [Section("At a glance", [Facts(facts)]), Section("Jobs", [_jobs(ordered, judged)])]
    timed = [one for one in judged if one.seconds > 0]
    if timed:
        figure = plots.bars([one.label for one in timed], [round(one.seconds, 1) for one in timed], xlabel="seconds")
        sections.append(Section("Durations", [Figure(figure, "Wall time from the claim of a job to its evidence.")]))
    if resumes:
        sections.append(Section("Resumes", [_events(ordered)]))
    failed = [c for c in ordered if c.failure]
    if failed:
        rows = [[c.label, c.failure.get(k, "")] for c in failed for k in ("what",)]
        sections.append(Section("Failures", [Table(["job", "what"], rows)]))
    verdict = Verdict(state, tones.get(state, "bad"), texts.get(state, ""))
    return Page(f"Transfer {run_id}", sections, verdict, f"Trial {trial}: {' → '.join(n.title for n in NODES)}.")


def _jobs(ordered: Sequence[Checkpoint], judged: Sequence[Judged]) -> Table:
    known = {one.label: one for one in judged}
    rows = []
    for c in ordered:
        one = known.get(c.label)
        rows.append(
            [
                c.label,
                c.state,
                c.native or "",
                c.attempt,
                c.resumes,
                ", ".join(f"{k} {c.evidence[k]}" for k in SHOWN if c.evidence.get(k) not in (None, "", [])),
                "" if c.seconds is None else round(c.seconds, 1),
                "" if one is None or one.usual is None else round(one.usual, 1),
                "" if one is None or one.z is None else one.z,
                c.alert,
            ]
        )
    columns = ["job", "state", "provider says", "attempt", "resumes", "evidence", "seconds", "usual", "z", "alert"]
    return Table(columns, rows, "z: robust z of the log duration against uninterrupted earlier runs of the same job.")


def _events(ordered: Sequence[Checkpoint]) -> Table:
    rows = [
        [c.label, event["at"][:19], event["event"], event["owner"].split("/")[1]]
        for c in ordered
        if c.resumes
        for event in c.events
    ]
    return Table(["job", "at (UTC)", "event", "process"], rows, "What happened to jobs that another process took up.")


def durations_page(known: Mapping[str, Sequence[Mapping[str, Any]]], judged: Sequence[Judged]) -> Page:
    """The history of every job, the newest run against the ones before."""
    series = []
    for step in STEPS:
        values = [float(one["seconds"]) for one in known.get(step, ())][-60:]
        if values:
            series.append((step, [float(i + 1) for i in range(len(values))], values))
    if not series:
        return Page("Durations of the transfer", [Section("Runs", [Text("No run has ended yet.")])])
    rows = [
        [one.label, one.seconds, one.runs, "" if one.usual is None else one.usual, "" if one.z is None else one.z]
        for one in judged
    ]
    return Page(
        "Durations of the transfer",
        [
            Section("Newest run", [Table(["job", "seconds", "earlier runs", "usual", "z"], rows)]),
            Section("History", [Figure(plots.lines(series, xlabel="run", ylabel="seconds", markers=True))]),
        ],
    )
