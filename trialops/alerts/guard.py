"""Nothing that identifies a subject gets into an alert: known identifiers and patterns of them are replaced.

An alert leaves the platform: by mail, by chat, over a pager. It is raised all the same, since an alert refused is an
alert lost; the words are replaced, and the alert says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from trialops.errors import TrialOpsError

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from trialops.alerts.raise_alert import Alert

REDACTED = "[removed]"
FORBIDDEN = re.compile(
    r"(?i)(usubjid|subjid|subject(_?id)?|patient(_?id)?|mrn|ssn|birth(_?date)?|dob|name|email|phone|address|pseudonym)"
)
"""Names of labels that would hold a person's data."""

PATTERNS = (
    re.compile(r"\b\d{3}-\d{2}-\d{4}\b"),  # social security number
    re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+"),  # e-mail address
    re.compile(r"(?<![\w.-])(?:\+\d{1,3}[ .-]?)?\(?\d{3}\)?[ .-]\d{3}[ .-]\d{4}(?![\w-])"),  # telephone number
    re.compile(r"(?i)\b(?:mrn|ssn|dob|usubjid|subjid|patient|subject)\s*(?:id|no|number)?\s*[:=#]\s*\S+"),
    re.compile(r"\b(?=[a-z2-7]*[2-7])(?=[a-z2-7]*[a-z])[a-z2-7]{16}\b"),  # a pseudonym of the vault
    re.compile(r"(?<![\w-])[A-Za-z0-9]{2,12}-\d{2,5}-\d{3,6}(?![\w-])"),  # USUBJID: study-site-subject
    re.compile(r"(?<![\w-])\d{2,5}-\d{3,6}(?![\w-])"),  # site-subject
    re.compile(r"(?i)\b(?:patient|subject)/[A-Za-z0-9.\-]{1,64}"),  # a FHIR reference
)
SHORTEST = 4
"""A known identifier of fewer characters ("1") is no word to look for."""


@dataclass(frozen=True)
class Guard:
    """Known identifiers as whole words of lower case."""

    known: frozenset[str] = frozenset()

    def clean(self, text: str) -> str:
        """A text with everything that identifies a subject replaced."""
        if self.known:
            text = _WORD.sub(lambda found: self._word(found[0]), text)
        for pattern in PATTERNS:
            text = pattern.sub(REDACTED, text)
        return text

    def _word(self, word: str) -> str:
        bare = word.strip(".")  # a full stop ends a sentence, and may stand inside an identifier
        return word.replace(bare, REDACTED) if bare.lower() in self.known else word


_WORD = re.compile(r"[\w.\-]+")


def clean_alert(alert: Alert, guard: Guard) -> Alert:
    """The alert as it may be kept and told.

    Raises:
        TrialOpsError: A label's name says that it holds a person's data, or is none that Prometheus takes.
    """
    for label in alert.labels:
        if FORBIDDEN.fullmatch(label) or not re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]*", label):
            raise TrialOpsError(
                f"A label of an alert may not be called {label!r}",
                where=alert.name,
                fix="Labels name things, never people: letters, digits and underscores.",
            )
    labels = {key: guard.clean(str(value)) for key, value in sorted(alert.labels.items())}
    return replace(alert, labels=labels, summary=guard.clean(alert.summary))


def guard_of(engine: Engine) -> Guard:
    """The guard with the subjects and pseudonyms that a database knows now."""
    return Guard(_known(engine, _stamp(engine)))


def known_identifiers(engine: Engine) -> frozenset[str]:
    """Subjects and pseudonyms that the database holds, of every study, in lower case."""
    import sqlalchemy as sa

    from trialops.stores.database import reading
    from trialops.stores.tables import privacy_requests, pseudonym_links, quality_queries, safety_cases

    found: set[str] = set()
    with reading(engine) as connection:
        for column in (
            safety_cases.c.subject,
            quality_queries.c.subject,
            privacy_requests.c.subject,
            pseudonym_links.c.pseudonym,
        ):
            found |= set(_words(connection.execute(sa.select(column).distinct()).scalars()))
    return frozenset(found)


def _words(values: Iterable[str | None]) -> Iterable[str]:
    return (value.lower() for value in values if value and len(value) >= SHORTEST and _WORD.fullmatch(value))


def _stamp(engine: Engine) -> tuple[int, ...]:
    """Changes when any of the tables does: their rows are only added, or, links of erased subjects, removed."""
    import sqlalchemy as sa

    from trialops.stores.database import reading
    from trialops.stores.tables import privacy_requests, pseudonym_links, quality_queries, safety_cases

    with reading(engine) as connection:
        return tuple(
            int(connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one())
            for table in (safety_cases, quality_queries, privacy_requests, pseudonym_links)
        )


@lru_cache(maxsize=8)
def _known(engine: Engine, stamp: tuple[int, ...]) -> frozenset[str]:
    return known_identifiers(engine)
