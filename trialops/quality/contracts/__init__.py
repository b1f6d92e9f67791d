"""Schema contracts of the sources: which columns, of which type, null or not, unique, which values; as rules.

A contract is data (a YAML file beside this module, and for SDTM the intake's own catalogue of domains) that becomes
rules of the one engine. The contract of OMOP tables is the CDM specification itself, checked by `quality.dqd`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from trialops.errors import TrialOpsError
from trialops.intake.domains import RECEIVED, ROW, SOURCE, catalog
from trialops.quality.rules import RuleBook, parse

NAMES = ("sdtm", "fhir", "hl7")


@cache
def _data(name: str) -> dict[str, Any]:
    import yaml

    if name not in NAMES:
        raise TrialOpsError(
            f"There is no schema contract {name!r}", where="quality/contracts", fix=f"Use one of {', '.join(NAMES)}."
        )
    read: dict[str, Any] = yaml.safe_load(Path(__file__).with_name(f"{name}.yaml").read_text("utf-8"))
    return read


def contract(name: str, tables: Iterable[str]) -> RuleBook:
    """The rules of a source's contract.

    Args:
        name: "sdtm" (tables as received), "fhir" (resource tables by type) or "hl7" (laboratory results).
        tables: Names of the tables at hand; an entry "*" of the contract holds for each of them.

    Raises:
        TrialOpsError: There is no such contract.
    """
    data, names = _data(name), list(tables)
    items: list[dict[str, Any]] = []
    for table, spec in data.get("tables", {}).items():
        for one in names if table == "*" else [table]:
            items += _table_rules(name, one, spec)
    if name == "sdtm":
        for code in sorted(set(catalog().domains)):
            if code in names or code in catalog().required:
                items += _table_rules(name, code, _sdtm_spec(code))
        items += [_bound(rule, code) for code in names if code in catalog().domains for rule in data["every"]]
    items += [rule for rule in data.get("rules", []) if rule["domain"] in names]
    head = {k: data[k] for k in ("version", "gate", "fatal_cap", "weights")}
    return parse({**head, "rules": items}, data.get("limits", {}))


def _bound(rule: Mapping[str, Any], table: str) -> dict[str, Any]:
    """A rule for every table, for one of them."""
    return {**rule, "id": f"sdtm.{table}.{rule['id']}", "domain": table}


def _sdtm_spec(code: str) -> dict[str, Any]:
    """The contract of an SDTM domain, from the intake's catalogue."""
    spec = catalog().domains[code]
    own = {SOURCE: "text", ROW: "number", RECEIVED: "date"}
    columns: dict[str, dict[str, Any]] = {}
    for column in dict.fromkeys([*spec.columns, *spec.key]):
        kind = "number" if catalog().is_numeric(code, column) else "text"
        columns[column] = {"type": kind, "null": column not in ("STUDYID", *spec.key)}
    return {"columns": columns | {c: {"type": kind, "null": True} for c, kind in own.items()}, "unique": []}


def _table_rules(book: str, table: str, spec: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Rules of one table: present, columns, types, nulls, values, patterns, keys."""
    start = f"{book}.{table}"
    severity = spec.get("severity", "fatal")
    columns: Mapping[str, Mapping[str, Any]] = spec["columns"]
    common = {"domain": table, "severity": severity}
    yield {
        **common,
        "id": f"{start}.columns",
        "check": "required_column",
        "columns": list(columns),
        "message": "A column of the contract is missing",
        "category": "conformance",
    }
    for column, about in columns.items():
        one = {**common, "column": column}
        yield {
            **one,
            "id": f"{start}.{column}.type",
            "check": "column_type",
            "type": about["type"],
            "message": f"{column} is not of type {about['type']}",
            "category": "conformance",
        }
        if not about.get("null", True):
            yield {
                **one,
                "id": f"{start}.{column}.given",
                "check": "completeness",
                "message": f"{column} is empty",
                "category": "completeness",
            }
        if "values" in about:
            yield {
                **one,
                "id": f"{start}.{column}.values",
                "check": "value_set",
                "values": about["values"],
                "severity": "major",
                "message": f"{column} holds a value that the contract does not know",
                "category": "conformance",
            }
        if "pattern" in about:
            yield {
                **one,
                "id": f"{start}.{column}.form",
                "check": "pattern",
                "pattern": about["pattern"].replace("{table}", table),
                "severity": "major",
                "message": f"{column} does not have the form of the contract",
                "category": "conformance",
            }
    for key in spec.get("unique", []):
        yield {
            **common,
            "id": f"{start}.{'+'.join(key)}.unique",
            "check": "unique_key",
            "columns": key,
            "message": f"{' and '.join(key)} occurs twice",
            "category": "conformance",
        }
    for column, (other, field) in spec.get("references", {}).items():
        yield {
            **common,
            "id": f"{start}.{column}.known",
            "check": "foreign_key",
            "column": column,
            "table": other,
            "other": field,
            "severity": "major",
            "message": f"{column} names nothing in {other}",
            "category": "conformance",
        }
