"""SDTM rows of a block of subjects, sorted by subject and --SEQ."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trialops.synthetic.dates import iso
from trialops.synthetic.laboratory import (
    Readings,
    collected_minutes,
    lab_rows,
    sequence_numbers,
    study_day,
    subject_columns,
    vital_rows,
)
from trialops.synthetic.population import COMPLETED, DEATH, LOST, RACES, REASONS, Population
from trialops.synthetic.protocol import (
    ARMS,
    BASELINE,
    COUNTRY,
    SCREEN_FAILURE,
    STUDY,
    TREATMENT,
    VISITS,
    WEEK_2,
    WEEK_24,
    Sites,
)
from trialops.synthetic.wordlists import REASON_TEXT

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import polars as pl

    Ints = npt.NDArray[np.int64]


def subject_ids(p: Population, sites: Sites) -> pl.Series:
    """USUBJID of each subject: "01-<site>-<subject>"."""
    import polars as pl

    return pl.select(
        pl.format("01-{}-{}", pl.Series(sites.ids).gather(p.site), pl.Series(p.subject_numbers))
    ).to_series()


def demographics(p: Population, sites: Sites, usubjid: pl.Series) -> pl.DataFrame:
    """DM, one row per screened subject."""
    import numpy as np
    import polars as pl

    treated, died = ~p.failed, p.reason == DEATH
    arms = [*ARMS, SCREEN_FAILURE]
    n = len(p.keys)
    code = pl.Series([a[0] for a in arms]).gather(np.where(p.failed, 3, p.arm))
    name = pl.Series([a[1] for a in arms]).gather(np.where(p.failed, 3, p.arm))
    return pl.DataFrame(
        {
            "STUDYID": pl.repeat(STUDY, n, eager=True),
            "DOMAIN": pl.repeat("DM", n, eager=True),
            "USUBJID": usubjid,
            "SUBJID": pl.Series(p.subject_numbers).cast(pl.String),
            "RFSTDTC": iso(p.start, treated),
            "RFENDTC": iso(p.end, treated),
            "RFXSTDTC": iso(p.start, treated),
            "RFXENDTC": iso(p.last_dose, treated),
            "RFICDTC": iso(p.consent),
            "RFPENDTC": iso(p.contact_end),
            "DTHDTC": iso(p.end, died),
            "DTHFL": pl.Series(np.where(died, "Y", "")),
            "SITEID": pl.Series(sites.ids).gather(p.site),
            "BRTHDTC": iso(p.birth),
            "AGE": p.age,
            "AGEU": pl.repeat("YEARS", n, eager=True),
            "SEX": pl.Series(np.where(p.female, "F", "M")),
            "RACE": pl.Series(RACES).gather(p.race),
            "ETHNIC": pl.Series(np.where(p.hispanic, "HISPANIC OR LATINO", "NOT HISPANIC OR LATINO")),
            "ARMCD": code,
            "ARM": name,
            "ACTARMCD": code,
            "ACTARM": name,
            "COUNTRY": pl.repeat(COUNTRY, n, eager=True),
            "DMDTC": iso(p.screening),
            "DMDY": study_day(p.screening, p.start, p.failed),
            "ARMNRS": pl.Series(np.where(treated, "", "SCREEN FAILURE")),
        }
    )


def populations(p: Population, usubjid: pl.Series) -> pl.DataFrame:
    """SUPPDM: analysis population flags."""
    import numpy as np
    import polars as pl

    flags = [
        ("COMPLT24", "Completers of Week 24 Population Flag"),
        ("ITT", "Intent to Treat Population Flag"),
        ("SAFETY", "Safety Population Flag"),
    ]
    holds = np.stack([~p.failed & (p.last_day >= VISITS[WEEK_24][2]), ~p.failed, ~p.failed], axis=1)
    subject, kind = np.nonzero(holds)
    n = len(subject)

    def same(text: str) -> pl.Series:
        return pl.repeat(text, n, eager=True)

    return pl.DataFrame(
        {
            "STUDYID": same(STUDY),
            "RDOMAIN": same("DM"),
            "USUBJID": usubjid.gather(subject),
            "IDVAR": same(""),
            "IDVARVAL": same(""),
            "QNAM": pl.Series([f[0] for f in flags]).gather(kind),
            "QLABEL": pl.Series([f[1] for f in flags]).gather(kind),
            "QVAL": same("Y"),
            "QORIG": same("DERIVED"),
            "QEVAL": same("CLINICAL STUDY SPONSOR"),
        }
    )


def disposition(p: Population, usubjid: pl.Series) -> pl.DataFrame:
    """DS: randomisation of those randomised, then how participation ended."""
    import numpy as np
    import polars as pl

    randomised = ~p.failed
    subject, kind = np.nonzero(np.stack([randomised, np.ones_like(randomised)], axis=1))
    last = kind == 1
    reason = p.reason[subject]
    texts = [REASON_TEXT.get(r, (r,)) for r in REASONS]
    offset = np.cumsum([0, *(len(t) for t in texts)])
    pick = np.floor(p.draws.uniform("reason/text") * np.array([len(t) for t in texts])[p.reason]).astype(np.int64)
    flat = [*(t for group in texts for t in group), "RANDOMIZED"]
    date = np.where(last, p.end[subject], p.start[subject])
    # The loss of contact is declared weeks after the last contact, other ends within the week.
    lag = np.where(p.reason == LOST, p.draws.integers("reason/lost", 14, 45), p.draws.integers("reason/lag", 0, 6))
    lag = np.where((p.reason == COMPLETED) | p.failed, 0, lag)
    seen = np.where(p.attended, np.arange(len(VISITS)), 0).max(axis=1)
    return pl.DataFrame(
        {
            **subject_columns(p, usubjid, "DS", subject, np.where(last, seen[subject], BASELINE)),
            "DSSEQ": sequence_numbers(subject),
            "DSTERM": pl.Series(flat).gather(np.where(last, (offset[p.reason] + pick)[subject], len(flat) - 1)),
            "DSDECOD": pl.Series([*REASONS, "RANDOMIZED"]).gather(np.where(last, reason, len(REASONS))),
            "DSCAT": pl.Series(np.where(last, "DISPOSITION EVENT", "PROTOCOL MILESTONE")),
            "DSDTC": iso(date + np.where(last, lag[subject], 0)),
            "DSSTDTC": iso(date),
            "DSSTDY": study_day(date, p.start[subject], p.failed[subject]),
        }
    )


def exposure(p: Population, usubjid: pl.Series) -> pl.DataFrame:
    """EX: one row per dosing interval begun (day 1, after week 2, after week 24)."""
    import numpy as np
    import polars as pl

    visits = np.array([BASELINE, WEEK_2, WEEK_24])
    begin = p.visit_date[:, visits] + np.array([0, 1, 1])
    begin[:, 0] = p.start
    finish = np.concatenate([begin[:, 1:] - 1, p.last_dose[:, None]], axis=1)
    finish = np.minimum(finish, p.last_dose[:, None])
    subject, k = np.nonzero((begin <= p.last_dose[:, None]) & ~p.failed[:, None])
    doses = np.array([a[2] for a in ARMS])
    begin, finish = begin[subject, k], finish[subject, k]
    n = len(subject)
    none = np.zeros(n, dtype=bool)

    def same(text: str) -> pl.Series:
        return pl.repeat(text, n, eager=True)

    return pl.DataFrame(
        {
            **subject_columns(p, usubjid, "EX", subject, visits[k]),
            "EXSEQ": k + 1,
            "EXTRT": pl.Series(np.where(p.arm[subject] > 0, TREATMENT, "PLACEBO")),
            "EXDOSE": doses[p.arm[subject], k],
            "EXDOSU": same("mg"),
            "EXDOSFRM": same("PATCH"),
            "EXDOSFRQ": same("QD"),
            "EXROUTE": same("TRANSDERMAL"),
            "EXSTDTC": iso(begin),
            "EXENDTC": iso(finish),
            "EXSTDY": study_day(begin, p.start[subject], none),
            "EXENDY": study_day(finish, p.start[subject], none),
        }
    )


def laboratory(p: Population, usubjid: pl.Series, readings: Readings, values: Ints) -> pl.DataFrame:
    """LB rows, with LOINC as an extra column that SDTM files leave out."""
    import polars as pl

    s, v = readings.subject, readings.visit
    date = p.visit_date[s, v]
    return pl.DataFrame(
        {
            **subject_columns(p, usubjid, "LB", s, v),
            "LBSEQ": readings.sequence,
            **lab_rows(p, readings, values).to_dict(),
            "LBDTC": iso(date, minutes=collected_minutes(p, readings)),
            "LBDY": study_day(date, p.start[s], p.failed[s]),
        }
    )


def vital_signs(p: Population, usubjid: pl.Series, readings: Readings) -> pl.DataFrame:
    """VS rows; the baseline flag marks the baseline visit (height: screening)."""
    import numpy as np
    import polars as pl

    s, v = readings.subject, readings.visit
    date = p.visit_date[s, v]
    frame = vital_rows(readings)
    height = (frame["VSTESTCD"] == "HEIGHT").to_numpy()
    baseline = ((v == BASELINE) | height) & ~p.failed[s]
    return pl.DataFrame(
        {
            **subject_columns(p, usubjid, "VS", s, v),
            "VSSEQ": readings.sequence,
            **frame.to_dict(),
            "VSBLFL": pl.Series(np.where(baseline, "Y", "")),
            "VSDTC": iso(date),
            "VSDY": study_day(date, p.start[s], p.failed[s]),
        }
    )


def visits(p: Population, usubjid: pl.Series) -> pl.DataFrame:
    """SV: the visits that took place."""
    import numpy as np
    import polars as pl

    s, v = np.nonzero(p.attended)
    date = iso(p.visit_date[s, v])
    return pl.DataFrame({**subject_columns(p, usubjid, "SV", s, v), "SVSTDTC": date, "SVENDTC": date})
