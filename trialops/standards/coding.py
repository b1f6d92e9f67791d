"""Medical coding: conditions, laboratory tests, adverse events and medications, each with a status and its reasons."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from trialops.standards.coding_policy import policy
from trialops.standards.coding_sources import Source, sources
from trialops.standards.dictionaries import Dictionaries, TermDictionary, load_dictionaries
from trialops.standards.icd10 import RELEASE_NAME
from trialops.standards.loinc import check_digit
from trialops.standards.loinc_match import LocalTest, Ranked, properties_of
from trialops.standards.review import Candidate, Item, Waiting, item_key

if TYPE_CHECKING:
    import polars as pl

STATUSES = ("auto", "remembered", "review", "rejected")


@dataclass(frozen=True)
class Coding:
    """What came out for one source.

    Attributes:
        source: What was coded.
        status: "auto" (taken by rule), "remembered" (decided by a person before), "review" (waits for a person),
            "rejected" (stays uncoded; the reason says why).
        code, display: Empty unless the status is auto or remembered.
        score: Of the code, or of the best candidate.
        reason: Why it waits or stays uncoded; for remembered, whose decision.
        release: Of the code system.
        candidates: Best first.
    """

    source: Source
    status: str
    code: str = ""
    display: str = ""
    score: float = 0.0
    reason: str = ""
    release: str = ""
    candidates: tuple[Candidate, ...] = ()


@dataclass(frozen=True)
class Coded:
    """The result of a run.

    Attributes:
        codings: One per distinct source; the rows of all add up to the rows of the input that hold something.
        study: Study the keys are made for.
    """

    codings: tuple[Coding, ...]
    study: str
    releases: Mapping[str, str] = field(default_factory=dict)

    @property
    def waiting(self) -> list[Waiting]:
        """What a person must look at, as items of the queue; sources with the same key are one item."""
        items: dict[str, Waiting] = {}
        for coding in self.codings:
            if coding.status == "review":
                item = _waiting(coding)
                key, rows = item.key(self.study), 0
                if key in items:
                    rows = items[key].rows
                items[key] = Waiting(**{**item.__dict__, "rows": item.rows + rows})
        return list(items.values())

    def table(self) -> pl.DataFrame:
        """One row per distinct source: where it stands, what it was coded to, how and why."""
        import polars as pl

        numbers = {"score": pl.Float64(), "rows": pl.Int64()}
        schema = {name: numbers.get(name, pl.String()) for name in TERM_COLUMNS}
        rows = [_row(coding, self.study) for coding in self.codings]
        return pl.DataFrame(rows, schema=schema, orient="row").sort("table", "variable", "verbatim", "item", "day")

    def counts(self) -> dict[tuple[str, str], tuple[int, int]]:
        """Distinct sources and rows by (kind, status)."""
        found: dict[tuple[str, str], tuple[int, int]] = {}
        for coding in self.codings:
            key = (coding.source.kind, coding.status)
            terms, rows = found.get(key, (0, 0))
            found[key] = (terms + 1, rows + coding.source.rows)
        return found


TERM_COLUMNS = (
    *("item", "kind", "system", "table", "variable", "verbatim", "collected_code", "day", "context"),
    *("status", "code", "display", "score", "reason", "release", "candidates", "rows"),
)


class MedicalCodingOperator:
    """Codes clinical tables.

    Args:
        dictionaries: From :func:`load_dictionaries`; by default what ships with the project.
        study: The study decisions are remembered for.
        remembered: Settled items by key, from :meth:`ReviewQueue.decided`.
    """

    def __init__(
        self,
        dictionaries: Dictionaries | None = None,
        *,
        study: str = "trial",
        remembered: Mapping[str, Item] | None = None,
    ) -> None:
        self._with = dictionaries or load_dictionaries()
        self._study = study
        self._remembered = remembered or {}

    def run(
        self,
        tables: Mapping[str, pl.DataFrame],
        *,
        progress: Callable[[str, float | None], None] | None = None,
    ) -> Coded:
        """Code what the tables hold.

        Args:
            tables: SDTM domains (LB, VS, AE, MH, CM) and FHIR resource tables (Condition, Observation), by name.
            progress: Told what is going on.

        Returns:
            A coding for every distinct text; nothing is dropped.
        """
        conditions_in = "MedDRA" if self._with.meddra is not None else "ICD-10-CM"
        found = sources(tables, conditions_in=conditions_in)
        codings = []
        for number, source in enumerate(found):
            if progress is not None and number % 500 == 0:
                progress(f"coding {len(found)} distinct texts", number / max(1, len(found)))
            codings.append(self._code(source))
        releases = {"LOINC": self._with.loinc.release, "ICD-10-CM": RELEASE_NAME}
        for dictionary in (self._with.meddra, self._with.whodrug):
            if dictionary is not None:
                releases[dictionary.system] = dictionary.release
        return Coded(tuple(codings), self._study, releases)

    def _code(self, source: Source) -> Coding:
        fresh = self._fresh(source)
        item = self._remembered.get(_key(fresh, self._study))
        # A code that came with the data and is right on its day needs no decision, whatever was decided for others.
        if item is None or (source.code and fresh.status == "auto"):
            return fresh
        last = item.decisions[-1]
        if item.state == "rejected":
            return Coding(source, "rejected", reason=f"rejected by {last.actor}: {last.reason}", release=item.release)
        reason = f"decided by {last.actor}"
        return Coding(source, "remembered", item.code, item.display, 1.0, reason, item.release, fresh.candidates)

    def _fresh(self, source: Source) -> Coding:
        if source.system == "LOINC":
            return self._lab(source)
        if source.system == "ICD-10-CM":
            return self._condition(source)
        dictionary = self._with.meddra if source.system == "MedDRA" else self._with.whodrug
        return _term(source, dictionary)

    def _lab(self, source: Source) -> Coding:
        release = self._with.loinc.release
        test = LocalTest(
            source.verbatim,
            source.context.get("unit", ""),
            source.context.get("specimen", ""),
            source.context.get("testcd", ""),
            source.numeric,
        )
        if source.code:
            return self._collected_loinc(source, test)
        ranked = self._with.matcher.match(test, policy().keep_candidates)
        return _from_ranked(source, ranked, release)

    def _collected_loinc(self, source: Source, test: LocalTest) -> Coding:
        """A code that came with the data is kept, unless its check digit or its property speaks against it."""
        release = self._with.loinc.release
        term = self._with.matcher.by_code.get(source.code)
        reason = ""
        if not check_digit(source.code):
            reason = "the LOINC code that came with the data has a wrong check digit"
        elif term is not None and term.property and test.numeric:
            wanted = properties_of(test.unit, source.code)
            if wanted and term.property not in wanted:
                reason = f"the unit contradicts the property {term.property} of the LOINC code that came with the data"
        if not reason:
            display = source.verbatim if term is None else term.display()
            return Coding(source, "auto", source.code, display, 1.0, "came with the data", release)
        ranked = self._with.matcher.match(test, policy().keep_candidates)
        score = ranked.candidates[0].score if ranked.candidates else 0.0
        return Coding(source, "review", score=score, reason=reason, release=release, candidates=ranked.candidates)

    def _condition(self, source: Source) -> Coding:
        icd = self._with.icd
        if source.code:
            day = dt.date.fromisoformat(source.day) if source.day else None
            finding = icd.check(source.code, day)
            if finding.valid:
                return Coding(source, "auto", finding.code, finding.description, 1.0, "", finding.basis)
            offered = tuple(Candidate(code, text, 0.5, ("near the code given",)) for code, text in finding.suggestions)
            reason = f"{finding.code or 'the code'}: {finding.reason}"
            return Coding(source, "review", score=0.0, reason=reason, release=finding.basis, candidates=offered)
        hits = icd.search(source.verbatim, policy().keep_candidates)
        offered = tuple(Candidate(code, text, round(m.score, 4), (f"{m.how} text",)) for code, text, m in hits)
        doubt = "no candidate"
        if offered:
            best = [c for c in offered if c.score >= policy().term_score]
            doubt = "" if len(best) == 1 else "several codes have these words"
            if not best:
                doubt = f"the closest description has other words (score {offered[0].score:.2f})"
        return _from_ranked(source, Ranked(offered, doubt), RELEASE_NAME)


def _term(source: Source, dictionary: TermDictionary | None) -> Coding:
    if dictionary is None:
        return Coding(source, "rejected", reason=f"no {source.system} was given")
    return _from_ranked(source, dictionary.match(source.verbatim, policy().keep_candidates), dictionary.release)


def _from_ranked(source: Source, ranked: Ranked, release: str) -> Coding:
    best = ranked.candidates[0] if ranked.candidates else Candidate("", "", 0.0)
    if ranked.doubt:
        return Coding(source, "review", "", "", best.score, ranked.doubt, release, ranked.candidates)
    return Coding(source, "auto", best.code, best.display, best.score, "", release, ranked.candidates)


def _waiting(coding: Coding) -> Waiting:
    source = coding.source
    context = dict(source.context) | ({"code": source.code} if source.code else {})
    return Waiting(
        source.kind,
        source.system,
        source.verbatim or source.code,
        context,
        coding.candidates,
        coding.reason,
        coding.release,
        source.rows,
    )


def _key(coding: Coding, study: str) -> str:
    item = _waiting(coding)
    return item_key(study, item.kind, item.system, item.verbatim, item.context)


def _row(coding: Coding, study: str) -> Sequence[object]:
    source = coding.source
    return (
        _key(coding, study),
        source.kind,
        source.system,
        source.table,
        source.variable,
        source.verbatim,
        source.code,
        source.day,
        json.dumps(dict(source.context), sort_keys=True),
        coding.status,
        coding.code,
        coding.display,
        coding.score,
        coding.reason,
        coding.release,
        json.dumps([candidate.as_dict() for candidate in coding.candidates], sort_keys=True),
        source.rows,
    )
