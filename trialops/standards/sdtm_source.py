"""Clean SDTM tables read for the mapping to OMOP: the same people, visits and events that FHIR gives.

Results are loaded as they were reported, with their own unit; UCUM is found for the unit by its spelling. Rows that
were corrected count in their newest version.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trialops.intake import partial_dates
from trialops.intake.domains import current_rows
from trialops.standards.omop_events import Codes, events, union
from trialops.standards.omop_source import Source, part

if TYPE_CHECKING:
    import polars as pl

LOINC = "http://loinc.org"
MEDDRA = "https://www.meddra.org"
CODING_SYSTEMS = {
    "LOINC": LOINC,
    "MedDRA": MEDDRA,
    "ICD-10-CM": "http://hl7.org/fhir/sid/icd-10-cm",
    "ATC": "http://www.whocc.no/atc",
}
"""Name of a code system in the result of coding -> its URL."""
SUPERSEDED = "a later delivery has a new version of the row"
NOT_DONE = "not done"
NO_PLACE = "the mapping has no place for this domain"
VISIT = "SV"
"""Class of trial visits: outpatient."""


@dataclass(frozen=True)
class EventDomain:
    """How a domain's rows become events.

    Attributes:
        domain: OMOP domain of rows whose term no vocabulary knows.
        term: Column with the term.
        code: Column with its code, where the table has it.
        system: Code system of that column.
        start: Stems of the columns that say when, in order of preference ("AEST": AESTDTC, AESTDY).
        end: Stem of the end.
        more: Event column -> column of the domain.
    """

    domain: str
    term: str
    code: str | None
    system: str | None
    start: tuple[str, ...]
    end: str | None = None
    more: tuple[tuple[str, str], ...] = ()


EVENTS = {
    "AE": EventDomain("Condition", "AEDECOD", "AEPTCD", MEDDRA, ("AEST", "AE"), "AEEN", (("status", "AESEV"),)),
    "MH": EventDomain("Condition", "MHDECOD", "MHPTCD", MEDDRA, ("MHST", "MH"), "MHEN"),
    "CM": EventDomain(
        "Drug",
        "CMDECOD",
        None,
        None,
        ("CMST", "CM"),
        "CMEN",
        (("quantity", "CMDOSE"), ("unit", "CMDOSU"), ("sig", "CMDOSFRQ")),
    ),
    "EX": EventDomain(
        "Drug",
        "EXTRT",
        None,
        None,
        ("EXST",),
        "EXEN",
        (("quantity", "EXDOSE"), ("unit", "EXDOSU"), ("sig", "EXDOSFRQ")),
    ),
    "LB": EventDomain("Measurement", "LBTESTCD", "LBLOINC", LOINC, ("LB",)),
    "VS": EventDomain("Measurement", "VSTESTCD", "VSLOINC", LOINC, ("VS",)),
    "DS": EventDomain("Observation", "DSDECOD", None, None, ("DSST", "DS")),
}
"""Event domains by code."""
FINDINGS = ("LB", "VS")
ROUTES = {"CM": "CMROUTE", "EX": "EXROUTE"}
RACES = "RACE"


def read_sdtm(
    tables: Mapping[str, pl.DataFrame], terms: pl.DataFrame | None = None, *, codes: Codes | None = None
) -> Source:
    """Read the clean tables of a trial.

    Args:
        tables: By domain, with DM; study days (--DY) alone under strict de-identification, dates (--DTC) otherwise.
        terms: What medical coding found: table, variable, verbatim, status, system, code. A term gets the code when
            the table has none of its own and the coding is settled and does not depend on the day.
        codes: Coded elements of another source that this one is to be put beside.
    """
    import polars as pl

    source = Source(codes=codes or Codes())
    dated = any(column.endswith("DTC") for column in tables["DM"].columns)
    outcomes = []
    found = []
    for name in sorted(tables):
        whole = tables[name]
        source.read[name] = whole.height
        if name not in EVENTS and name not in ("DM", "SV"):
            source.ignored[name] = NO_PLACE
            continue
        frame = _keyed(name, current_rows(name, whole))
        old = whole.height - frame.height
        if old:
            outcomes.append(_superseded(name, _keyed(name, whole), frame))
        if name == "DM":
            source.persons = _persons(frame, dated)
        elif name == "SV":
            source.visits = _visits(frame, dated)
        else:
            found.append(_events(name, frame, source.codes, dated, _settled(name, terms)))
    source.events = union(found)
    source.outcomes = pl.concat([part("outcomes"), *outcomes])
    return source


def _keyed(name: str, frame: pl.DataFrame) -> pl.DataFrame:
    """Adds id: the subject, and what numbers the subject's rows."""
    import polars as pl

    number = {"DM": None, "SV": "VISITNUM"}.get(name, f"{name}SEQ")
    parts = [pl.col("USUBJID")] + ([pl.col(number).cast(pl.String)] if number and number in frame.columns else [])
    return frame.with_columns(id=pl.concat_str(parts, separator="/"))


def _superseded(name: str, whole: pl.DataFrame, current: pl.DataFrame) -> pl.DataFrame:
    """Old versions, as many per row as there are more of them than current ones."""
    import polars as pl

    now = current.group_by("id").len("now")
    counted = whole.group_by("id", "USUBJID").len("all").join(now, on="id", how="left")
    extra = counted.with_columns(extra=pl.col("all").cast(pl.Int64) - pl.col("now").fill_null(0).cast(pl.Int64))
    rows = extra.filter(pl.col("extra") > 0).select(pl.col("id").repeat_by("extra"), pl.col("USUBJID").alias("subject"))
    rows = rows.explode("id").with_columns(kind=pl.lit(name), disposition=pl.lit("ignored"), reason=pl.lit(SUPERSEDED))
    return part("outcomes", rows)


def _date(stem: str, frame: pl.DataFrame) -> pl.Expr:
    """A date column as ISO text: as it is when it names a day, else the first day it can mean."""
    import polars as pl

    column = f"{stem}DTC"
    if column not in frame.columns:
        return pl.lit(None, pl.String)
    exact = partial_dates.exact_day(column).is_not_null()
    first = partial_dates.earliest(column).dt.to_string("%Y-%m-%d")
    return pl.when(exact).then(pl.col(column).str.split("/").list.first()).otherwise(first)


def _day(stem: str, frame: pl.DataFrame) -> pl.Expr:
    import polars as pl

    column = f"{stem}DY"
    return pl.col(column).cast(pl.Int64) if column in frame.columns else pl.lit(None, pl.Int64)


def _when(stems: tuple[str, ...], frame: pl.DataFrame, dated: bool) -> tuple[pl.Expr, pl.Expr]:
    """Date and study day by the first stem that has one; only one of the two is given."""
    import polars as pl

    if dated:
        return pl.coalesce([_date(stem, frame) for stem in stems]), pl.lit(None, pl.Int64)
    return pl.lit(None, pl.String), pl.coalesce([_day(stem, frame) for stem in stems])


def _column(frame: pl.DataFrame, name: str) -> pl.Expr:
    import polars as pl

    return pl.col(name) if name in frame.columns else pl.lit(None, pl.String)


def _persons(frame: pl.DataFrame, dated: bool) -> pl.DataFrame:
    import polars as pl

    death, death_day = _when(("DTH",), frame, dated)
    year = partial_dates.earliest("RFSTDTC").dt.year() if "RFSTDTC" in frame.columns else pl.lit(None, pl.Int32)
    age = _column(frame, "AGE").cast(pl.Float64)
    born = (year - age.floor()).cast(pl.Int64).cast(pl.String)
    return part(
        "persons",
        frame.select(
            pl.lit("DM").alias("kind"),
            "id",
            subject="USUBJID",
            gender=_column(frame, "SEX"),
            # Without a date of birth, the year in which somebody of that age on day 1 was born, or the year after.
            birth=pl.coalesce(_column(frame, "BRTHDTC"), born) if dated else pl.lit(None, pl.String),
            age=age,
            race=_column(frame, RACES),
            ethnicity=_column(frame, "ETHNIC"),
            death=death,
            death_day=death_day,
            country=_column(frame, "COUNTRY"),
            site=_column(frame, "SITEID"),
        ),
    )


def _visits(frame: pl.DataFrame, dated: bool) -> pl.DataFrame:
    import polars as pl

    start, start_day = _when(("SVST",), frame, dated)
    end, end_day = _when(("SVEN",), frame, dated)
    return part(
        "visits",
        frame.select(
            pl.lit("SV").alias("kind"),
            "id",
            subject="USUBJID",
            visit_class=pl.lit(VISIT),
            label=_column(frame, "VISIT"),
            start=start,
            start_day=start_day,
            end=end,
            end_day=end_day,
        ),
    )


def _events(name: str, frame: pl.DataFrame, codes: Codes, dated: bool, settled: Settled | None) -> pl.DataFrame:
    import polars as pl

    spec = EVENTS[name]
    start, start_day = _when(spec.start, frame, dated)
    end, end_day = _when((spec.end,), frame, dated) if spec.end else (pl.lit(None, pl.String), pl.lit(None, pl.Int64))
    undone = _column(frame, f"{name}STAT") == "NOT DONE"
    columns = {
        "id": pl.col("id"),
        "subject": pl.col("USUBJID"),
        "start": start,
        "start_day": start_day,
        "end": end,
        "end_day": end_day,
        "encounter": _encounter(frame),
        "skip": pl.when(undone).then(pl.lit(NOT_DONE)),
        **{event: pl.col(column) for event, column in spec.more if column in frame.columns},
        **(_result(name, frame) if name in FINDINGS else {}),
    }
    made = frame.select(**columns)
    fixed = {
        "kind": name,
        "domain": spec.domain,
        "concept": _keys(frame, spec.term, spec.code, spec.system, codes, settled),
    }
    if ROUTES.get(name, "") in frame.columns:
        fixed["route"] = _keys(frame, ROUTES[name], None, None, codes)
    unit = made["unit"] if "unit" in made.columns else None
    if unit is not None:
        fixed["unit_code"] = _ucum(unit)
    return events({**{column: made[column] for column in made.columns}, **fixed}, frame.height)


def _encounter(frame: pl.DataFrame) -> pl.Expr:
    import polars as pl

    if "VISITNUM" not in frame.columns:
        return pl.lit(None, pl.String)
    return pl.concat_str("USUBJID", pl.col("VISITNUM").cast(pl.String), separator="/")


def _result(name: str, frame: pl.DataFrame) -> dict[str, pl.Expr]:
    """The result as reported: a number with its comparator, or text; and its range."""
    import polars as pl

    reported = _column(frame, f"{name}ORRES").str.strip_chars()
    parts = reported.str.extract_groups(r"^(<=|>=|<|>)?\s*([+-]?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)$")
    number = parts.struct.field("2").cast(pl.Float64, strict=False)
    ends = {
        event: _column(frame, f"{name}ORNR{suffix}").cast(pl.String).cast(pl.Float64, strict=False)
        for event, suffix in (("low", "LO"), ("high", "HI"))
    }
    return {
        "number": number,
        "comparator": parts.struct.field("1"),
        "text": pl.when(number.is_null()).then(reported),
        "unit": _column(frame, f"{name}ORRESU"),
        **ends,
    }


@dataclass(frozen=True)
class Settled:
    """What coding settled for a domain: the column its texts stand in, and text -> found_system, found_code."""

    variable: str
    codes: pl.DataFrame


def _settled(name: str, terms: pl.DataFrame | None) -> Settled | None:
    import polars as pl

    if terms is None:
        return None
    mine = terms.filter(
        pl.col("table").str.to_uppercase() == name, pl.col("status").is_in(["auto", "remembered"]), pl.col("code") != ""
    )
    # A text whose code depends on the unit or the day has no single code here.
    one = mine.filter(pl.col("code").n_unique().over("variable", "verbatim") == 1)
    if one.height == 0:
        return None
    system = pl.col("system").replace_strict(CODING_SYSTEMS, default=None, return_dtype=pl.String)
    found = one.select(verbatim="verbatim", found_system=system, found_code="code").drop_nulls("found_system")
    return Settled(str(one["variable"][0]), found.unique("verbatim", keep="any"))


def _keys(
    frame: pl.DataFrame,
    term: str,
    code: str | None,
    system: str | None,
    codes: Codes,
    settled: Settled | None = None,
) -> pl.Series:
    """Keys of terms and codes; each distinct pair is looked at once."""
    import polars as pl

    coded = _column(frame, code) if code else pl.lit(None, pl.String)
    text = _column(frame, settled.variable) if settled else pl.lit(None, pl.String)
    pairs = frame.select(
        term=_column(frame, term).cast(pl.String), code=coded.cast(pl.String), verbatim=text.cast(pl.String)
    )
    named = ["term", "code", "verbatim"]
    distinct = pairs.unique().sort(named).with_columns(system=pl.lit(system, pl.String), use="code")
    if settled is not None:
        own = pl.col("code").is_not_null()
        distinct = distinct.join(settled.codes, on="verbatim", how="left", maintain_order="left").with_columns(
            use=pl.coalesce("code", "found_code"),
            system=pl.when(own).then("system").otherwise("found_system"),
        )
    keys = pl.Series("key", [0] * distinct.height, dtype=pl.Int64)
    for name in distinct["system"].unique().sort().to_list():
        rows = (distinct["system"] == name) if name is not None else distinct["system"].is_null()
        part_ = distinct.filter(rows)
        found = codes.plain(name, part_["use"].to_list(), part_["term"].to_list())
        keys = keys.scatter(rows.arg_true(), found)
    made = distinct.select(named).with_columns(key=keys)
    return pairs.join(made, on=named, how="left", nulls_equal=True, maintain_order="left")["key"]


def _ucum(units: pl.Series) -> pl.Series:
    """UCUM codes of unit spellings; null for those nobody knows."""
    import polars as pl

    from trialops.errors import TrialOpsError
    from trialops.standards.units import ucum_code

    known: dict[str, str | None] = {}
    for text in units.drop_nulls().unique().to_list():
        try:
            known[text] = ucum_code(text) or None
        except TrialOpsError:
            known[text] = None
    return units.replace_strict(known, default=None, return_dtype=pl.String)
