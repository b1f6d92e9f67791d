"""Persons, deaths, places and visits of the OMOP CDM from what a source gives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from trialops.standards import calendar, cdm
from trialops.standards.omop_dates import first_day, last_day, moment, zone
from trialops.standards.omop_facts import facts, type_concept
from trialops.standards.omop_ids import keys, keys_of
from trialops.standards.omop_source import Source, part

if TYPE_CHECKING:
    import polars as pl

NO_BIRTH = "no year of birth, or no age where dates are study days"
NO_PERSON = "its person is not among the patients"
NO_DATE = "no date"
TWICE = "the same person again"
_ADDRESS = ("address", "city", "state", "zip", "country")
_DEPTH = 10  # visits within visits; deeper ones are a cycle


def concept_of(column: str, mapping: Mapping[str, int]) -> pl.Expr:
    """Concepts of plain values by a mapping in the facts; 0 for the rest."""
    import polars as pl

    return pl.col(column).replace_strict(mapping, default=0, return_dtype=pl.Int64)


def people(source: Source, *, study_days: bool) -> tuple[dict[str, pl.DataFrame], pl.DataFrame, pl.DataFrame]:
    """Person, death and the locations of persons.

    Returns:
        Tables; of the persons subject, person_id and death_zone (time zone of the death); outcomes of those that are
        not loaded.
    """
    import polars as pl

    given = source.persons.sort("subject", "id", nulls_last=True)
    rows = _one_each(given.filter(pl.col("subject").is_not_null()))
    if study_days:
        year, month, day = calendar.birth_year(pl.col("age")), pl.lit(None, pl.Int64), pl.lit(None, pl.Date)
    else:
        birth = pl.col("birth")
        year = birth.str.head(4).cast(pl.Int64, strict=False)
        month = pl.when(birth.str.len_bytes() >= 7).then(birth.str.slice(5, 2)).cast(pl.Int64, strict=False)
        day = birth.str.head(10).str.to_date("%Y-%m-%d", strict=False)
    rows = rows.with_columns(year=year, month=month, day=day).filter(pl.col("year").is_not_null())
    bad = _not_loaded(given, rows["subject"])
    location, location_ids = _locations(rows)
    rows = rows.with_columns(
        person_id=keys_of("person", rows["subject"]),
        location_id=location_ids,
        provider_id=keys_of("Practitioner", rows["provider"]),
        care_site_id=keys_of("Organization", rows["site"]),
    )
    facts_ = facts()
    person = cdm.conform(
        "person",
        rows.select(
            "person_id",
            "location_id",
            "provider_id",
            "care_site_id",
            gender_concept_id=concept_of("gender", facts_.gender),
            year_of_birth="year",
            month_of_birth="month",
            day_of_birth=pl.col("day").dt.day(),
            birth_datetime=pl.col("day").cast(pl.Datetime("us")),
            race_concept_id=concept_of("race", facts_.race),
            ethnicity_concept_id=concept_of("ethnicity", facts_.ethnicity),
            person_source_value="subject",
            gender_source_value="gender",
            gender_source_concept_id=pl.lit(0),
            race_source_value=pl.coalesce("race", "race_text"),
            race_source_concept_id=pl.lit(0),
            ethnicity_source_value=pl.coalesce("ethnicity", "ethnicity_text"),
            ethnicity_source_concept_id=pl.lit(0),
        ),
    )
    died = rows.with_columns(
        death_date=first_day("death", "death_day", study_days=study_days),
        death_datetime=moment("death", study_days=study_days),
        death_type_concept_id=type_concept("kind"),
    ).filter(pl.col("death_date").is_not_null())
    tables = {"person": person, "death": cdm.conform("death", died), "location": location}
    died = died.select("subject", death_zone=zone("death"))
    return tables, rows.select("subject", "person_id").join(died, on="subject", how="left"), bad


def _not_loaded(given: pl.DataFrame, loaded: pl.Series) -> pl.DataFrame:
    import polars as pl

    reason = (
        pl.when(pl.col("subject").is_null())
        .then(pl.lit(NO_PERSON))
        .when(~pl.col("subject").is_in(loaded.implode()))
        .then(pl.lit(NO_BIRTH))
        .when(pl.int_range(pl.len()).over("subject", "kind") > 0)
        .then(pl.lit(TWICE))
    )
    rows = given.with_columns(reason=reason, disposition=pl.lit("quarantined"))
    return part("outcomes", rows.filter(pl.col("reason").is_not_null()))


def _one_each(rows: pl.DataFrame) -> pl.DataFrame:
    """One row per person. Where FHIR and SDTM both know somebody, each says what the other does not; DM comes first."""
    import polars as pl

    if not rows["subject"].is_duplicated().any():
        return rows
    return rows.sort("subject", "kind").group_by("subject", maintain_order=True).agg(pl.all().drop_nulls().first())


def _locations(rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.Series]:
    """Locations, one per distinct address, and the id for each row."""
    import polars as pl

    some = pl.any_horizontal(pl.col(name).is_not_null() for name in _ADDRESS)
    whole = pl.concat_str([pl.col(name).fill_null("") for name in _ADDRESS], separator="|")
    texts = rows.select(pl.when(some).then(whole).alias("location_id"))["location_id"]
    ids = keys_of("location", texts)
    found = rows.with_columns(location_id=ids).filter(pl.col("location_id").is_not_null())
    made = found.select(
        "location_id",
        address_1="address",
        city="city",
        # The model holds two letters: a name in full stays in the source value.
        state=pl.when(pl.col("state").str.len_chars() <= 2).then("state"),
        zip=pl.col("zip").str.replace_all("-", "", literal=True),
        location_source_value=pl.concat_str(["city", "state", "zip"], separator=", ", ignore_nulls=True),
        country_concept_id=pl.lit(0),
        country_source_value="country",
    ).unique("location_id", keep="any")
    return cdm.conform("location", made), ids


def places(source: Source) -> dict[str, pl.DataFrame]:
    """Care sites with their locations, and providers, as far as resources describe them."""
    import polars as pl

    location, location_ids = _locations(source.sites)
    sites = source.sites.with_columns(location_id=location_ids).select(
        "location_id",
        care_site_id=keys_of("Organization", source.sites["id"]),
        care_site_name="name",
        place_of_service_concept_id=pl.lit(0),
        care_site_source_value="id",
        place_of_service_source_value="place",
    )
    providers = source.providers.select(
        provider_id=keys_of("Practitioner", source.providers["id"]),
        specialty_concept_id=pl.lit(0),
        year_of_birth=pl.col("birth").str.head(4).cast(pl.Int64, strict=False),
        gender_concept_id=concept_of("gender", facts().gender),
        provider_source_value="id",
        specialty_source_value="specialty",
        gender_source_value="gender",
    )
    return {
        "care_site": cdm.conform("care_site", sites),
        "provider": cdm.conform("provider", providers),
        "location": location,
    }


def named_only(kind: str, references: pl.Series) -> pl.DataFrame:
    """Rows for places or people that others name and nobody describes: the id alone.

    Args:
        kind: care_site or provider.
        references: Ids as sources write them.
    """
    import polars as pl

    resource = "Organization" if kind == "care_site" else "Practitioner"
    names = references.drop_nulls().unique()
    rows = pl.DataFrame({f"{kind}_id": keys_of(resource, names), f"{kind}_source_value": names})
    if kind == "care_site":
        return cdm.conform(kind, rows.with_columns(place_of_service_concept_id=pl.lit(0)))
    return cdm.conform(kind, rows.with_columns(specialty_concept_id=pl.lit(0), gender_concept_id=pl.lit(0)))


def visits(
    source: Source, persons: pl.DataFrame, known: pl.Series, *, study_days: bool
) -> tuple[dict[str, pl.DataFrame], pl.DataFrame, pl.DataFrame]:
    """Visits and, for those within another, visit details.

    Args:
        source: What was read.
        persons: subject and person_id.
        known: Concepts that exist in the vocabulary in use.
        study_days: Whether dates are study days.

    Returns:
        Tables; for linking: id, person_id, visit_occurrence_id, visit_detail_id, visit_start, visit_end; outcomes of
        those that are not loaded.
    """
    import polars as pl

    classes = {name: concept for name, concept in facts().visits.items() if concept in set(known.to_list())}
    start = first_day("start", "start_day", study_days=study_days)
    rows = (
        source.visits.join(persons.select("subject", "person_id"), on="subject", how="left")
        .with_columns(first=start, last=last_day("end", "end_day", study_days=study_days))
        .with_columns(
            disposition=pl.when(pl.col("skip").is_not_null()).then(pl.lit("ignored")).otherwise(pl.lit("quarantined")),
            reason=pl.coalesce(
                "skip",
                pl.when(pl.col("person_id").is_null()).then(pl.lit(NO_PERSON)),
                pl.when(pl.col("first").is_null()).then(pl.lit(NO_DATE)),
            ),
        )
    )
    bad = part("outcomes", rows.filter(pl.col("reason").is_not_null()))
    rows = rows.filter(pl.col("reason").is_null())
    rows = rows.with_columns(
        last=pl.when(pl.col("last") >= pl.col("first")).then("last").otherwise("first"),
        key=keys(rows.select(pl.col("kind") + "/" + pl.col("id")).to_series()),
        concept=concept_of("visit_class", classes) if classes else pl.lit(0, pl.Int64),
        provider_id=keys_of("Practitioner", rows["provider"]),
        care_site_id=keys_of("Organization", rows["site"]),
        start_time=moment("start", study_days=study_days),
        end_time=moment("end", study_days=study_days),
        # Trial visits are all of one class: their names say more.
        source_value=pl.when(pl.col("visit_class") == "SV")
        .then("label")
        .otherwise(pl.coalesce("visit_class", "label")),
    )
    rows = _within(rows)
    top = rows.filter(pl.col("top") == pl.col("key"))
    # By day, then key: two visits of a day have no order that would survive a reload.
    order = top.sort("person_id", "first", "key").with_columns(before=pl.col("key").shift(1).over("person_id"))
    occurrence = order.select(
        "person_id",
        "provider_id",
        "care_site_id",
        visit_occurrence_id="key",
        visit_concept_id="concept",
        visit_start_date="first",
        visit_start_datetime="start_time",
        visit_end_date="last",
        visit_end_datetime="end_time",
        visit_type_concept_id=type_concept("kind"),
        visit_source_value="source_value",
        visit_source_concept_id=pl.lit(0),
        admitted_from_concept_id=pl.when(pl.col("admitted").is_not_null()).then(0),
        admitted_from_source_value="admitted",
        discharged_to_concept_id=pl.when(pl.col("discharged").is_not_null()).then(0),
        discharged_to_source_value="discharged",
        preceding_visit_occurrence_id="before",
    )
    detail = rows.filter(pl.col("top") != pl.col("key")).select(
        "person_id",
        "provider_id",
        "care_site_id",
        visit_detail_id="key",
        visit_detail_concept_id="concept",
        visit_detail_start_date="first",
        visit_detail_start_datetime="start_time",
        visit_detail_end_date="last",
        visit_detail_end_datetime="end_time",
        visit_detail_type_concept_id=type_concept("kind"),
        visit_detail_source_value="source_value",
        visit_detail_source_concept_id=pl.lit(0),
        parent_visit_detail_id=pl.when(pl.col("parent_key") != pl.col("top")).then("parent_key"),
        visit_occurrence_id="top",
    )
    links = rows.select(
        "kind",
        "id",
        "person_id",
        visit_occurrence_id="top",
        visit_detail_id=pl.when(pl.col("top") != pl.col("key")).then("key"),
        zone=zone("start"),
        end_zone=zone("end"),
        visit_start="first",
        visit_end="last",
    )
    tables = {
        "visit_occurrence": cdm.conform("visit_occurrence", occurrence),
        "visit_detail": cdm.conform("visit_detail", detail),
    }
    return tables, links, bad


def _within(rows: pl.DataFrame) -> pl.DataFrame:
    """Adds parent_key (of the same person) and top, the visit that a visit lies in; itself for most."""
    import polars as pl

    if rows["parent"].null_count() == rows.height:
        return rows.with_columns(parent_key=pl.lit(None, pl.Int64), top=pl.col("key"))
    index = rows.select("person_id", parent="id", parent_key="key")
    rows = rows.join(index.unique(["person_id", "parent"]), on=["person_id", "parent"], how="left")
    ups = dict(rows.filter(pl.col("parent_key").is_not_null()).select("key", "parent_key").iter_rows())
    tops = {}
    for key in ups:
        seen, at = {key}, key
        while at in ups and ups[at] not in seen and len(seen) <= _DEPTH:
            at = ups[at]
            seen.add(at)
        tops[key] = key if at in ups else at
    made = pl.DataFrame({"key": list(tops), "top": list(tops.values())}, schema={"key": pl.Int64, "top": pl.Int64})
    return rows.join(made, on="key", how="left").with_columns(
        top=pl.coalesce("top", "key"),
        parent_key=pl.when(pl.col("top").is_not_null() & (pl.col("top") != pl.col("key"))).then("parent_key"),
    )
