"""Laboratory results and vital signs: values of a block, and their LB and VS rows."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from trialops.synthetic.analytes import ANALYTES, VITALS, Analyte
from trialops.synthetic.population import Population
from trialops.synthetic.protocol import BASELINE, SCREENING, STUDY, VISITS

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import polars as pl

    Ints = npt.NDArray[np.int64]
    Floats = npt.NDArray[np.float64]

CORRECTED_SHARE = 0.005
INDEX = {a.code: i for i, a in enumerate(ANALYTES)}
#: Standard deviation of a vital sign between and within persons, in the unit it is reported in.
VITAL_SPREAD = {"DIABP": 8.7, "HEIGHT": 0.0, "PULSE": 9.4, "SYSBP": 16.0, "TEMP": 0.55, "WEIGHT": 35.0}


def number_text(value: float) -> str:
    """A number as laboratories print it: no trailing zero decimals, at most 6 significant digits."""
    return f"{value:.6g}"


@dataclass(frozen=True)
class Readings:
    """Measurements of a block in long form, sorted by subject, visit and test; shape (rows,).

    Attributes:
        subject: Row of the subject in the block.
        visit: Index into VISITS.
        test: Index into ANALYTES or VITALS.
        reported: Value first reported, in units of the last reported decimal (an integer).
        settled: Value after correction; equals `reported` in all but a few rows.
        sequence: --SEQ, 1-based within the subject.
    """

    subject: Ints
    visit: Ints
    test: Ints
    reported: Ints
    settled: Ints
    sequence: Ints

    @property
    def corrected(self) -> Ints:
        """Row numbers whose value was corrected later."""
        import numpy as np

        return np.flatnonzero(self.reported != self.settled)

    def take(self, rows: Ints) -> Readings:
        """A subset of the rows; --SEQ stays."""
        return Readings(*(getattr(self, f.name)[rows] for f in fields(self)))


def sequence_numbers(subject: Ints) -> Ints:
    """Number the rows of each subject from 1; `subject` is sorted."""
    import numpy as np

    position = np.arange(len(subject))
    first = np.r_[True, subject[1:] != subject[:-1]] if len(subject) else np.zeros(0, dtype=bool)
    return position - np.maximum.accumulate(np.where(first, position, 0)) + 1


def lab_readings(p: Population) -> Readings:
    """Laboratory values at screening and at every attended visit from week 2."""
    import numpy as np

    n, tests, visits = len(p.keys), len(ANALYTES), len(VISITS)
    column = {
        name: np.array([getattr(a, name) for a in ANALYTES])
        for name in ("centre", "between", "within", "men", "decade", "decimals")
    }
    between = p.draws.normal("lab/between", tests)
    within = p.draws.normal("lab/within", visits, tests)
    # Transaminases move together, so do creatinine and urea, within a person and between persons.
    for follower, leader, r in (("AST", "ALT", 0.75), ("GGT", "ALT", 0.45), ("BUN", "CREAT", 0.55)):
        f, l_ = INDEX[follower], INDEX[leader]
        between[:, f] = r * between[:, l_] + np.sqrt(1 - r * r) * between[:, f]
        within[:, :, f] = r * within[:, :, l_] + np.sqrt(1 - r * r) * within[:, :, f]
    level = np.log(column["centre"]) + between * column["between"]
    level = level + np.where(p.female[:, None], 0.0, np.log(column["men"]))
    level = level + (p.age[:, None] - 75) / 10 * np.log(column["decade"])
    for code, column_index in INDEX.items() if p.planted.drift else ():
        spread = np.hypot(column["between"][column_index], column["within"][column_index])
        level[:, column_index] += p.planted.shift(code, p.later) * spread
    # The drug effect builds up over four weeks.
    day = np.array([v[2] for v in VISITS])
    ramp = np.clip((day - 1) / 27, 0, 1)
    shift = np.array([a.drug for a in ANALYTES])[:, np.maximum(p.arm, 0)].T.copy()
    shift[:, INDEX["ALT"]] = p.alt_change
    shift[:, INDEX["AST"]] = 0.7 * p.alt_change
    shift[:, INDEX["GGT"]] = 0.4 * p.alt_change
    shift[:, INDEX["BILI"]] = np.where(p.alt_change > 1.6, 0.5 * p.alt_change, 0.0)
    value = np.exp(level[:, None, :] + shift[:, None, :] * ramp[None, :, None] + within * column["within"])
    settled = np.maximum(np.rint(value * 10.0 ** column["decimals"]), 1).astype(np.int64)
    slip = p.draws.uniform("lab/slip", visits, tests)
    size = 0.15 + 0.35 * p.draws.uniform("lab/slip size", visits, tests)
    wrong = np.where(slip < CORRECTED_SHARE / 2, value * (1 + size), value * (1 - size))
    wrong = np.maximum(np.rint(wrong * 10.0 ** column["decimals"]), 1).astype(np.int64)
    reported = np.where(slip < CORRECTED_SHARE, wrong, settled)

    there = p.attended.copy()
    there[:, BASELINE] = False
    mask = np.broadcast_to(there[:, :, None], (n, visits, tests))
    subject, visit, test = np.nonzero(mask)
    return Readings(subject, visit, test, reported[mask], settled[mask], sequence_numbers(subject))


def vital_readings(p: Population) -> Readings:
    """Vital signs at every attended visit; height at screening only."""
    import numpy as np

    n, visits = len(p.keys), len(VISITS)
    person = p.draws.normal("vital/person", 3)
    noise = p.draws.normal("vital/noise", visits, 5)
    ramp = np.clip((np.array([v[2] for v in VISITS]) - 1) / 27, 0, 1)
    drug = np.maximum(p.arm, 0)[:, None] * ramp
    systolic = 136 + 0.35 * (p.age[:, None] - 75) + 13 * person[:, :1] + 9 * noise[:, :, 0]
    diastolic = 76 + 0.42 * (systolic - 136) * 0.6 + 6 * person[:, 1:2] + 5 * noise[:, :, 1]
    pulse = 70 + 8 * person[:, 2:3] + 5 * noise[:, :, 2] - 1.2 * drug
    temperature = 97.7 + 0.55 * noise[:, :, 3]
    loss = -0.004 * drug * np.array([v[2] for v in VISITS]) / 28
    pounds = p.weight[:, None] * np.exp(loss + 0.008 * noise[:, :, 4]) / 0.45359237
    inches = np.broadcast_to(p.height[:, None] / 2.54, (n, visits))
    value = np.stack([diastolic, inches, pulse, systolic, temperature, pounds], axis=2)
    for k, vital in enumerate(VITALS) if p.planted.drift else ():
        value[:, :, k] += (p.planted.shift(vital.code, p.later) * VITAL_SPREAD[vital.code])[:, None]
    value = np.clip(value, [38, 50, 40, 80, 94, 70], [125, 82, 140, 220, 103, 400])
    scaled = np.rint(value * 10.0 ** np.array([v.decimals for v in VITALS])).astype(np.int64)
    mask = np.repeat(p.attended[:, :, None], len(VITALS), axis=2)
    mask[:, SCREENING + 1 :, 1] = False
    subject, visit, test = np.nonzero(mask)
    return Readings(subject, visit, test, scaled[mask], scaled[mask], sequence_numbers(subject))


def _lab_facts(analyte: Analyte, female: bool, scaled: int) -> tuple[str, str, float, str]:
    """Printed result, printed standard result, standard number, range indicator."""
    value = scaled / 10**analyte.decimals
    low, high = analyte.limits(female)
    standard = float(number_text(value * analyte.factor))
    indicator = "LOW" if value < low else "HIGH" if value > high else "NORMAL"
    return f"{value:.{analyte.decimals}f}", number_text(standard), standard, indicator


def _gather(columns: dict[str, list[object]], index: Ints) -> dict[str, pl.Series]:
    """Look every column up at `index`."""
    import polars as pl

    return {name: pl.Series(name, values).gather(index) for name, values in columns.items()}


def lab_rows(p: Population, readings: Readings, values: Ints) -> pl.DataFrame:
    """LB rows without subject and visit columns.

    The text of a row depends only on (analyte, sex, value), so it is made once per distinct triple.

    Args:
        p: The block.
        readings: Its laboratory readings.
        values: `readings.reported` or `readings.settled`.
    """
    import numpy as np
    import polars as pl

    span = int(values.max()) + 1 if len(values) else 1
    code = (readings.test * 2 + p.female[readings.subject]) * span + values
    distinct, index = np.unique(code, return_inverse=True)
    facts = [_lab_facts(ANALYTES[int(c) // span // 2], bool(int(c) // span % 2), int(c) % span) for c in distinct]
    kinds = [(a, female) for a in ANALYTES for female in (False, True)]
    limits = [a.limits(f) for a, f in kinds]
    names = ("LBORRES", "LBSTRESC", "LBSTRESN", "LBNRIND")
    result = _gather({n: [f[i] for f in facts] for i, n in enumerate(names)}, index)
    fixed = _gather(
        {
            "LBTESTCD": [a.code for a, _ in kinds],
            "LBTEST": [a.name for a, _ in kinds],
            "LBCAT": [a.category for a, _ in kinds],
            "LBORRESU": [a.unit for a, _ in kinds],
            "LBORNRLO": [number_text(low) for low, _ in limits],
            "LBORNRHI": [number_text(high) for _, high in limits],
            "LBSTRESU": [a.si_unit for a, _ in kinds],
            "LOINC": [a.loinc for a, _ in kinds],
            "LBSTNRLO": [float(number_text(low * a.factor)) for (a, _), (low, _) in zip(kinds, limits, strict=True)],
            "LBSTNRHI": [float(number_text(high * a.factor)) for (a, _), (_, high) in zip(kinds, limits, strict=True)],
        },
        readings.test * 2 + p.female[readings.subject],
    )
    baseline = pl.Series("LBBLFL", np.where((readings.visit == SCREENING) & ~p.failed[readings.subject], "Y", ""))
    return pl.DataFrame([*fixed.values(), *result.values(), baseline])


def vital_rows(readings: Readings) -> pl.DataFrame:
    """VS rows without subject and visit columns."""
    import numpy as np
    import polars as pl

    values = readings.reported
    span = int(values.max()) + 1 if len(values) else 1
    distinct, index = np.unique(readings.test * span + values, return_inverse=True)
    facts = []
    for code in distinct:
        vital, scaled = VITALS[int(code) // span], int(code) % span
        value = scaled / 10**vital.decimals
        standard = vital.standard(value)
        facts.append((f"{value:.{vital.decimals}f}", number_text(standard), standard))
    result = _gather({n: [f[i] for f in facts] for i, n in enumerate(("VSORRES", "VSSTRESC", "VSSTRESN"))}, index)
    fixed = _gather(
        {
            "VSTESTCD": [v.code for v in VITALS],
            "VSTEST": [v.name for v in VITALS],
            "VSORRESU": [v.unit for v in VITALS],
            "VSSTRESU": [v.si_unit for v in VITALS],
            "VSPOS": [v.position for v in VITALS],
            "VSLOC": [v.location for v in VITALS],
            "LOINC": [v.loinc for v in VITALS],
        },
        readings.test,
    )
    return pl.DataFrame([*fixed.values(), *result.values()])


def collected_minutes(p: Population, readings: Readings) -> Ints:
    """Minute of the day of each blood sample: 08:00 to 14:55 in steps of five minutes, one per visit."""
    minutes = 480 + 5 * p.draws.integers("lab/minute", 0, 83, len(VISITS))
    return minutes[readings.subject, readings.visit]


def study_day(date: Ints, start: Ints, failed: npt.NDArray[np.bool_]) -> pl.Series:
    """SDTM study day: no day 0; null without a first dose."""
    import numpy as np
    import polars as pl

    day = date - start + (date >= start)
    return pl.Series(np.where(failed, 0, day)).set(pl.Series(failed), None)


def subject_columns(p: Population, usubjid: pl.Series, domain: str, subject: Ints, visit: Ints) -> dict[str, pl.Series]:
    """STUDYID, DOMAIN, USUBJID and the visit columns of the given rows."""
    import polars as pl

    rows = len(subject)
    return {
        "STUDYID": pl.repeat(STUDY, rows, eager=True),
        "DOMAIN": pl.repeat(domain, rows, eager=True),
        "USUBJID": usubjid.gather(subject),
        "VISITNUM": pl.Series([v[0] for v in VISITS]).gather(visit),
        "VISIT": pl.Series([v[1] for v in VISITS]).gather(visit),
        "VISITDY": pl.Series([float(v[2]) for v in VISITS]).gather(visit),
    }
