"""What a study's safety work is decided by: the shipped policy and what the study file states, under one digest."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError
from trialops.stores.digest import document_digest

if TYPE_CHECKING:
    from trialops.safety.expectedness import ReferenceSafety
    from trialops.trial.study_file import StudyFile

HERE = Path(__file__).parent
TERM_COLUMNS = ("pt name", "pt_name", "preferred term", "pt", "aedecod", "term")
"""Headers under which a licensed list may have its preferred terms (EMA's IME list says PT Name)."""


@dataclass(frozen=True)
class SafetyPolicy:
    """A study's safety policy.

    Attributes:
        version: Of the shipped policy.
        criteria: AE variable -> criterion of ICH E2A, in order of gravity.
        fatal_outcomes: AEOUT of a fatal event.
        resolved_outcomes: AEOUT of an event that was over.
        death_terms: DSDECOD of a death.
        related: AEREL that say a reasonable possibility.
        not_related: AEREL that say there is none.
        important: Medically important preferred terms, upper case.
        references: Versions of the reference safety information of the study's products.
        awareness: Where day 0 comes from when nobody recorded it, in order.
        time_zone: IANA zone of the safety desk; due times are the end of a day there.
        teae_rule: Name of the rule for treatment-emergent events; empty for the default.
        teae_window_days: Days after the last dose that still count.
        digest: SHA-256 of all of it.
    """

    version: int
    criteria: Mapping[str, str]
    fatal_outcomes: tuple[str, ...]
    resolved_outcomes: tuple[str, ...]
    death_terms: tuple[str, ...]
    related: frozenset[str]
    not_related: frozenset[str]
    important: frozenset[str]
    references: tuple[ReferenceSafety, ...]
    awareness: tuple[str, ...]
    time_zone: str
    teae_rule: str = ""
    teae_window_days: int = 30
    digest: str = field(default="", compare=False)


def safety_policy(study: StudyFile) -> SafetyPolicy:
    """The policy of a study.

    Args:
        study: The study file; its `safety` section may map AEREL, name a list of medically important terms and the
            versions of the reference safety information.

    Raises:
        TrialOpsError: A file that is named cannot be read, a value is mapped both ways, or the time zone is not known.
    """
    from trialops.safety.clock_times import zone
    from trialops.safety.expectedness import references

    shipped = _shipped()
    stated = study.safety
    mapped = stated.get("causality") or shipped["causality"]
    related = frozenset(_upper(mapped.get("related", ())))
    not_related = frozenset(_upper(mapped.get("not_related", ())))
    if both := sorted(related & not_related):
        raise TrialOpsError(
            f"AEREL is mapped both ways: {', '.join(both)}", where=study.where, fix="Keep each value in one list."
        )
    terms = str(stated.get("medically_important_terms") or "")
    important = important_terms(study.beside(terms) if terms else HERE / "important_terms.txt")
    products = {str(p["name"]) for p in stated.get("products") or () if p["role"] == "investigational"}
    # A blinded subject may have had the investigational product: its reference counts, of several that of each.
    rsi = tuple(r for r in references(study) if r.product in {"", *products})
    seriousness = shipped["seriousness"]
    name = str(stated.get("time_zone") or "UTC")
    zone(name)
    teae_rule, teae_window = str(stated.get("teae_rule") or ""), int(stated.get("teae_window_days") or 30)
    content = {
        "shipped": shipped,
        "related": sorted(related),
        "not_related": sorted(not_related),
        "important": sorted(important),
        "references": [r.as_dict() for r in rsi],
        "time_zone": name,
        "teae": [teae_rule, teae_window],
    }
    return SafetyPolicy(
        version=int(shipped["version"]),
        criteria=dict(seriousness["criteria"]),
        fatal_outcomes=tuple(seriousness["fatal_outcomes"]),
        resolved_outcomes=tuple(seriousness["resolved_outcomes"]),
        death_terms=tuple(seriousness["death_terms"]),
        related=related,
        not_related=not_related,
        important=important,
        references=rsi,
        awareness=tuple(shipped["awareness"]),
        time_zone=name,
        teae_rule=teae_rule,
        teae_window_days=teae_window,
        digest=document_digest(content),
    )


def clock_days() -> dict[str, dict[str, int]]:
    """Calendar days of every clock, by authority: grave, serious, follow_up and, where there is one, complete."""
    return {name: dict(days) for name, days in _shipped()["clocks"].items() if name != "alerts"}


def alert_levels() -> tuple[float, ...]:
    """Shares of a clock's time at which people are alerted."""
    return tuple(float(level) for level in _shipped()["clocks"]["alerts"])


@cache
def _shipped() -> dict[str, Any]:
    import yaml

    loaded: dict[str, Any] = yaml.safe_load((HERE / "policy.yaml").read_text("utf-8"))
    return loaded


def important_terms(path: Path) -> frozenset[str]:
    """Preferred terms of a list of medically important events, upper case.

    Args:
        path: Text with one term a line (# starts a comment), or a table (comma, semicolon, tab, as exported from the
            licensed list) with a column of preferred terms.

    Raises:
        TrialOpsError: It cannot be read, or holds no term.
    """
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise TrialOpsError(
            f"The list of medically important terms cannot be read ({type(error).__name__})",
            where=path.name,
            fix="Name a UTF-8 text file, one preferred term a line, or a table exported as CSV.",
        ) from None
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    found = _table_terms(lines) if lines else None
    terms = frozenset(_upper(lines if found is None else found))
    if not terms:
        raise TrialOpsError("The list of medically important terms is empty", where=path.name)
    return terms


def _table_terms(lines: list[str]) -> list[str] | None:
    """The column of preferred terms of a table, titles above its header or not; None where the lines are no table."""
    for number, line in enumerate(lines[:20]):
        for mark in ("\t", ";", ",", "$"):
            heads = [cell.strip().lower() for cell in next(csv.reader([line], delimiter=mark))]
            at = next((heads.index(c) for c in TERM_COLUMNS if c in heads and len(heads) > 1), None)
            if at is not None:
                rows = csv.reader(lines[number + 1 :], delimiter=mark)
                return [row[at] for row in rows if len(row) > at]
    return None


def _upper(values: Any) -> list[str]:
    return [text for value in values if (text := " ".join(str(value).split()).upper())]
