"""Events that a protocol wants watched while the trial is blinded: how many there are, and where the boundary is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError
from trialops.pages import Facts, Figure, Page, Section, Table, Text, Verdict, plots, suppressed
from trialops.safety.boundary import Boundary, calibrated

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class Watched:
    """An event under watch, as the study file's ``safety.monitoring_boundaries`` states it.

    Attributes:
        name: What it is called.
        terms: Preferred terms, upper case; empty for every term.
        system: Body system, upper case; empty for every one.
        serious: Serious events alone (those to be confirmed count).
        fatal: Fatal events alone.
        accepted: Risk of a subject that is accepted.
        alpha: False-alarm probability over the whole trial.
    """

    name: str
    terms: frozenset[str]
    system: str
    serious: bool
    fatal: bool
    accepted: float
    alpha: float


@dataclass(frozen=True)
class Watch:
    """How one watched event stands: subjects treated, subjects with it, the boundary and what is behind it."""

    watched: Watched
    subjects: int
    events: int
    rule: Boundary
    limit: int
    excess: float
    planned: int
    alarm_at_double: float

    @property
    def reached(self) -> bool:
        """Whether the boundary is reached."""
        return self.rule.reached(self.events, self.subjects)


def watched_events(stated: Iterable[Mapping[str, Any]]) -> tuple[Watched, ...]:
    """Read what the study file states.

    Raises:
        TrialOpsError: Two have one name, or a risk is none.
    """
    found = tuple(
        Watched(
            str(item["name"]),
            frozenset(str(term).upper() for term in item.get("terms") or ()),
            str(item.get("system") or "").upper(),
            bool(item.get("serious", False)),
            bool(item.get("fatal", False)),
            float(item["accepted"]),
            float(item.get("alpha", 0.05)),
        )
        for item in stated
    )
    names = [item.name for item in found]
    bad = next((n for n in names if names.count(n) > 1), None) or next(
        (item.name for item in found if not (0 < item.accepted < 1 and 0 < item.alpha < 1)), None
    )
    if bad:
        raise TrialOpsError(
            f"The boundary {bad!r} is stated twice, or its risk or alpha is not between 0 and 1",
            where="study file, safety.monitoring_boundaries",
            fix="One entry per event; accepted and alpha as fractions.",
        )
    return found


def watch(
    events: pl.DataFrame, treated: pl.Series, stated: Sequence[Watched], *, planned: int, first: int = 10
) -> tuple[Watch, ...]:
    """Count watched events among treated subjects, arms together, and compare with their boundaries.

    Args:
        events: Treatment-emergent events: USUBJID, AEDECOD, AEBODSYS, SERIOUS ("serious", "to confirm", "not serious"),
            AEOUT, AESDTH.
        treated: USUBJID of the subjects treated so far.
        stated: What is watched.
        planned: Subjects the trial means to treat; the false-alarm probability holds up to there.
        first: Fewest subjects before a boundary speaks.
    """
    import polars as pl

    inside = events.filter(pl.col("USUBJID").is_in(treated.implode()))
    n, most = treated.n_unique(), max(planned, treated.n_unique())
    found = []
    for item in stated:
        x = inside.filter(_is(item, inside)).get_column("USUBJID").n_unique()
        rule = calibrated(item.accepted, most, alpha=item.alpha, first=first)
        double = min(2 * item.accepted, 0.999)
        found.append(
            Watch(
                item,
                n,
                x,
                rule,
                int(rule.limits(n)[-1]) if n else 0,
                float(rule.excess(x, n)),
                most,
                float(rule.reaching(double, most)[-1]),
            )
        )
    return tuple(found)


def _is(item: Watched, events: pl.DataFrame) -> pl.Expr:
    import polars as pl

    wanted = pl.lit(True)
    if item.terms:
        wanted &= pl.col("AEDECOD").str.to_uppercase().is_in(list(item.terms))
    if item.system:
        wanted &= pl.col("AEBODSYS").str.to_uppercase() == item.system
    if item.serious:
        wanted &= pl.col("SERIOUS") != "not serious"
    if item.fatal:
        said = [pl.col(c) == v for c, v in (("AESDTH", "Y"), ("AEOUT", "FATAL")) if c in events.columns]
        wanted &= pl.any_horizontal(said) if said else pl.lit(False)
    return wanted.fill_null(False)


def watch_page(watches: Sequence[Watch]) -> Page:
    """The boundaries and where the trial stands, arms together; counts below 11 as such."""
    reached = [one for one in watches if one.reached]
    rows = [
        (
            one.watched.name,
            one.watched.accepted,
            one.subjects,
            suppressed(one.events),
            one.limit if one.limit <= one.subjects else None,
            one.watched.alpha,
            one.alarm_at_double,
            "reached" if one.reached else "not reached",
        )
        for one in watches
    ]
    columns = (
        "event", "accepted risk", "treated", "with the event", "boundary now", "false alarm, whole trial",
        "alarm at twice the risk", "state",
    )  # fmt: skip
    figures = []
    for one in watches:
        sizes = list(range(one.rule.first, one.planned + 1))
        limits = one.rule.limits(one.planned)[one.rule.first - 1 :].tolist()
        svg = plots.lines(
            [(f"boundary: {one.watched.name}", [float(n) for n in sizes], [float(x) for x in limits])],
            xlabel="subjects treated",
            ylabel="subjects with the event",
        )
        figures.append(Figure(svg, f"{one.watched.name}: from this many on the boundary is reached."))
    if reached:
        names = ", ".join(one.watched.name for one in reached)
        verdict = Verdict(f"{len(reached)} of {len(watches)} boundaries reached", "bad", names)
    elif watches:
        verdict = Verdict("No boundary reached", "good", f"{len(watches)} watched")
    else:
        verdict = Verdict("Nothing is watched", "plain", "state monitoring_boundaries in the study file")
    how = Text(
        "Arms together: the blind is kept. A boundary is reached when the posterior probability of a risk above the "
        "accepted one is high enough; how high is set so that a trial at the accepted risk reaches it no more often "
        "than stated, looking after every subject.",
        quiet=True,
    )
    return Page(
        "Events under watch",
        [
            Section("Where they stand", [Facts({"watched": len(watches)}), Table(columns, rows), how]),
            Section("Boundaries", figures),
        ],
        verdict,
    )
