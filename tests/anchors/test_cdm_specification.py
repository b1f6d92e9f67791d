"""The CDM as data against the specification that OHDSI publishes."""

from __future__ import annotations

import csv
from pathlib import Path

from trialops.standards import cdm


def test_every_field(anchors: Path) -> None:
    expected = []
    with (anchors / "omop-cdm-5.4" / "OMOP_CDMv5.4_Field_Level.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if not row["cdmTableName"]:
                continue
            none = {key: None if value == "NA" else value.lower() for key, value in row.items()}
            expected.append(
                (
                    none["cdmTableName"],
                    (none["cdmFieldName"] or "").strip('"'),
                    none["cdmDatatype"],
                    row["isRequired"] == "Yes",
                    row["isPrimaryKey"] == "Yes",
                    none["fkTableName"],
                    none["fkFieldName"],
                    None if row["fkDomain"] == "NA" else row["fkDomain"],
                    None if row["fkClass"] == "NA" else row["fkClass"],
                )
            )
    found = [
        (
            table.name,
            field.name,
            f"varchar({field.length})" if field.length else "varchar(max)" if field.type == "text" else field.type,
            field.required,
            field.primary_key,
            field.foreign_table,
            field.foreign_field,
            field.domain,
            field.concept_class,
        )
        for table in cdm.spec().values()
        for field in table.fields
    ]
    assert len(expected) == 432
    assert found == expected


def test_every_table_is_in_its_schema(anchors: Path) -> None:
    with (anchors / "omop-cdm-5.4" / "OMOP_CDMv5.4_Table_Level.csv").open(encoding="utf-8") as file:
        expected = {row["cdmTableName"].lower(): row["schema"] for row in csv.DictReader(file)}
    assert {table.name: table.schema for table in cdm.spec().values()} == expected
