"""The OHDSI Data Quality Dashboard's 27 check types as rules of our engine, read from dqd.yaml."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from trialops.quality.rules import Rule, RuleBook
from trialops.standards.cdm import Field, spec

ALWAYS = ("cdmField", "cdmDatatype")
"""Checks that every field has; measureValueCompleteness too, whose threshold depends on whether it is required."""


def rules_from(data: dict[str, Any]) -> tuple[Rule, ...]:
    """Every instantiation of the check types.

    Args:
        data: Content of dqd.yaml.

    Returns:
        Rules named `table[.field].check[.concept]`, tables in the order of the CDM.

    Raises:
        ValueError: A token that is not in the list of check types.
    """
    by_token = {item[0]: name for name, item in data["checks"].items() if item[0]}
    found: dict[str, list[Rule]] = {table: [] for table in spec()}

    def add(check: str, table: str, field: str = "", concept: str = "", **more: Any) -> None:
        _, level, severity, context, category, subcategory, usual, message = data["checks"][check]
        threshold = more.pop("threshold", None)
        arguments = {"level": level, "context": context, "subcategory": subcategory or "", **more}
        if field:
            arguments["column"] = field
        found[table].append(
            Rule(
                id=".".join(part for part in (table, field, check, concept.replace(" ", "+")) if part),
                domain=table,
                check=check,
                severity=severity,
                threshold=float(usual if threshold is None else threshold),
                message=f"{message} ({field or table}{f', concept {concept}' if concept else ''})",
                category=category,
                arguments=arguments,
            )
        )

    for table in spec().values():
        add("cdmTable", table.name)
        for token, argument, threshold in _tokens(data["tables"].get(table.name, "")):
            add(_named(by_token, token), table.name, threshold=threshold, argument=argument)
        for field in table.fields:
            kind, tokens = _field_tokens(field, data["fields"].get(f"{table.name}.{field.name}", ""))
            for check in ALWAYS:
                add(check, table.name, field.name, argument=kind)
            add("measureValueCompleteness", table.name, field.name, threshold=0 if field.required else None)
            for token, argument, threshold in tokens:
                add(_named(by_token, token), table.name, field.name, threshold=threshold, argument=argument)
    for group, check in (
        ("genders", "plausibleGender"),
        ("descendants", "plausibleGenderUseDescendants"),
        ("units", "plausibleUnitConceptIds"),
    ):
        for key, concepts in data[group].items():
            place, _, expected = key.partition(" ")
            table, field = place.split(".")
            for concept in str(concepts).split(", "):
                add(check, table, field, " ".join(concept.split()), argument=expected)
    return tuple(rule for rules in found.values() for rule in rules)


Token = tuple[str, str, float | None]


def _field_tokens(field: Field, text: str) -> tuple[str, list[Token]]:
    """The type of a field and its checks: those of the specification, changed and added to by the dashboard's."""
    own = {token: (token, argument, threshold) for token, argument, threshold in _tokens(text)}
    kind = {"varchar": f"varchar({field.length})", "text": "varchar(max)"}.get(field.type, field.type)
    if "type" in own:
        kind = own.pop("type")[1]
    given: dict[str, Token] = {}
    if field.required:
        given["required"] = ("required", "", None)
    if field.primary_key:
        given["key"] = ("key", "", None)
    if field.foreign_table:
        given["fk"] = ("fk", f"{field.foreign_table}.{field.foreign_field}", None)
    if field.domain and "no-domain" not in own:
        given["domain"] = ("domain", field.domain, None)
    if field.concept_class:
        given["class"] = ("class", field.concept_class, None)
    own.pop("no-domain", None)
    return kind, list({**given, **own}.values())


def _tokens(text: str) -> Iterator[Token]:
    """Split a line of tokens: token [argument] [@threshold], separated by "; "."""
    for part in filter(None, text.split("; ")):
        body, _, threshold = part.partition("@")
        token, _, argument = body.strip().partition(" ")
        yield token, argument.strip(), float(threshold) if threshold else None


def _named(by_token: dict[str, str], token: str) -> str:
    if token not in by_token:
        raise ValueError(f"dqd.yaml: there is no check type for {token!r}")
    return by_token[token]


@cache
def dqd_data() -> dict[str, Any]:
    """Content of dqd.yaml."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    read: dict[str, Any] = yaml.load(Path(__file__).with_name("dqd.yaml").read_text("utf-8"), Loader=loader)
    return read


@cache
def omop_rules() -> RuleBook:
    """The rule book for OMOP CDM 5.4 tables."""
    data = dqd_data()
    weights = {name: float(w) for name, w in data["weights"].items()}
    version = f"OHDSI DQD {data['version']}"
    return RuleBook(version, rules_from(data), float(data["gate"]), float(data["fatal_cap"]), weights)
