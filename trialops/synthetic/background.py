"""Medical history and concomitant medication rows of a block."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trialops.synthetic.adverse_events import NO_DATE, Observed
from trialops.synthetic.dates import iso
from trialops.synthetic.events import TERMS
from trialops.synthetic.laboratory import sequence_numbers, study_day, subject_columns
from trialops.synthetic.population import Population
from trialops.synthetic.protocol import VISITS
from trialops.synthetic.wordlists import CONDITIONS, DIAGNOSIS, MEDICATIONS, RESCUE

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import polars as pl

    Ints = npt.NDArray[np.int64]


def history(p: Population, usubjid: pl.Series) -> pl.DataFrame:
    """MH of treated subjects: the primary diagnosis and earlier conditions with partial dates."""
    import numpy as np
    import polars as pl

    chance = np.array([c[3] for c in CONDITIONS]) * np.exp(0.015 * (p.age[:, None] - 75))
    has = p.draws.uniform("mh", len(CONDITIONS)) < chance
    has[:, -1] &= p.female
    holds = np.concatenate([np.ones((len(p.keys), 1), dtype=bool), has], axis=1) & ~p.failed[:, None]
    s, k = np.nonzero(holds)
    n = len(s)
    names = [DIAGNOSIS[0], *(c[0] for c in CONDITIONS)]
    years = np.where(
        k == 0,
        0.5 + 4 * p.draws.uniform("mh/years", len(names))[s, k],
        1 + 24 * p.draws.uniform("mh/years", len(names))[s, k],
    )
    begun = p.screening[s] - np.floor(365.25 * years).astype(np.int64)
    digits = np.where(p.draws.uniform("mh/precision", len(names))[s, k] < 0.7, 4, 7)
    text = pl.select(pl.Series(iso(begun)).str.slice(0, pl.Series(digits))).to_series()
    active = k <= len(CONDITIONS) - 1
    return pl.DataFrame(
        {
            **subject_columns(p, usubjid, "MH", s, np.zeros(n, dtype=np.int64)),
            "MHSEQ": sequence_numbers(s),
            "MHTERM": pl.Series(names).gather(k),
            "MHDECOD": pl.Series(names).gather(k),
            "MHCAT": pl.Series(
                np.where(
                    k == 0,
                    "PRIMARY DIAGNOSIS",
                    np.where(active, "SIGNIFICANT PRE-EXISTING CONDITION", "HISTORICAL DIAGNOSIS"),
                )
            ),
            "MHBODSYS": pl.Series([DIAGNOSIS[1], *(c[1] for c in CONDITIONS)]).gather(k),
            "MHDTC": iso(p.screening[s]),
            "MHSTDTC": text,
            "MHDY": study_day(p.screening[s], p.start[s], p.failed[s]),
            "ICD10": pl.Series([DIAGNOSIS[2], *(c[2] for c in CONDITIONS)]).gather(k),
        }
    )


def medications(p: Population, usubjid: pl.Series, seen: Observed) -> pl.DataFrame:
    """CM: medicines taken at entry (start year only, ongoing), then medicines given for adverse events."""
    import numpy as np
    import polars as pl

    weights = np.array([m[8] for m in MEDICATIONS])
    has = (p.draws.uniform("cm", len(MEDICATIONS)) < weights / 22) & ~p.failed[:, None]
    s, k = np.nonzero(has)
    since = p.screening[s] - np.floor(365.25 * (1 + 9 * p.draws.uniform("cm/years", len(MEDICATIONS))[s, k]))
    nothing = np.full(len(s), NO_DATE)
    # Rescue medicines point past the end of MEDICATIONS.
    rescue = [t.treatment for t in TERMS]
    given = np.flatnonzero(np.array([bool(r) for r in rescue])[seen.term] & (seen.onset <= p.end[seen.subject]))
    rs, term, onset = seen.subject[given], seen.term[given], seen.onset[given]
    subject = np.concatenate([s, rs])
    start = np.concatenate([since.astype(np.int64), onset])
    stop = np.concatenate([nothing, seen.resolved[given]])
    kind = np.concatenate([k, len(MEDICATIONS) + term])
    order = np.lexsort((kind, start, subject))
    subject, start, stop, kind = subject[order], start[order], stop[order], kind[order]
    rescued = kind >= len(MEDICATIONS)
    visit = np.where(rescued, _last_attended(p, subject, start), 0)
    collected = np.where(rescued, start, p.screening[subject])
    table = [
        *MEDICATIONS,
        *(
            (r, r, *RESCUE[r][:3], "PRN", RESCUE[r][3], t.decod, 0.0) if r else ("",) * 9
            for t, r in zip(TERMS, rescue, strict=True)
        ),
    ]
    ended = stop != NO_DATE
    start_text = iso(start)
    start_text = pl.select(start_text.str.slice(0, pl.Series(np.where(rescued, 10, 4)))).to_series()
    names = ("CMTRT", "CMDECOD", "CMCLAS", "CMDOSE", "CMDOSU", "CMDOSFRQ", "CMROUTE", "CMINDC")
    fixed = {
        name: pl.Series([row[i] if row[0] else None for row in table]).gather(kind) for i, name in enumerate(names)
    }
    return pl.DataFrame(
        {
            **subject_columns(p, usubjid, "CM", subject, visit),
            "CMSEQ": sequence_numbers(subject),
            **fixed,
            "CMDTC": iso(collected),
            "CMSTDTC": start_text,
            "CMENDTC": iso(stop, ended),
            "CMSTDY": study_day(start, p.start[subject], ~rescued),
            "CMENDY": study_day(stop, p.start[subject], ~ended),
            "CMENRTPT": pl.Series(np.where(ended, "", "ONGOING")),
        }
    )


def _last_attended(p: Population, subject: Ints, date: Ints) -> Ints:
    """Index of the last visit attended on or before a date (screening when none)."""
    import numpy as np

    before = (p.visit_date[subject] <= date[:, None]) & p.attended[subject]
    return np.where(before, np.arange(len(VISITS)), 0).max(axis=1).astype(np.int64)
