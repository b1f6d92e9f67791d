"""The study file: what a sponsor states about a study, in one YAML file that every pipeline of it reads."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from trialops.errors import TrialOpsError
from trialops.stores.digest import document_digest

SHIPPED = Path(__file__).with_name("study.yaml")
SECTIONS = ("protocol", "safety", "sender", "milestones", "sites", "eligibility")
_NEEDED = ("protocol",)


@dataclass(frozen=True)
class StudyFile:
    """A study as its sponsor states it. Sections are read-only mappings, lists in them tuples; dates are ``date``.

    Attributes:
        protocol: Number, title, phase, planned enrolment, arms, schedule, blinded or not.
        safety: Products, authority numbers, reference safety information, causality, TEAE rule, time zone.
        sender: Who sends individual case safety reports.
        milestones: Planned dates; actual ones where no data can tell.
        sites: By SITEID: country, activation planned and done.
        eligibility: Where the criteria are.
        digest: SHA-256 of the content.
        where: Name of the file, fit for messages.
        folder: The file's folder, for paths named in it.
    """

    protocol: Mapping[str, Any]
    safety: Mapping[str, Any]
    sender: Mapping[str, Any]
    milestones: Mapping[str, Any]
    sites: Mapping[str, Any]
    eligibility: Mapping[str, Any]
    digest: str
    where: str
    folder: Path

    @property
    def number(self) -> str:
        """The protocol number."""
        return str(self.protocol["number"])

    @property
    def blinded(self) -> bool:
        """Whether outputs keep the treatment to themselves."""
        return bool(self.protocol["blinded"])

    def beside(self, path: str) -> Path:
        """A path named in the file: absolute, or relative to the file's folder."""
        return self.folder / path

    def require(self, section: str, key: str) -> Any:
        """A value that a caller cannot do without.

        Raises:
            TrialOpsError: The file does not state it.
        """
        value = getattr(self, section).get(key)
        if value is None or value == "" or value == ():
            raise TrialOpsError(
                f"The study file does not state {section}.{key}",
                where=self.where,
                fix=f"Add {key} to the section {section}, and name the file with the parameter study.",
            )
        return value


def study_file(path: str = "") -> StudyFile:
    """Read and check a study file.

    Args:
        path: YAML file; the demonstration trial's where it is empty.

    Raises:
        TrialOpsError: It cannot be read, a key is unknown or missing, or a value is of the wrong kind; all are named.
    """
    import yaml

    file = Path(path) if path else SHIPPED
    try:
        document = yaml.safe_load(file.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise TrialOpsError(
            f"The study file cannot be read ({type(error).__name__})",
            where=file.name,
            fix="Name a YAML file with the parameter study; trialops/trial/study.yaml is an example.",
        ) from None
    return parse_study(document, where=file.name, folder=file.parent)


def parse_study(document: Any, *, where: str = "study", folder: Path = SHIPPED.parent) -> StudyFile:
    """Check the content of a study file.

    Args:
        document: What the YAML holds.
        where: Name of the file, for errors.
        folder: Folder that paths in it are relative to.

    Raises:
        TrialOpsError: As in :func:`study_file`.
    """
    if not isinstance(document, Mapping):
        raise TrialOpsError(
            "The study file is not a YAML mapping", where=where, fix=f"Give it the sections {', '.join(SECTIONS)}."
        )
    sections = {key: value or {} for key, value in document.items() if key != "version"}
    faults = [*_needed(sections), *_faults(sections, _schema(), "")]
    if faults:
        raise TrialOpsError(
            f"The study file has {len(faults)} fault{'s' if len(faults) > 1 else ''}: " + "; ".join(faults),
            where=where,
            fix="Correct them; trialops/trial/study_schema.yaml lists every key.",
        )
    content = {name: sections.get(name, {}) for name in SECTIONS}
    frozen = {name: _frozen(value) for name, value in content.items()}
    return StudyFile(**frozen, digest=document_digest(_plain(content)), where=where, folder=folder)


@cache
def _schema() -> Mapping[str, Any]:
    import yaml

    loaded = yaml.safe_load(Path(__file__).with_name("study_schema.yaml").read_text("utf-8"))
    return {name: loaded["sections"][name] for name in SECTIONS}


def _needed(sections: Mapping[str, Any]) -> list[str]:
    return [f"{name} is missing" for name in _NEEDED if not sections.get(name)]


def _faults(value: Any, form: Any, at: str) -> Iterator[str]:
    """What is wrong with a value, each fault with its place."""
    if isinstance(form, Mapping):
        if not isinstance(value, Mapping):
            yield f"{at} must be a mapping"
            return
        for key, item in value.items():
            place = f"{at}.{key}".strip(".")
            if not isinstance(key, str):
                yield f"{place} must be in quotes: keys are text"
            elif key in form or "*" in form:
                yield from _faults(item, form.get(key, form.get("*")), place)
            else:
                near = difflib.get_close_matches(key, form, n=1)
                hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(form)}"
                yield f"{place} is unknown ({hint})"
        for key, inner in form.items():
            if isinstance(inner, str) and inner.endswith("!") and key not in value:
                yield f"{at}.{key} is missing"
    elif isinstance(form, Sequence) and not isinstance(form, str):
        if not isinstance(value, Sequence) or isinstance(value, str):
            yield f"{at} must be a list"
            return
        for number, item in enumerate(value, start=1):
            yield from _faults(item, form[0], f"{at}[{number}]")
    elif value is None:
        if form.endswith("!"):
            yield f"{at} is empty"
    elif problem := _kind(value, form.removesuffix("!")):
        yield f"{at} {problem}"


def _kind(value: Any, form: str) -> str:
    """Why a single value is not of its form; empty where it is."""
    if form.startswith("choice:"):
        choices = form.removeprefix("choice:").split("|")
        return "" if value in choices else f"must be one of {', '.join(choices)}"
    good = {
        "text": lambda: isinstance(value, str),
        "flag": lambda: isinstance(value, bool),
        "integer": lambda: isinstance(value, int) and not isinstance(value, bool),
        "number": lambda: isinstance(value, int | float) and not isinstance(value, bool),
        "date": lambda: isinstance(value, date) and not isinstance(value, datetime),
    }[form]()
    wanted = {"text": "text (put it in quotes)", "flag": "true or false", "date": "a day, YYYY-MM-DD, without quotes"}
    return "" if good else f"must be {wanted.get(form, 'a whole number' if form == 'integer' else 'a number')}"


def _frozen(value: Any) -> Any:
    if isinstance(value, Mapping):
        return MappingProxyType({key: _frozen(item) for key, item in value.items()})
    if isinstance(value, list | tuple):
        return tuple(_frozen(item) for item in value)
    return value


def _plain(value: Any) -> Any:
    """JSON values of the content."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value.isoformat() if isinstance(value, date) else value
