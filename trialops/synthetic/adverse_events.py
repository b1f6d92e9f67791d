"""AE rows of a block: what was seen before and shortly after withdrawal, and the event that caused it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from trialops.synthetic.events import FATAL, GRAVE, IRRITATION, SEVERITY, TERMS
from trialops.synthetic.laboratory import sequence_numbers, study_day
from trialops.synthetic.population import ADVERSE_EVENT, DEATH, Population
from trialops.synthetic.protocol import RECEIPT_DELAY, STUDY, Sites

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import polars as pl

    Ints = npt.NDArray[np.int64]
    Flags = npt.NDArray[np.bool_]

UPGRADED_SHARE = 0.02
NO_DATE = -(10**6)


@dataclass(frozen=True)
class Observed:
    """Adverse events as recorded, long form sorted by subject and onset; arrays of shape (rows,).

    Attributes:
        subject: Row of the subject in the block.
        term: Index into TERMS.
        onset, resolved, collected: Dates in days since 1970; NO_DATE when unresolved.
        severity: First reported severity, 0 to 2.
        settled: Severity after correction.
        related: 0 none, 1 remote, 2 possible, 3 probable.
        fatal, hospital, threat, withdrawn: Flags; `withdrawn` marks the event that ended treatment.
        sequence: AESEQ.
    """

    subject: Ints
    term: Ints
    onset: Ints
    resolved: Ints
    collected: Ints
    severity: Ints
    settled: Ints
    related: Ints
    fatal: Flags
    hospital: Flags
    threat: Flags
    withdrawn: Flags
    sequence: Ints

    @property
    def corrected(self) -> Ints:
        """Row numbers whose severity was raised later."""
        import numpy as np

        return np.flatnonzero(self.severity != self.settled)


def observe(p: Population, sites: Sites) -> Observed:
    """Cut the latent events at withdrawal, add the causing event where none fits, and date the reports."""
    import numpy as np

    ev, d = p.events, p.draws
    n, slots = ev.term.shape
    # One more slot: the death, or the event that ended treatment when no earlier one can be blamed.
    wide = slots + 1
    onset_date = p.start[:, None] + ev.onset - (ev.onset > 0)
    onset_date = np.maximum(onset_date, p.screening[:, None])
    kept = ev.there & (onset_date <= p.end[:, None])
    kept |= (
        ev.there
        & (onset_date > p.end[:, None])
        & (onset_date <= p.contact_end[:, None])
        & (d.uniform("ae/after", slots) < 0.35)
    )
    blame = kept & (ev.onset > 0) & (onset_date <= p.end[:, None]) & (onset_date > p.end[:, None] - 70)
    score = np.where(blame, ev.severity * 2 + np.asarray(IRRITATION)[ev.term], -1)
    by_event = p.reason == ADVERSE_EVENT
    dies = p.reason == DEATH
    extra = dies | (by_event & ~blame.any(axis=1))
    cause = np.where(by_event & ~extra, score.argmax(axis=1), slots)

    def widen(values: Ints, last: Ints) -> Ints:
        return np.concatenate([values, last[:, None]], axis=1)

    there = widen(kept.astype(np.int64), extra.astype(np.int64)).astype(bool)
    killer = np.asarray(FATAL)[d.integers("ae/fatal", 0, len(FATAL) - 1)]
    irritating = np.flatnonzero(IRRITATION)[d.integers("ae/cause", 0, sum(IRRITATION) - 1)]
    term = widen(ev.term, np.where(dies, killer, irritating))
    onset = widen(onset_date, np.maximum(p.end - d.integers("ae/before end", 0, 4), p.start))
    severity = widen(ev.severity, np.where(dies, 2, 1 + (d.uniform("ae/cause severity") < 0.3)))
    duration = widen(ev.duration, d.integers("ae/cause duration", 5, 40))
    is_cause = there & (np.arange(wide) == cause[:, None]) & (by_event | dies)[:, None]
    fatal = is_cause & dies[:, None]

    order = np.lexsort((np.arange(n * wide), onset.ravel(), np.repeat(np.arange(n), wide)))
    order = order[there.ravel()[order]]
    subject = order // wide

    def take(values: Ints) -> Ints:
        return values.ravel()[order]

    def noise(name: str) -> npt.NDArray[np.float64]:
        return d.uniform(name, wide).ravel()[order]

    term, onset, severity, deadly = take(term), take(onset), take(severity), fatal.ravel()[order]
    ended = onset + take(duration)
    resolved = np.where((ended <= p.contact_end[subject]) & ~deadly, ended, NO_DATE)
    # Most reports are entered within days; sites differ, and one report in eight is weeks late.
    lag = noise("ae/lag") * 6 * sites.reporting[p.site[subject]]
    lag = lag + np.where(noise("ae/late report") < 0.125, 35 * noise("ae/late by"), 0)
    collected = np.maximum(onset, np.minimum(onset + np.floor(lag).astype(np.int64), p.contact_end[subject]))
    u = noise("ae/related")
    drug_like = np.where(np.asarray(IRRITATION)[term], 0.35, 0.0) + 0.08 * (p.arm[subject] > 0)
    related = (u < 0.60 + drug_like).astype(np.int64) + (u < 0.40 + drug_like) + (u < 0.08 + drug_like)
    upgraded = (noise("ae/upgrade") < UPGRADED_SHARE) & (severity > 0) & ~deadly
    # A correction knows no date after its receipt.
    upgraded &= resolved <= collected + RECEIPT_DELAY
    chance = np.where(np.asarray(GRAVE)[term], 0.75, np.array([0.001, 0.012, 0.20])[severity])
    hospital = noise("ae/hospital") < chance
    return Observed(
        subject=subject,
        term=term,
        onset=onset,
        resolved=resolved,
        collected=collected,
        severity=np.where(upgraded, severity - 1, severity),
        settled=severity,
        related=related,
        fatal=deadly,
        hospital=hospital & ~deadly,
        threat=(noise("ae/threat") < 0.06) & (severity == 2) & ~deadly,
        withdrawn=is_cause.ravel()[order],
        sequence=sequence_numbers(subject),
    )


def event_rows(p: Population, usubjid: pl.Series, seen: Observed, severity: Ints) -> pl.DataFrame:
    """AE rows.

    Args:
        p: The block.
        usubjid: Identifier of each subject of the block.
        seen: Recorded events.
        severity: `seen.severity` or `seen.settled`.
    """
    import numpy as np
    import polars as pl

    from trialops.synthetic.dates import iso

    s, term = seen.subject, seen.term
    failed = np.zeros(len(s), dtype=bool)
    unresolved = seen.resolved == NO_DATE
    serious = seen.fatal | seen.hospital | seen.threat
    start = p.start[s]

    def pick(values: list[str], index: Ints) -> pl.Series:
        return pl.Series(values, dtype=pl.String).gather(index)

    def flag(values: Flags) -> pl.Series:
        return pick(["N", "Y"], values.astype(np.int64))

    verbatim = p.draws.uniform("ae/verbatim", len(TERMS))[s, term] < 0.5
    body = pick([t.bodsys for t in TERMS], term)
    action = np.where(seen.withdrawn, 1, np.where(seen.onset > p.end[s], 2, 0))
    return pl.DataFrame(
        {
            "STUDYID": pl.repeat(STUDY, len(s), eager=True),
            "DOMAIN": pl.repeat("AE", len(s), eager=True),
            "USUBJID": usubjid.gather(s),
            "AESEQ": seen.sequence,
            "AESPID": pick([f"E{i:02d}" for i in range(40)], seen.sequence),
            "AETERM": pick(
                [t.decod for t in TERMS] + [t.verbatim or t.decod for t in TERMS],
                np.where(verbatim, term + len(TERMS), term),
            ),
            "AEDECOD": pick([t.decod for t in TERMS], term),
            "AEBODSYS": body,
            "AESOC": body,
            "AESEV": pick(list(SEVERITY), severity),
            "AESER": flag(serious),
            "AEACN": pick(["DOSE NOT CHANGED", "DRUG WITHDRAWN", "NOT APPLICABLE"], action),
            "AEREL": pick(["NONE", "REMOTE", "POSSIBLE", "PROBABLE"], seen.related),
            "AEOUT": pick(
                ["NOT RECOVERED/NOT RESOLVED", "RECOVERED/RESOLVED", "FATAL"],
                np.where(seen.fatal, 2, (~unresolved).astype(np.int64)),
            ),
            "AESCAN": flag(failed),
            "AESCONG": flag(failed),
            "AESDISAB": flag(failed),
            "AESDTH": flag(seen.fatal),
            "AESHOSP": flag(seen.hospital),
            "AESLIFE": flag(seen.threat),
            "AEDTC": iso(seen.collected),
            "AESTDTC": iso(seen.onset),
            "AEENDTC": iso(seen.resolved, ~unresolved),
            "AESTDY": study_day(seen.onset, start, failed),
            "AEENDY": study_day(seen.resolved, start, unresolved),
        }
    )
