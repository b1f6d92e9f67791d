"""From events to the event tables of the OMOP CDM: mapped, routed by domain, linked to visits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from trialops.standards import cdm
from trialops.standards.omop_columns import COLUMNS, shared
from trialops.standards.omop_dates import first_day, last_day, moment, zone
from trialops.standards.omop_facts import SDTM_KINDS, facts, type_concept
from trialops.standards.omop_ids import keys, keys_of
from trialops.standards.omop_people import NO_DATE, NO_PERSON
from trialops.standards.omop_source import Source, part

if TYPE_CHECKING:
    import polars as pl

    from trialops.standards.vocabulary import Vocabulary

UCUM = "http://unitsofmeasure.org"
EVENT_TABLES = (
    "condition_occurrence",
    "drug_exposure",
    "procedure_occurrence",
    "device_exposure",
    "measurement",
    "observation",
    "specimen",
)


@dataclass(frozen=True)
class Routed:
    """Events in their tables.

    Attributes:
        tables: The event tables and notes.
        provenance: See `omop_cdm.PROVENANCE`.
        outcomes: Sources of which no event was loaded, with the reason.
    """

    tables: dict[str, pl.DataFrame]
    provenance: pl.DataFrame
    outcomes: pl.DataFrame


def route(
    source: Source, persons: pl.DataFrame, links: pl.DataFrame, vocabulary: Vocabulary, *, study_days: bool
) -> Routed:
    """Map events and put each where the domain of its standard concept belongs.

    Args:
        source: What was read.
        persons: subject and person_id.
        links: Visits, see `omop_people.visits`.
        vocabulary: Concepts.
        study_days: Whether dates are study days.
    """
    import polars as pl

    linked = _linked(source.events, persons, links, study_days=study_days)
    good = linked.filter(pl.col("reason").is_null())
    outcomes = _not_loaded(linked, good)
    rows = _mapped(good, source, vocabulary)
    tables: dict[str, pl.DataFrame] = {}
    origins: list[pl.DataFrame] = []
    for name in EVENT_TABLES:
        chosen = rows.filter(pl.col("table") == name)
        columns = COLUMNS[name]()
        columns |= shared(name, columns)
        tables[name] = cdm.conform(name, chosen.select(**columns))
        origins.append(_origin(name, chosen))
    notes, more, lost = _notes(source, persons, links, study_days=study_days)
    tables["note"] = notes
    provenance = pl.concat([*origins, more])
    return Routed(tables, provenance, pl.concat([outcomes, lost]))


def _linked(events: pl.DataFrame, persons: pl.DataFrame, links: pl.DataFrame, *, study_days: bool) -> pl.DataFrame:
    """Events with person, visit, dates and the reason against loading them."""
    import polars as pl

    visits = links.select(
        "visit_occurrence_id", "visit_detail_id", "visit_start", encounter="id", visit_person="person_id"
    ).unique("encounter", keep="any")
    rows = events.join(persons.select("subject", "person_id"), on="subject", how="left").join(
        visits, on="encounter", how="left"
    )
    own = pl.col("visit_person") == pl.col("person_id")
    rows = rows.with_columns(
        first=first_day("start", "start_day", study_days=study_days),
        last=last_day("end", "end_day", study_days=study_days),
        start_time=moment("start", study_days=study_days),
        end_time=moment("end", study_days=study_days),
        zone=zone("start"),
        end_zone=zone("end"),
        visit_occurrence_id=pl.when(own).then("visit_occurrence_id"),
        visit_detail_id=pl.when(own).then("visit_detail_id"),
        visit_start=pl.when(own).then("visit_start"),
    )
    rows = rows.with_columns(first=pl.coalesce("first", "visit_start"))
    rows = rows.with_columns(
        last=pl.when(pl.col("last") >= pl.col("first")).then("last"),
        reason=pl.coalesce(
            "skip",
            pl.when(pl.col("person_id").is_null()).then(pl.lit(NO_PERSON)),
            pl.when(pl.col("first").is_null()).then(pl.lit(NO_DATE)),
        ),
    )
    return _linked_by_day(rows, links)


def _linked_by_day(rows: pl.DataFrame, links: pl.DataFrame) -> pl.DataFrame:
    """Events whose visit is not known get the latest one of the person that had begun and not ended on the day."""
    import polars as pl

    loose = pl.col("visit_occurrence_id").is_null() & pl.col("reason").is_null()
    if not rows.select(loose.any()).item() or links.height == 0:
        return rows
    spans = (
        links.filter(pl.col("visit_detail_id").is_null())
        .select("person_id", "visit_start", "visit_end", day_visit="visit_occurrence_id")
        .sort("visit_start", "day_visit")
    )
    free = rows.with_row_index("row").filter(loose).select("row", "person_id", "first").sort("first")
    found = (
        free.join_asof(
            spans, left_on="first", right_on="visit_start", by="person_id", strategy="backward", check_sortedness=False
        )
        .filter(pl.col("visit_end") >= pl.col("first"))
        .select("row", "day_visit")
    )
    return (
        rows.with_row_index("row")
        .join(found, on="row", how="left", maintain_order="left")
        .with_columns(visit_occurrence_id=pl.coalesce("visit_occurrence_id", "day_visit"))
        .drop("row", "day_visit")
    )


def _not_loaded(linked: pl.DataFrame, good: pl.DataFrame) -> pl.DataFrame:
    """One row per source none of whose events can be loaded."""
    import polars as pl

    bad = linked.filter(pl.col("reason").is_not_null()).select("kind", "id", "subject", "reason", "skip")
    bad = bad.unique(["kind", "id"], keep="first", maintain_order=True).join(good, on=["kind", "id"], how="anti")
    ignored = pl.when(pl.col("skip").is_not_null()).then(pl.lit("ignored")).otherwise(pl.lit("quarantined"))
    return part("outcomes", bad.with_columns(disposition=ignored))


def _mapped(rows: pl.DataFrame, source: Source, vocabulary: Vocabulary) -> pl.DataFrame:
    """Events with concepts, table and key; one row more for each further concept a code maps to."""
    import polars as pl

    resolved = source.codes.resolve(vocabulary)
    main = resolved.filter(pl.col("n") == 0).sort("key")
    names = ["n", "concept_id", "domain_id", "source_concept_id", "value_concept_id", "source_value", "system", "code"]
    main, resolved = (frame.rename({"text": "code_text"}) for frame in (main, resolved))
    names.append("code_text")
    rows = rows.with_columns(pl.col("concept", "value", "route").fill_null(0))
    # Keys are the row numbers of `main`: taking rows by number is what a join would do, without the hashing.
    taken = main.select(names)[rows["concept"]]
    more = resolved.filter(pl.col("n") > 0).select(pl.col("key").alias("concept"), *names)
    further = rows.join(more, on="concept", how="inner")
    whole = pl.concat([pl.concat([rows, taken], how="horizontal"), further.select(*rows.columns, *names)])
    values = main.select(
        value_target="concept_id",
        value_text="source_value",
        value_system="system",
        value_code="code",
    )[whole["value"]]
    routes = main.select(route_target="concept_id", route_text="source_value")[whole["route"]]
    tables = facts().tables
    domain = pl.coalesce("domain_id", "domain")
    whole = pl.concat([whole, values, routes], how="horizontal").with_columns(
        table=domain.replace_strict(tables, default="observation", return_dtype=pl.String),
        # In a case report form the term is what was there; its code is what coding found for it.
        source_value=pl.when(pl.col("kind").is_in(SDTM_KINDS))
        .then(pl.coalesce(pl.col("code_text").str.head(50), "source_value"))
        .otherwise("source_value"),
        unit_text=pl.coalesce("unit_code", "unit"),
        unit_system=pl.when(pl.col("unit_code").is_not_null()).then(pl.lit(UCUM)),
    )
    whole = whole.join(_units(whole["unit_text"], vocabulary), on="unit_text", how="left")
    places = pl.when(pl.col("part") > 0).then(pl.format("#{}", "part")).otherwise(pl.lit(""))
    turns = pl.when(pl.col("n") > 0).then(pl.format("+{}", "n")).otherwise(pl.lit(""))
    texts = whole.select(pl.concat_str(pl.col("kind"), pl.lit("/"), pl.col("id"), places, turns)).to_series()
    return whole.with_columns(key=keys(texts), provider_id=keys_of("Practitioner", whole["provider"]))


def _units(texts: pl.Series, vocabulary: Vocabulary) -> pl.DataFrame:
    """unit_text, unit_target: the concept of each unit by UCUM; 0 when there is none."""
    import polars as pl

    distinct = texts.drop_nulls().unique().alias("concept_code").to_frame()
    found = vocabulary.resolve(distinct.with_columns(vocabulary_id=pl.lit("UCUM")))
    return found.filter(pl.col("n") == 0).select(unit_text="concept_code", unit_target="concept_id")


def _origin(name: str, rows: pl.DataFrame) -> pl.DataFrame:
    import polars as pl

    return rows.select(
        pl.lit(name).alias("table"),
        pl.col("key").alias("row_id"),
        "person_id",
        "kind",
        pl.col("id").alias("source_id"),
        "part",
        "system",
        "code",
        "value_system",
        "value_code",
        "unit_system",
        "zone",
        "end_zone",
    )


def _notes(
    source: Source, persons: pl.DataFrame, links: pl.DataFrame, *, study_days: bool
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Notes, where they came from, and those that are not loaded."""
    import polars as pl

    rows = _linked(
        source.notes.with_columns(end=pl.lit(None, pl.String), end_day=pl.lit(None, pl.Int64)),
        persons,
        links,
        study_days=study_days,
    )
    good = rows.filter(pl.col("reason").is_null())
    texts = good.select(pl.col("kind") + "/" + pl.col("id")).to_series()
    good = good.with_columns(key=keys(texts))
    made = good.select(
        "person_id",
        "visit_occurrence_id",
        "visit_detail_id",
        note_id="key",
        note_date="first",
        note_datetime="start_time",
        note_type_concept_id=type_concept("kind"),
        note_class_concept_id=pl.lit(0),
        note_text="text",
        encoding_concept_id=pl.lit(0),
        language_concept_id=pl.lit(0),
        note_source_value="label",
    )
    nothing = pl.lit(None, pl.String)
    unknown = ("system", "code", "value_system", "value_code", "unit_system")
    origin = good.with_columns(pl.lit(0, pl.Int32).alias("part"), *(nothing.alias(name) for name in unknown))
    return cdm.conform("note", made), _origin("note", origin), _not_loaded(rows, good)
