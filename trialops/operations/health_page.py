"""Pages of the two health pipelines: what was found now, and how it went."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from trialops.operations.health import STATES, by_component, counts, table, verdict
from trialops.pages import Facts, Figure, Page, Section, Table, Text, plots

if TYPE_CHECKING:
    from trialops.operations.durations import DurationPolicy, Trend
    from trialops.operations.look import Infrastructure
    from trialops.operations.services import Survey
    from trialops.operations.states import Seen

LOOKS = 32
"""Looks on a plot."""


def over_time(past: Sequence[Seen]) -> Section:
    """States of components over the last looks."""
    times = sorted({one.at for one in past})[-LOOKS:]
    if len(times) < 2:
        return Section("Over time", [Text("This is the first look that was kept.", quiet=True)])
    names = sorted({one.component for one in past if one.at in times})
    state = {(one.component, one.at): float(STATES.index(one.state)) for one in past}
    step = max(1, len(times) // 8)
    labels = [at[5:16].replace("T", " ") if number % step == 0 else "" for number, at in enumerate(times)]
    rows = [[state.get((name, at)) for at in times] for name in names]
    drawn = plots.heat_map(names, labels, rows, top=float(len(STATES) - 1))
    words = ", ".join(f"{number} {name}" for number, name in enumerate(STATES))
    return Section("Over time", [Figure(drawn, f"State of each component at the last {len(times)} looks: {words}.")])


def services_page(survey: Survey, past: Sequence[Seen]) -> Page:
    """What was asked of each service, what came back, what to do, and the states over time."""
    found = survey.findings
    states = by_component(found)
    sections = [
        Section(
            "Services",
            [
                Facts({state: sum(1 for one in states.values() if one == state) for state in reversed(STATES)}),
                table(found, "Everything that was asked; the worst first."),
            ],
        ),
        over_time(past),
    ]
    if survey.unused:
        rows = sorted(survey.unused.items())
        sections.append(Section("Not used", [Table(("Service", "Why"), rows, "TRIALOPS_SERVICES makes one expected.")]))
    numbers = f"services.yaml version {survey.policy.version}, {survey.policy.digest[:12]}"
    return Page("Service health", sections, verdict(found), intro=f"What could not be reached is unknown. {numbers}.")


def infrastructure_page(found: Infrastructure) -> Page:
    """Availability, resources, durations against their history, failure rates."""
    uses, findings = found.uses, found.findings
    drawn = plots.limits(
        [use.resource for use in uses],
        [use.share for use in uses],
        limit=max(found.limits.values()),
        xlabel="share in use",
    )
    resources: list[Facts | Figure] = [
        Facts({f"{use.resource} in use": f"{use.share:.0%}" for use in uses}),
        Figure(drawn, "Use of this machine's resources, and the threshold."),
    ]
    if (trend := _use_over_time(found.past)) is not None:
        resources.append(trend)
    return Page(
        "Infrastructure health",
        [
            Section("Found", [Facts(counts(findings)), table(findings)]),
            Section("Resources", resources),
            _durations(found.trends, found.durations),
            over_time(found.past),
        ],
        verdict(findings),
        intro="Availability of services, resources of this machine and the cluster, and how long steps take.",
    )


def _use_over_time(past: Sequence[Seen]) -> Figure | None:
    from trialops.operations.machine import COMPONENT

    own = [one for one in past if one.component == COMPONENT][-LOOKS:]
    if len(own) < 2:
        return None
    places = list(range(1 - len(own), 1))
    series = [(name, places, [one.values.get(name, float("nan")) for one in own]) for name in ("cpu", "memory", "disk")]
    return Figure(plots.lines(series, xlabel="looks ago", ylabel="share in use"), "Use over the last looks.")


def _durations(trends: Sequence[Trend], policy: DurationPolicy) -> Section:
    from trialops.operations.durations import bottlenecks

    if not trends:
        return Section("Durations", [Text("No run has ended yet whose steps could be timed.", quiet=True)])
    judged = [trend for trend in trends if trend.ratio is not None]
    rows = [
        (t.pipeline, t.step, t.runs, t.before, t.recent, t.ratio, t.z, "slow" if t.slow else "" if t.z is not None else
         "too few runs", t.queue, t.cpu_recent, t.peak_mb) for t in trends
    ]  # fmt: skip
    columns = ("Pipeline", "Step", "Runs", "Before, s", "Now, s", "Ratio", "z", "", "Waits, s", "CPU per s", "Peak, MB")
    items: list[Text | Table | Figure] = [
        Text(
            f"Now is the median of the newest {policy.recent} runs, before that of the earlier ones of "
            f"{policy.window_days} days. A step is slow from z {policy.z:g}, {policy.ratio:g} times and "
            f"{policy.seconds:g} s more (durations.yaml version {policy.version}, {policy.digest[:12]})."
        )
    ]
    if judged:
        worst = sorted(judged, key=lambda t: -(t.ratio or 0.0))[:12]
        bars = plots.limits(
            [f"{t.pipeline} {t.step}" for t in worst], [t.ratio or 0.0 for t in worst], limit=policy.ratio,
            xlabel="times as long as before",
        )  # fmt: skip
        items.append(Figure(bars, "Newest runs over earlier ones."))
        shown = [t for t in worst if len(t.series) > 1][:4]
        lines = plots.lines(
            [(f"{t.pipeline} {t.step}", list(range(1 - len(t.series), 1)), t.series) for t in shown],
            xlabel="runs ago", ylabel="seconds", markers=True,
        )  # fmt: skip
        items.append(Figure(lines, "Durations of the steps that changed most."))
    most = [(name, t.step, t.share, t.recent) for name, t in bottlenecks(trends).items()]
    items.append(
        Table(("Pipeline", "Step", "Share of a run", "Now, s"), most, "The step that takes most of each pipeline.")
    )
    return Section("Durations", [*items, Table(columns, rows, "All steps.")])
