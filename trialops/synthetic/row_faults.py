"""Further faults in rows: what sites, laboratories and data entry really get wrong, one function each.

A fault chooses rows of its own, away from those of other faults, so that all can be injected at once; a fault that
needs a subject from start to end takes one of the longest in the trial. Rows of the subjects so taken are left alone
by the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars as pl

    from trialops.synthetic.defects import Defects

Change = Callable[["Defects", str, "pl.DataFrame"], "pl.DataFrame"]

FEW = 5
WHOLE = (
    "copied_subject",
    "copied_source",
    "copied_values",
    "dose_after_death",
    "lab_after_death",
    "late_consent",
    "wrong_first_dose",
    "two_baselines",
    "swapped_sex",
    "swapped_sex 2",
    "swapped_sex 3",
)
"""Faults that take a subject each, in the order in which they choose."""
SPARED = "01-700-100000"


def _subject(d: Defects, name: str) -> str:
    """The subject a fault takes: the n-th longest in the trial, by name of the fault."""
    import polars as pl

    if name not in d.chosen:
        assert d.people is not None
        days = [pl.col(c).str.to_date("%Y-%m-%d", strict=False) for c in ("RFXSTDTC", "RFPENDTC")]
        lasted = d.people.with_columns(lasted=(days[1] - days[0]).dt.total_days()).drop_nulls("lasted")
        longest = lasted.sort("lasted", "USUBJID", descending=[True, False])["USUBJID"].to_list()
        d.chosen |= dict(zip(WHOLE, longest, strict=False))
    return d.chosen.get(name, "")


def _rows(d: Defects, frame: pl.DataFrame, wanted: pl.Expr, count: int = FEW) -> list[int]:
    """Indices of a few rows that meet a condition, spread over the table, none of a subject taken whole."""
    import polars as pl

    _subject(d, WHOLE[0])
    free = ~pl.col("USUBJID").is_in([*d.chosen.values(), SPARED])
    spot = pl.int_range(pl.len())
    there = frame.select(pl.when(wanted & free & (spot > 60)).then(spot)).to_series().drop_nulls().to_list()
    step = max(1, len(there) // count)
    return [int(i) for i in there[step // 2 :: step][:count]]


def _of(frame: pl.DataFrame, subject: str) -> list[int]:
    return [int(i) for i in (frame["USUBJID"] == subject).arg_true()]


def _moved(text: str, days: int) -> str:
    """An ISO 8601 date moved; the time of day stays."""
    return (date.fromisoformat(text[:10]) + timedelta(days=days)).isoformat() + text[10:]


# -- demographics, dosing, disposition ---------------------------------------------------------------------------------


def _swapped_sex(d: Defects, domain: str, frame: pl.DataFrame) -> pl.DataFrame:
    for name in ("swapped_sex", "swapped_sex 2", "swapped_sex 3"):
        for i in _of(frame, _subject(d, name))[:1]:
            frame = d.change("swapped_sex", domain, frame, i, {"SEX": {"F": "M", "M": "F"}[frame["SEX"][i]]})
    return frame


def _late_consent(d: Defects, domain: str, frame: pl.DataFrame) -> pl.DataFrame:
    """Consent dated a week after the first dose."""
    for i in _of(frame, _subject(d, "late_consent"))[:1]:
        frame = d.change("late_consent", domain, frame, i, {"RFICDTC": _moved(frame["RFXSTDTC"][i], 7)})
    return frame


def _wrong_first_dose(d: Defects, domain: str, frame: pl.DataFrame) -> pl.DataFrame:
    """First dose in DM four days after that in EX."""
    for i in _of(frame, _subject(d, "wrong_first_dose"))[:1]:
        frame = d.change("wrong_first_dose", domain, frame, i, {"RFXSTDTC": _moved(frame["RFXSTDTC"][i], 4)})
    return frame


def _dose_after_death(d: Defects, domain: str, frame: pl.DataFrame) -> pl.DataFrame:
    """A death dated twelve days before the last dose."""
    for i in _of(frame, _subject(d, "dose_after_death"))[:1]:
        died = _moved(frame["RFXENDTC"][i], -12)
        frame = d.change("dose_after_death", domain, frame, i, {"DTHFL": "Y", "DTHDTC": died})
    return frame


def _lab_after_death(d: Defects, domain: str, frame: pl.DataFrame) -> pl.DataFrame:
    """A death on the last day in the trial, and one sample dated three days later."""
    mine = _of(frame, _subject(d, "lab_after_death"))
    if domain == "DM":
        for i in mine[:1]:
            d.chosen["day of death"] = frame["RFPENDTC"][i]
            values = {"DTHFL": "Y", "DTHDTC": frame["RFPENDTC"][i]}
            frame = d.change("lab_after_death", domain, frame, i, values)
        return frame
    for i in mine[-1:]:
        after = _moved(d.chosen["day of death"], 3)
        frame = d.change("lab_after_death", domain, frame, i, {"LBDTC": after + frame["LBDTC"][i][10:]})
    return frame


def _overlapping_doses(d: Defects, domain: str, frame: pl.DataFrame) -> pl.DataFrame:
    """A dosing interval that ends ten days into the next one."""
    import polars as pl

    follows = (pl.col("USUBJID").shift(-1) == pl.col("USUBJID")).fill_null(False)
    rows = _rows(d, frame, follows & (pl.col("EXSEQ") == 1))
    ends = [_moved(frame["EXENDTC"][i], 10) for i in rows]
    return d.change_rows("overlapping_doses", domain, frame, rows, {"EXENDTC": ends})


def _visit_out_of_window(d: Defects, domain: str, frame: pl.DataFrame) -> pl.DataFrame:
    """A visit forty days early or late in the calendar of the subject."""
    import polars as pl

    rows = _rows(d, frame, (pl.col("VISITDY") > 40) & (pl.col("VISITDY") < 150))
    moved = [_moved(frame["SVSTDTC"][i], 40) for i in rows]
    return d.change_rows("visit_out_of_window", domain, frame, rows, {"SVSTDTC": moved, "SVENDTC": moved})


# -- adverse events ----------------------------------------------------------------------------------------------------


def _events(d: Defects, frame: pl.DataFrame, part: int, more: pl.Expr | None = None) -> list[int]:
    """A few events, those of another `part` for each fault."""
    import polars as pl

    wanted = pl.int_range(pl.len()) % 9 == part
    return _rows(d, frame, wanted if more is None else wanted & more, 3)


def _end_before_start(d: Defects, domain: str, frame: pl.DataFrame) -> pl.DataFrame:
    import polars as pl

    rows = _events(d, frame, 0, pl.col("AESTDTC").str.len_chars() == 10)
    ends = [_moved(frame["AESTDTC"][i], -5) for i in rows]
    return d.change_rows("end_before_start", domain, frame, rows, {"AEENDTC": ends})


def _day_zero(d: Defects, domain: str, frame: pl.DataFrame) -> pl.DataFrame:
    import polars as pl

    rows = _events(d, frame, 1, pl.col("AESTDY").is_not_null())
    return d.change_rows("day_zero", domain, frame, rows, {"AESTDY": [0] * len(rows)})


def _pregnant_male(d: Defects, domain: str, frame: pl.DataFrame) -> pl.DataFrame:
    import polars as pl

    assert d.people is not None
    men = d.people.filter(pl.col("SEX") == "M")["USUBJID"].to_list()
    rows = _events(d, frame, 2, pl.col("USUBJID").is_in(men))
    term = ["PREGNANCY"] * len(rows)
    return d.change_rows("pregnant_male", domain, frame, rows, {"AETERM": term, "AEDECOD": term})


def _fatal_not_serious(d: Defects, domain: str, frame: pl.DataFrame) -> pl.DataFrame:
    import polars as pl

    rows = _events(d, frame, 3, pl.col("AESER") == "N")
    return d.change_rows("fatal_not_serious", domain, frame, rows, {"AEOUT": ["FATAL"] * len(rows)})


def _wrong_term(d: Defects, domain: str, frame: pl.DataFrame) -> pl.DataFrame:
    rows = _events(d, frame, 4)
    return d.change_rows("wrong_term", domain, frame, rows, {"AESEV": ["TERRIBLE"] * len(rows)})


def _missing_causality(d: Defects, domain: str, frame: pl.DataFrame) -> pl.DataFrame:
    rows = _events(d, frame, 5)
    return d.change_rows("missing_causality", domain, frame, rows, {"AEREL": [""] * len(rows)})


def _duplicate_key(d: Defects, domain: str, frame: pl.DataFrame) -> pl.DataFrame:
    """An event entered twice under one number."""
    import polars as pl

    from trialops.synthetic.defects import Record, sdtm_file

    index = frame.height - 2
    subject = frame["USUBJID"][index]
    d.records.append(
        Record("duplicate_key", sdtm_file(domain), index + 2, subject, "AESEQ", None, frame["AESEQ"][index])
    )
    return pl.concat([frame[: index + 1], frame[index:]])


# -- laboratory --------------------------------------------------------------------------------------------------------


def _numbers(
    d: Defects, kind: str, frame: pl.DataFrame, code: str, change: Callable[[str], str | None]
) -> pl.DataFrame:
    """Change the printed result of some rows of a test; the standard result follows the wrong entry."""
    import polars as pl

    from trialops.synthetic.analytes import ANALYTES
    from trialops.synthetic.laboratory import number_text

    factor = next(a.factor for a in ANALYTES if a.code == code)
    rows: list[int] = []
    texts: list[str] = []
    for i in _rows(d, frame, (pl.col("LBTESTCD") == code) & (pl.col("VISITNUM") > 3), 4 * FEW):
        text = change(frame["LBORRES"][i])
        if text is not None and len(rows) < FEW:
            rows.append(i)
            texts.append(text)
    standard = [number_text(float(text) * factor) for text in texts]
    limits = [(float(frame["LBORNRLO"][i]), float(frame["LBORNRHI"][i])) for i in rows]
    said = [
        "LOW" if float(t) < low else "HIGH" if float(t) > high else "NORMAL"
        for t, (low, high) in zip(texts, limits, strict=True)
    ]
    values: dict[str, Sequence[Any]] = {
        "LBORRES": texts,
        "LBSTRESC": standard,
        "LBSTRESN": [float(s) for s in standard],
        "LBNRIND": said,
    }
    return d.change_rows(kind, "LB", frame, rows, values)


def _decimal_shift(d: Defects, domain: str, frame: pl.DataFrame) -> pl.DataFrame:
    """Calcium of 93 mg/dL for 9.3."""
    return _numbers(d, "decimal_shift", frame, "CA", lambda text: text.replace(".", ""))


def _transposed_digits(d: Defects, domain: str, frame: pl.DataFrame) -> pl.DataFrame:
    """Sodium of 183 for 138; only where the two digits are far enough apart for anybody to notice."""

    def swapped(text: str) -> str | None:
        return text[0] + text[2] + text[1] if len(text) == 3 and abs(int(text[1]) - int(text[2])) >= 3 else None

    return _numbers(d, "transposed_digits", frame, "SODIUM", swapped)


def _negative_value(d: Defects, domain: str, frame: pl.DataFrame) -> pl.DataFrame:
    return _numbers(d, "negative_value", frame, "ALT", lambda text: f"-{text}")


def _missing_result(d: Defects, domain: str, frame: pl.DataFrame) -> pl.DataFrame:
    import polars as pl

    rows = _rows(d, frame, pl.col("LBTESTCD") == "CHOL")
    empty = [""] * len(rows)
    values: dict[str, Sequence[Any]] = {
        "LBORRES": empty,
        "LBSTRESC": empty,
        "LBSTRESN": [None] * len(rows),
        "LBNRIND": empty,
    }
    return d.change_rows("missing_result", domain, frame, rows, values)


def _result_mismatch(d: Defects, domain: str, frame: pl.DataFrame) -> pl.DataFrame:
    """The standard number is not the standard text."""
    import polars as pl

    rows = _rows(d, frame, pl.col("LBTESTCD") == "AST")
    wrong = [round(float(frame["LBSTRESN"][i]) * 1.3 + 1, 2) for i in rows]
    return d.change_rows("result_mismatch", domain, frame, rows, {"LBSTRESN": wrong})


def _wrong_indicator(d: Defects, domain: str, frame: pl.DataFrame) -> pl.DataFrame:
    import polars as pl

    rows = _rows(d, frame, (pl.col("LBTESTCD") == "ALP") & (pl.col("LBNRIND") == "NORMAL"))
    return d.change_rows("wrong_indicator", domain, frame, rows, {"LBNRIND": ["HIGH"] * len(rows)})


def _two_baselines(d: Defects, domain: str, frame: pl.DataFrame) -> pl.DataFrame:
    mine = _of(frame, _subject(d, "two_baselines"))
    later = [i for i in mine if frame["VISITNUM"][i] == 4.0][:1]
    return d.change_rows("two_baselines", domain, frame, later, {"LBBLFL": ["Y"] * len(later)})


_RESULT = ("LBORRES", "LBSTRESC", "LBSTRESN", "LBNRIND")


def _take_results(d: Defects, kind: str, frame: pl.DataFrame, pairs: list[tuple[int, int]]) -> pl.DataFrame:
    """Overwrite the results of the first row of each pair with those of the second."""
    rows, sources = [p[0] for p in pairs], [p[1] for p in pairs]
    return d.change_rows(kind, "LB", frame, rows, {c: frame[c].gather(sources).to_list() for c in _RESULT})


def _copied_subject(d: Defects, domain: str, frame: pl.DataFrame) -> pl.DataFrame:
    """All laboratory results of one subject under the number of another."""
    keys = ("VISITNUM", "LBTESTCD")
    source = {tuple(frame[k][i] for k in keys): i for i in _of(frame, _subject(d, "copied_source"))}
    target = {tuple(frame[k][i] for k in keys): i for i in _of(frame, _subject(d, "copied_subject"))}
    pairs = [(target[k], source[k]) for k in sorted(target) if k in source]
    return _take_results(d, "copied_subject", frame, pairs)


def _copied_values(d: Defects, domain: str, frame: pl.DataFrame) -> pl.DataFrame:
    """A visit's results copied from the visit before."""
    mine = {(frame["VISITNUM"][i], frame["LBTESTCD"][i]): i for i in _of(frame, _subject(d, "copied_values"))}
    visits = sorted({visit for visit, _ in mine})
    if len(visits) < 4:
        return frame
    earlier, later = visits[2], visits[3]
    pairs = [(mine[k], mine[(earlier, k[1])]) for k in sorted(mine) if k[0] == later and (earlier, k[1]) in mine]
    return _take_results(d, "copied_values", frame, pairs)


# -- vital signs -------------------------------------------------------------------------------------------------------


def _digit_preference(d: Defects, domain: str, frame: pl.DataFrame) -> pl.DataFrame:
    """The site with most results writes blood pressures to the nearest ten."""
    site = frame["USUBJID"].str.split("-").list.get(1)
    largest = site.value_counts().sort("count", "USUBJID", descending=[True, False])["USUBJID"][0]
    mine = (site == largest) & frame["VSTESTCD"].is_in(["SYSBP", "DIABP"])
    rows = [int(i) for i in mine.arg_true()]
    rounded = [round(float(frame["VSSTRESN"][i]) / 10) * 10 for i in rows]
    text = [str(v) for v in rounded]
    values: dict[str, Sequence[Any]] = {"VSORRES": text, "VSSTRESC": text, "VSSTRESN": [float(v) for v in rounded]}
    return d.change_rows("digit_preference", domain, frame, rows, values)


def _wrong_study_id(d: Defects, domain: str, frame: pl.DataFrame) -> pl.DataFrame:
    import polars as pl

    rows = _rows(d, frame, pl.col("VSTESTCD") == "TEMP")
    return d.change_rows("wrong_study_id", domain, frame, rows, {"STUDYID": ["OTHER01"] * len(rows)})


def _future_date(d: Defects, domain: str, frame: pl.DataFrame) -> pl.DataFrame:
    import polars as pl

    rows = _rows(d, frame, pl.col("VSTESTCD") == "WEIGHT")
    return d.change_rows("future_date", domain, frame, rows, {"VSDTC": ["2124-06-01"] * len(rows)})


FURTHER: dict[str, tuple[tuple[str, ...], Change]] = {
    "swapped_sex": (("DM",), _swapped_sex),
    "late_consent": (("DM",), _late_consent),
    "wrong_first_dose": (("DM",), _wrong_first_dose),
    "dose_after_death": (("DM",), _dose_after_death),
    "lab_after_death": (("DM", "LB"), _lab_after_death),
    "overlapping_doses": (("EX",), _overlapping_doses),
    "visit_out_of_window": (("SV",), _visit_out_of_window),
    "duplicate_key": (("AE",), _duplicate_key),
    "end_before_start": (("AE",), _end_before_start),
    "day_zero": (("AE",), _day_zero),
    "pregnant_male": (("AE",), _pregnant_male),
    "fatal_not_serious": (("AE",), _fatal_not_serious),
    "wrong_term": (("AE",), _wrong_term),
    "missing_causality": (("AE",), _missing_causality),
    "decimal_shift": (("LB",), _decimal_shift),
    "transposed_digits": (("LB",), _transposed_digits),
    "negative_value": (("LB",), _negative_value),
    "missing_result": (("LB",), _missing_result),
    "result_mismatch": (("LB",), _result_mismatch),
    "wrong_indicator": (("LB",), _wrong_indicator),
    "two_baselines": (("LB",), _two_baselines),
    "copied_subject": (("LB",), _copied_subject),
    "copied_values": (("LB",), _copied_values),
    "digit_preference": (("VS",), _digit_preference),
    "wrong_study_id": (("VS",), _wrong_study_id),
    "future_date": (("VS",), _future_date),
}
