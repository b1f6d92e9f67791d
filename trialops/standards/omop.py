"""A source as OMOP CDM 5.4 tables, and how complete the mapping is.

Everything about a person follows from that person's own data and the vocabulary, so that a part of the persons can be
mapped anew and put back (`omop_delta`). What persons share (places, providers, addresses, concepts) is gathered last,
from what the rows refer to.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trialops.standards import cdm, omop_eras, omop_people
from trialops.standards.omop_cdm import MAPPING, PERSONAL, PROVENANCE, TABLES, Cdm, no_references
from trialops.standards.omop_facts import built_in_concepts, facts
from trialops.standards.omop_ids import keys_of, refuse_collisions
from trialops.standards.omop_source import Source, part
from trialops.standards.omop_tables import route

if TYPE_CHECKING:
    import polars as pl

    from trialops.standards.vocabulary import Vocabulary


@dataclass(frozen=True)
class Personal:
    """What follows from each person's own data.

    Attributes:
        tables: The tables in PERSONAL.
        locations: Where the persons live.
        provenance: Of these rows, sorted by person, table and row_id.
        outcomes: What is not loaded.
    """

    tables: Mapping[str, pl.DataFrame]
    locations: pl.DataFrame
    provenance: pl.DataFrame
    outcomes: pl.DataFrame


def build(source: Source, vocabulary: Vocabulary, *, study_days: bool | None = None) -> Cdm:
    """Map a source.

    Args:
        source: From `fhir_source.read_fhir` or `sdtm_source.read_sdtm`.
        vocabulary: Concepts.
        study_days: Whether dates are study days; found out from the data when not said.
    """
    strict = source.has_study_days if study_days is None else study_days
    made = personal(source, vocabulary, study_days=strict)
    return assemble(made, source, references(source), vocabulary, study_days=strict)


def personal(source: Source, vocabulary: Vocabulary, *, study_days: bool) -> Personal:
    """The tables whose rows belong to one person each."""
    import polars as pl

    tables, persons, bad = omop_people.people(source, study_days=study_days)
    known = vocabulary.concepts(pl.Series(list(facts().visits.values()), dtype=pl.Int64))["concept_id"]
    visits, links, bad_visits = omop_people.visits(source, persons, known, study_days=study_days)
    routed = route(source, persons, links, vocabulary, study_days=study_days)
    locations = tables.pop("location")
    tables |= visits | routed.tables
    tables["observation_period"] = omop_eras.observation_periods(tables)
    tables["condition_era"] = omop_eras.condition_eras(tables["condition_occurrence"])
    parts = omop_eras.ingredients(tables["drug_exposure"], vocabulary)
    tables["drug_era"] = omop_eras.drug_eras(tables["drug_exposure"], parts)
    tables["dose_era"] = omop_eras.dose_eras(tables["drug_exposure"], parts, vocabulary)
    origin = pl.concat([_people_origin(source, persons, links), routed.provenance])
    origin = origin.sort("person_id", "table", "row_id")
    return Personal(tables, locations, origin, sort_outcomes([source.outcomes, bad, bad_visits, routed.outcomes]))


def assemble(made: Personal, source: Source, named: pl.DataFrame, vocabulary: Vocabulary, *, study_days: bool) -> Cdm:
    """Add what persons share, and check the keys.

    Args:
        made: The tables of all persons.
        source: For the places, providers and counts; its persons and events are not looked at.
        named: Places and providers that sources name, see :func:`references`.
        vocabulary: Concepts.
        study_days: Whether dates are study days.
    """
    import polars as pl

    tables = {**made.tables, **shared(made.tables, omop_people.places(source), named, made.locations, vocabulary)}
    check_keys(tables)
    return Cdm(
        tables={name: tables[name] for name in TABLES},
        provenance=pl.concat([made.provenance, _places_origin(source)]),
        outcomes=made.outcomes,
        read=dict(source.read),
        ignored=dict(source.ignored),
        study_days=study_days,
        vocabulary=vocabulary.digest,
        references=named,
    )


def sort_outcomes(frames: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """Outcomes in one order."""
    import polars as pl

    return pl.concat([part("outcomes"), *frames]).sort("kind", "id", "subject", "reason")


def check_keys(tables: Mapping[str, pl.DataFrame]) -> None:
    """Stop when a key is not unique."""
    for name, frame in tables.items():
        key = cdm.table(name).primary_key
        if key:
            refuse_collisions(name, frame[key])


def references(source: Source) -> pl.DataFrame:
    """Places and providers that people, visits and events name."""
    import polars as pl

    found = [
        frame.select(pl.lit(table).alias("table"), pl.col(column).alias("id")).drop_nulls().unique()
        for frame in (source.persons, source.visits, source.events)
        for column, table in (("provider", "provider"), ("site", "care_site"))
        if column in frame.columns
    ]
    return pl.concat([no_references(), *found]).unique().sort("table", "id")


def shared(
    personal: Mapping[str, pl.DataFrame],
    places: Mapping[str, pl.DataFrame],
    named: pl.DataFrame,
    locations: pl.DataFrame,
    vocabulary: Vocabulary,
) -> dict[str, pl.DataFrame]:
    """The tables that persons share, with exactly the rows that are described or referred to.

    Args:
        personal: The tables in PERSONAL.
        places: care_site, provider and location as resources describe them.
        named: Places and providers that sources name, see :func:`references`.
        locations: Locations of persons; those nobody has any more are left out.
        vocabulary: Concepts.
    """
    import polars as pl

    made: dict[str, pl.DataFrame] = {}
    for name in ("care_site", "provider"):
        key = f"{name}_id"
        used = _used(personal, key)
        stubs = omop_people.named_only(name, named.filter(pl.col("table") == name)["id"])
        stubs = stubs.filter(pl.col(key).is_in(used.implode())).join(places[name], on=key, how="anti")
        made[name] = cdm.conform(name, pl.concat([places[name], stubs]))
    homes = pl.concat([personal["person"]["location_id"], made["care_site"]["location_id"]]).drop_nulls().unique()
    candidates = pl.concat([places["location"], locations]).unique("location_id", keep="first", maintain_order=True)
    made["location"] = cdm.conform("location", candidates.filter(pl.col("location_id").is_in(homes.implode())))
    made["cdm_source"] = _about(personal, vocabulary)
    made |= vocabulary.related(_concepts_used({**personal, **made}))
    return made


def _used(tables: Mapping[str, pl.DataFrame], key: str) -> pl.Series:
    import polars as pl

    columns = [frame[key].unique() for name, frame in tables.items() if key in frame.columns and name in PERSONAL]
    return pl.concat([pl.Series(key, [], dtype=pl.Int64), *columns]).drop_nulls().unique()


def _concepts_used(tables: Mapping[str, pl.DataFrame]) -> pl.Series:
    import polars as pl

    fixed = built_in_concepts()["concept_id"]
    columns = [
        tables[name][field.name].unique()
        for name in tables
        if cdm.table(name).schema == "CDM"
        for field in cdm.table(name).fields
        if field.foreign_table == "concept"
    ]
    return pl.concat([fixed, *columns]).drop_nulls().unique()


def _about(tables: Mapping[str, pl.DataFrame], vocabulary: Vocabulary) -> pl.DataFrame:
    """The row of cdm_source. Its dates are the last day in the data: the same data give the same row."""
    import polars as pl

    last = tables["observation_period"]["observation_period_end_date"].max()
    day = last if isinstance(last, dt.date) else dt.date(1970, 1, 1)
    row = {
        "cdm_source_name": "TrialOps standardized data",
        "cdm_source_abbreviation": "TrialOps",
        "cdm_holder": "Sponsor",
        "cdm_etl_reference": f"trialops.standards mapping {MAPPING}",
        "source_release_date": day,
        "cdm_release_date": day,
        "cdm_version": f"v{cdm.VERSION}",
        "cdm_version_concept_id": cdm.VERSION_CONCEPT,
        "vocabulary_version": vocabulary.version,
    }
    return cdm.conform("cdm_source", pl.DataFrame([row]))


def _people_origin(source: Source, persons: pl.DataFrame, links: pl.DataFrame) -> pl.DataFrame:
    import polars as pl

    loaded = source.persons.join(persons, on="subject").unique("subject", keep="first", maintain_order=True)
    detail = pl.col("visit_detail_id").is_not_null()
    return _origin_of(
        [
            loaded.select(pl.lit("person").alias("table"), "person_id", "kind", row_id="person_id", source_id="id"),
            loaded.filter(pl.col("death").is_not_null()).select(
                pl.lit("death").alias("table"),
                "person_id",
                "kind",
                row_id="person_id",
                source_id="id",
                zone="death_zone",
            ),
            links.select(
                pl.when(detail).then(pl.lit("visit_detail")).otherwise(pl.lit("visit_occurrence")).alias("table"),
                "person_id",
                "kind",
                "zone",
                "end_zone",
                row_id=pl.coalesce("visit_detail_id", "visit_occurrence_id"),
                source_id="id",
            ),
        ]
    )


def _places_origin(source: Source) -> pl.DataFrame:
    import polars as pl

    frames = (
        frame.select(
            pl.lit(table).alias("table"),
            pl.lit(None, pl.Int64).alias("person_id"),
            "kind",
            row_id=keys_of(resource, frame["id"]),
            source_id="id",
        )
        for table, resource, frame in (
            ("care_site", "Organization", source.sites),
            ("provider", "Practitioner", source.providers),
        )
    )
    return _origin_of(frames).sort("table", "row_id")


def _origin_of(frames: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """Frames in the shape of the provenance; sources without codes have no code system."""
    import polars as pl

    columns = {name: getattr(pl, kind) for name, kind in PROVENANCE.items()}
    fixed = {"part": pl.lit(0, pl.Int32)}
    return pl.concat(
        frame.select(
            fixed.get(name, pl.col(name) if name in frame.columns else pl.lit(None, kind)).alias(name)
            for name, kind in columns.items()
        )
        for frame in frames
    )
