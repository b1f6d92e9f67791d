"""Expectedness: an event against the reference safety information that was in force when it began.

An event is expected when its preferred term is listed in the version in force at onset and it is no more severe and no
more specific than listed (ICH E2A II.C; 21 CFR 312.32(a); Regulation (EU) 536/2014 Annex III 2.3). A fatal or
life-threatening event is expected only where the list says so for its term. An onset that is only partly known is
judged by every version that may have been in force: expected only if by all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError

if TYPE_CHECKING:
    import polars as pl

    from trialops.trial.study_file import StudyFile

SEVERITIES = ("MILD", "MODERATE", "SEVERE", "LIFE THREATENING", "FATAL")
"""AESEV in order, with the two that AETOXGR adds."""


@dataclass(frozen=True)
class Listed:
    """One listed reaction.

    Attributes:
        term: Preferred term, upper case.
        max_severity: Worst AESEV that is still as listed; empty for any that is not fatal or life-threatening.
        max_grade: Worst CTCAE grade that is still as listed; None for any below 4.
        fatal: A fatal outcome is listed.
        life_threatening: A life-threatening course is listed.
        more_specific: Lowest-level terms under the term that say more than is listed: those are unexpected.
    """

    term: str
    max_severity: str = ""
    max_grade: int | None = None
    fatal: bool = False
    life_threatening: bool = False
    more_specific: tuple[str, ...] = ()


@dataclass(frozen=True)
class ReferenceSafety:
    """One version of a product's reference safety information.

    Attributes:
        version: As the document calls it.
        product: Product it is of; empty for the study's investigational product.
        valid_from: First day in force.
        valid_to: Last day in force; None until the next version begins.
        terms: What is listed, by term.
    """

    version: str
    product: str
    valid_from: date
    valid_to: date | None
    terms: Mapping[str, Listed]

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "version": self.version,
            "product": self.product,
            "valid_from": self.valid_from.isoformat(),
            "valid_to": self.valid_to.isoformat() if self.valid_to else None,
            "terms": [
                asdict(item) | {"more_specific": list(item.more_specific)} for _, item in sorted(self.terms.items())
            ],
        }


@dataclass(frozen=True)
class Expectedness:
    """The answer: expected, unexpected, or None where there is no reference at all; and what it rests on."""

    expected: bool | None
    reason: str
    versions: tuple[str, ...]


def references(study: StudyFile) -> tuple[ReferenceSafety, ...]:
    """The versions that a study file names, each from its own YAML file or with its terms in place.

    Raises:
        TrialOpsError: A file cannot be read, a key is unknown, or two versions of a product are in force on one day.
    """
    found: list[ReferenceSafety] = []
    for item in study.safety.get("reference_safety_information") or ():
        stated = {"version": item["version"], "valid_from": item["valid_from"], "valid_to": item.get("valid_to")}
        if item.get("path"):
            found += read_reference(study.beside(str(item["path"])), **stated)
        else:
            terms = {t: Listed(t) for t in (_term(str(raw)) for raw in item.get("terms") or ())}
            found.append(ReferenceSafety(str(item["version"]), "", item["valid_from"], item.get("valid_to"), terms))
    return _in_order(found, study.where)


def read_reference(
    path: Path, *, version: str = "", valid_from: date | None = None, valid_to: date | None = None
) -> list[ReferenceSafety]:
    """Versions of the reference safety information from a YAML file.

    The file has `product` and `versions`: a list of `version`, `valid_from`, `valid_to` and `terms`, a list of terms or
    of mappings with `term`, `max_severity`, `max_grade`, `fatal`, `life_threatening`, `more_specific`. Where a version
    is asked for, only that one is returned, valid as stated.

    Raises:
        TrialOpsError: The file cannot be read, holds an unknown key, or has no such version.
    """
    import yaml

    try:
        document = yaml.safe_load(path.read_text("utf-8"))
        product = str(document.get("product", ""))
        versions = [_version(item, product, path.name) for item in document["versions"]]
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise TrialOpsError(
            f"The reference safety information cannot be read ({type(error).__name__})",
            where=path.name,
            fix="Give YAML with product and versions; trialops/safety/reference_safety.yaml is an example.",
        ) from None
    if not version:
        return versions
    chosen = [v for v in versions if v.version == version]
    if not chosen:
        raise TrialOpsError(f"The file has no version {version!r}", where=path.name)
    one = chosen[0]
    return [ReferenceSafety(one.version, product, valid_from or one.valid_from, valid_to or one.valid_to, one.terms)]


def _version(item: Mapping[str, Any], product: str, where: str) -> ReferenceSafety:
    if strange := sorted(set(item) - {"version", "valid_from", "valid_to", "terms", "document"}):
        raise TrialOpsError(f"Unknown in a version: {', '.join(strange)}", where=where)
    terms = {}
    for raw in item["terms"] or ():
        one = {"term": raw} if isinstance(raw, str) else dict(raw)
        if strange := sorted(set(one) - set(Listed.__dataclass_fields__)):
            raise TrialOpsError(f"Unknown in a listed term: {', '.join(strange)}", where=where)
        severity = str(one.get("max_severity", "")).upper()
        if severity and severity not in SEVERITIES:
            raise TrialOpsError(
                f"{severity!r} is not a severity", where=where, fix=f"Use one of {', '.join(SEVERITIES)}."
            )
        one |= {"term": _term(one["term"]), "max_severity": severity}
        one["more_specific"] = tuple(_term(t) for t in one.get("more_specific", ()))
        terms[one["term"]] = Listed(**one)
    return ReferenceSafety(str(item["version"]), product, item["valid_from"], item.get("valid_to"), terms)


def _in_order(found: Sequence[ReferenceSafety], where: str) -> tuple[ReferenceSafety, ...]:
    """By product and first day, each ended by the next; overlaps refused."""
    ordered = sorted(found, key=lambda r: (r.product, r.valid_from))
    closed = []
    for number, one in enumerate(ordered):
        after = ordered[number + 1] if number + 1 < len(ordered) else None
        if after is not None and after.product == one.product:
            if one.valid_to is None:
                one = ReferenceSafety(
                    one.version, one.product, one.valid_from, after.valid_from - timedelta(days=1), one.terms
                )
            if one.valid_to is not None and one.valid_to >= after.valid_from:
                raise TrialOpsError(
                    f"Two versions of the reference safety information are in force at once: {one.version}, "
                    f"{after.version}",
                    where=where,
                    fix="End the one the day before the other begins.",
                )
        closed.append(one)
    return tuple(closed)


def expectedness(
    versions: Sequence[ReferenceSafety],
    *,
    term: str,
    lowest: str = "",
    earliest: date | None,
    latest: date | None,
    severity: str = "",
    grade: int | None = None,
    fatal: bool = False,
    life_threatening: bool = False,
) -> Expectedness:
    """Judge one event.

    Args:
        versions: Of one product.
        term: Preferred term.
        lowest: Lowest-level term, where there is one.
        earliest: First day the onset can mean; None where nothing is known.
        latest: Last day it can mean.
        severity: AESEV.
        grade: CTCAE grade.
        fatal: The outcome is fatal.
        life_threatening: It was life-threatening.

    Returns:
        Expected only if by every version that may have been in force, and if one was in force on every day the onset
        can mean.
    """
    if not versions:
        return Expectedness(None, "no reference safety information", ())
    low, high = earliest or date.min, latest or date.max
    if earliest is not None and latest is not None and low > high:
        low, high = high, low
    force = [v for v in versions if v.valid_from <= high and (v.valid_to is None or v.valid_to >= low)]
    names = tuple(v.version for v in force)
    if not _covered(force, low, high):
        return Expectedness(False, "no version was in force on a day the onset can mean", names)
    for version in force:
        reason = _unlike(
            version.terms.get(_term(term)), _term(lowest), severity.strip().upper(), grade, fatal, life_threatening
        )
        if reason:
            return Expectedness(False, f"{reason} ({version.version})", names)
    return Expectedness(True, "listed, no more severe and no more specific", names)


def _covered(force: Sequence[ReferenceSafety], low: date, high: date) -> bool:
    at = low
    for one in sorted(force, key=lambda v: v.valid_from):
        if one.valid_from > at:
            return False
        if one.valid_to is None or one.valid_to >= high:
            return True
        at = max(at, one.valid_to + timedelta(days=1))
    return False


def _unlike(
    listed: Listed | None, lowest: str, severity: str, grade: int | None, fatal: bool, life_threatening: bool
) -> str:
    """Why an event is not as listed; empty where it is."""
    if listed is None:
        return "the term is not listed"
    if lowest and lowest in listed.more_specific:
        return "more specific than listed"
    if (fatal or grade == 5 or severity == "FATAL") and not listed.fatal:
        return "a fatal outcome is not listed"
    threat = life_threatening or grade == 4 or severity == "LIFE THREATENING"
    if threat and not (listed.life_threatening or listed.fatal):
        return "a life-threatening course is not listed"
    if listed.max_severity:
        # A severity nobody stated may be worse than listed.
        if severity not in SEVERITIES:
            return "the severity is not known and the list limits it"
        if SEVERITIES.index(severity) > SEVERITIES.index(listed.max_severity):
            return "more severe than listed"
    if listed.max_grade is not None and (grade is None or grade > listed.max_grade):
        return "the grade is higher than listed or not known"
    return ""


def _term(text: str) -> str:
    return " ".join(str(text).split()).upper()


def expected_column(events: pl.DataFrame, versions: Sequence[ReferenceSafety]) -> pl.Series:
    """EXPECTED of every event, judged once for each different kind of event.

    Args:
        events: With AEDECOD, ONSET_EARLIEST, ONSET_LATEST, FATAL, LIFE_THREATENING, GRADE; AELLT, AESEV where there.
        versions: Of one product.

    Returns:
        Boolean, null where there is no reference at all.
    """
    import polars as pl

    keys = ["AEDECOD", "ONSET_EARLIEST", "ONSET_LATEST", "FATAL", "LIFE_THREATENING", "GRADE"]
    named = events.with_columns(pl.lit("").alias(c) for c in ("AELLT", "AESEV") if c not in events.columns)
    kinds = named.select(*keys, "AELLT", "AESEV").unique(maintain_order=True)
    answers = [
        expectedness(
            versions,
            term=row["AEDECOD"] or "",
            lowest=row["AELLT"] or "",
            earliest=row["ONSET_EARLIEST"],
            latest=row["ONSET_LATEST"],
            severity=row["AESEV"] or "",
            grade=row["GRADE"],
            fatal=row["FATAL"],
            life_threatening=row["LIFE_THREATENING"],
        ).expected
        for row in kinds.iter_rows(named=True)
    ]
    judged = kinds.with_columns(pl.Series("EXPECTED", answers, dtype=pl.Boolean))
    joined = named.join(judged, on=kinds.columns, how="left", nulls_equal=True, maintain_order="left")
    return joined["EXPECTED"]
