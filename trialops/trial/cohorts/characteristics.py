"""What is known of persons on an index day: demographics, last values, history. One value per person and variable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from trialops.trial.cohorts.sql_criteria import STUDY_TREATMENT
from trialops.trial.cohorts.sql_values import aged

if TYPE_CHECKING:
    import polars as pl

    from trialops.trial.cohorts.evaluate import CdmTables


@dataclass(frozen=True)
class Variable:
    """A characteristic.

    Attributes:
        name: What a person calls it.
        kind: continuous, categorical (text) or binary (true where the person has it).
        values: One per person, in the order of the groups; null is missing.
        section: Heading it stands under.
    """

    name: str
    kind: Literal["continuous", "categorical", "binary"]
    values: pl.Series
    section: str


@cache
def policy() -> Mapping[str, Any]:
    """The content of table_one.yaml."""
    import yaml

    loaded: Mapping[str, Any] = yaml.safe_load(Path(__file__).with_name("table_one.yaml").read_text("utf-8"))
    return loaded


def characteristics(tables: CdmTables, groups: pl.DataFrame, names: Mapping[int, str]) -> list[Variable]:
    """The characteristics of some persons.

    Args:
        tables: The CDM.
        groups: person_id, index_date; one row per person.
        names: Concept names by id.
    """
    connection = tables.connection
    connection.register("index_days", groups.select("person_id", "index_date").to_arrow())
    try:
        return [
            *_demographics(tables, groups, names),
            *_measurements(tables, groups, names),
            *_history(tables, groups, names, "condition", "Conditions up to the index day", "conditions"),
            *_history(tables, groups, names, "drug", "Medicines up to the index day", "drugs"),
        ]
    finally:
        connection.unregister("index_days")


def _demographics(tables: CdmTables, groups: pl.DataFrame, names: Mapping[int, str]) -> list[Variable]:
    import polars as pl

    age = aged("AGE(i.index_date)", study_days=tables.study_days)
    periods = (
        "SELECT person_id, min(observation_period_start_date) AS first_day, "
        "max(observation_period_end_date) AS last_day FROM observation_period GROUP BY person_id"
    )
    found = tables.connection.sql(
        f"SELECT i.person_id, {age} AS age, d.gender_concept_id AS sex, d.race_concept_id AS race, "
        "d.ethnicity_concept_id AS ethnicity, i.index_date - o.first_day AS before, o.last_day - i.index_date AS after "
        "FROM index_days i LEFT JOIN person d ON d.person_id = i.person_id "
        f"LEFT JOIN ({periods}) o ON o.person_id = i.person_id"
    ).pl()
    found = groups.select("person_id").join(found, on="person_id", how="left", maintain_order="left")
    section = "Persons"

    def named(column: str) -> pl.Series:
        texts = {one: _label(one, None, names) for one in found[column].drop_nulls().unique().to_list() if one}
        return found[column].replace_strict(texts, default=None, return_dtype=pl.String)

    return [
        Variable("Age (years)", "continuous", found["age"].cast(pl.Float64), section),
        Variable("Sex", "categorical", named("sex"), section),
        Variable("Race", "categorical", named("race"), section),
        Variable("Ethnicity", "categorical", named("ethnicity"), section),
        Variable("Days observed before", "continuous", found["before"].cast(pl.Float64), section),
        Variable("Days observed after", "continuous", found["after"].cast(pl.Float64), section),
    ]


def _measurements(tables: CdmTables, groups: pl.DataFrame, names: Mapping[int, str]) -> list[Variable]:
    """The last value up to the index day of the measurements that most persons have, in their commonest unit."""
    import polars as pl

    last = tables.connection.sql(
        "SELECT i.person_id, t.measurement_concept_id AS concept, t.measurement_source_value AS source, "
        "coalesce(t.unit_source_value, '') AS unit, t.value_as_number AS value "
        "FROM index_days i JOIN measurement t ON t.person_id = i.person_id AND t.value_as_number IS NOT NULL "
        f"AND t.measurement_date BETWEEN i.index_date - {int(policy()['lookback_days'])} AND i.index_date "
        "QUALIFY row_number() OVER (PARTITION BY i.person_id, concept, source, unit "
        "ORDER BY t.measurement_date DESC, t.measurement_id DESC) = 1"
    ).pl()
    if last.is_empty():
        return []
    last = _labelled(last, names)
    counted = last.group_by("label", "unit").agg(n=pl.col("person_id").n_unique())
    common = counted.sort("n", "label", "unit", descending=[True, False, False]).unique("label", keep="first")
    chosen = common.sort("n", "label", descending=[True, False]).head(int(policy()["measurements"]))
    made = []
    for label, unit, _ in chosen.sort("label").iter_rows():
        mine = last.filter(pl.col("label") == label, pl.col("unit") == unit).unique("person_id", keep="first")
        values = groups.select("person_id").join(mine, on="person_id", how="left", maintain_order="left")["value"]
        made.append(Variable(f"{label} ({unit})" if unit else label, "continuous", values, "Last measurement"))
    return made


def _history(
    tables: CdmTables, groups: pl.DataFrame, names: Mapping[int, str], stem: str, section: str, count: str
) -> list[Variable]:
    """Whether a person had the conditions or medicines that most had; the trial's treatment is not among them."""
    import polars as pl

    table, start = {
        "condition": ("condition_occurrence", "condition_start_date"),
        "drug": ("drug_exposure", "drug_exposure_start_date"),
    }[stem]
    own = f"AND NOT coalesce(t.{STUDY_TREATMENT}, FALSE)" if stem == "drug" else ""
    had = tables.connection.sql(
        f"SELECT DISTINCT i.person_id, t.{stem}_concept_id AS concept, t.{stem}_source_value AS source "
        f"FROM index_days i JOIN {table} t ON t.person_id = i.person_id AND t.{start} <= i.index_date {own}"
    ).pl()
    if had.is_empty():
        return []
    had = _labelled(had, names).select("person_id", "label").unique()
    counted = had.group_by("label").len().sort("len", "label", descending=[True, False])
    made = []
    for label in sorted(counted.head(int(policy()[count]))["label"].to_list()):
        mine = had.filter(pl.col("label") == label)["person_id"]
        made.append(Variable(label, "binary", groups["person_id"].is_in(mine.implode()), section))
    return made


def _labelled(frame: pl.DataFrame, names: Mapping[int, str]) -> pl.DataFrame:
    """Adds label: the concept's name, or what the source calls it where there is no concept."""
    import polars as pl

    pairs = frame.select("concept", "source").unique()
    labels = pairs.with_columns(label=pl.Series([_label(c, s, names) for c, s in pairs.iter_rows()], dtype=pl.String))
    return frame.join(labels, on=["concept", "source"], how="left", nulls_equal=True).sort("person_id", "label")


def _label(concept: int | None, source: str | None, names: Mapping[int, str]) -> str:
    if concept:
        return names.get(concept, f"concept {concept}")
    return source or "not coded"
