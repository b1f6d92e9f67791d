"""Our small form of a cohort definition: YAML that becomes the same expression as the JSON of ATLAS.

    name: skin-reaction
    title: Skin reactions under treatment
    concept_sets:
      skin: {source: [PRURITUS, ERYTHEMA], concepts: [{id: 4169287, descendants: true}]}
    entry:
      any_of: [{condition: {of: skin}}]
      limit: first
    rules:
      - name: Aged 65 or more
        all_of: [{age: ">= 65"}]
      - name: Exposed within the 14 days before
        all_of: [{drug: {of: patch}, occurs: at least 1, within: [-14, 0]}]
    exit: {days: 30, after: start}

A criterion is a domain with attributes, named as in ATLAS in lower case with underscores (`range_high_ratio: "> 1"`).
Around it `occurs` counts, `within` and `ends_within` give days relative to the index (`any` for all days), `from: end`
counts them from the index event's end. `study_day: 1 to 28` asks for study days of a de-identified trial.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from trialops.errors import TrialOpsError
from trialops.standards.calendar import date_of
from trialops.trial.cohorts.domains import DEMOGRAPHICS, DOMAINS, Attribute

NAMES = {
    "condition": "ConditionOccurrence",
    "drug": "DrugExposure",
    "measurement": "Measurement",
    "observation": "Observation",
    "procedure": "ProcedureOccurrence",
    "visit": "VisitOccurrence",
    "death": "Death",
    "drug_era": "DrugEra",
    "condition_era": "ConditionEra",
    "observation_period": "ObservationPeriod",
}
GROUPS = {"all_of": "ALL", "any_of": "ANY", "at_least": "AT_LEAST", "at_most": "AT_MOST"}
OCCURS = {"exactly": 0, "at most": 1, "at least": 2}
SEXES = {"M": 8507, "F": 8532}
OPERATORS = {"<": "lt", "<=": "lte", "=": "eq", "!=": "!eq", ">": "gt", ">=": "gte"}
TOP = (
    "name",
    "title",
    "description",
    "compare",
    "study_days",
    "concept_sets",
    "entry",
    "rules",
    "additional",
    "limit",
    "exit",
    "censor_at",
    "merge_within",
    "between",
)
_RANGE = re.compile(
    r"^(?:(?P<op><=|>=|!=|<|>|=)\s*(?P<value>\S+)|(?P<not>not\s+)?(?P<first>\S+)\s+to\s+(?P<last>\S+))$"
)
_TEXT = re.compile(r"^(?P<not>not )?(?P<op>contains|startsWith|endsWith) (?P<text>.+)$")


def to_circe(document: Any, where: str = "definition") -> dict[str, Any]:
    """The expression of a YAML definition as cohort-expression JSON.

    Args:
        document: What the YAML holds.
        where: Name of the file, for errors.

    Raises:
        TrialOpsError: A key is unknown or a value cannot be read; `where` is its place.
    """
    return _Form(where).whole(document)


class _Form:
    def __init__(self, where: str) -> None:
        self.where = where
        self.sets: dict[str, int] = {}

    def fail(self, at: str, what: str) -> TrialOpsError:
        return TrialOpsError(
            f"The cohort definition cannot be read: {what}",
            where=f"{self.where}: {at}",
            fix="trialops/trial/cohorts/examples holds definitions to start from.",
        )

    def known(self, value: Any, at: str, names: Any) -> Mapping[str, Any]:
        if not isinstance(value, Mapping):
            raise self.fail(at, "a mapping is needed here")
        for key in value:
            if key not in names:
                raise self.fail(f"{at}.{key}", f"{key} is unknown; known are {', '.join(names)}")
        return value

    def listed(self, value: Any, at: str) -> list[Any]:
        if not isinstance(value, list):
            raise self.fail(at, "a list is needed here")
        return value

    # -- the whole ---------------------------------------------------------------------------------------------

    def whole(self, document: Any) -> dict[str, Any]:
        top = self.known(document, "top", TOP)
        if "entry" not in top:
            raise self.fail("entry", "nothing says what starts a membership")
        sets = [self.concept_set(k, v, n) for n, (k, v) in enumerate((top.get("concept_sets") or {}).items())]
        entry = self.known(top["entry"], "entry", ("any_of", "observed", "limit"))
        observed = self.known(entry.get("observed", {}), "entry.observed", ("before", "after"))
        made: dict[str, Any] = {
            "ConceptSets": sets,
            "PrimaryCriteria": {
                "CriteriaList": self.plain(entry.get("any_of"), "entry.any_of"),
                "ObservationWindow": {"PriorDays": observed.get("before", 0), "PostDays": observed.get("after", 0)},
                "PrimaryCriteriaLimit": {"Type": str(entry.get("limit", "first"))},
            },
            "QualifiedLimit": {"Type": "All"},
            "ExpressionLimit": {"Type": str(top.get("limit", "first"))},
            "InclusionRules": [self.rule(r, f"rules[{n}]") for n, r in enumerate(top.get("rules") or [])],
            "CollapseSettings": {"CollapseType": "ERA", "EraPad": top.get("merge_within", 0)},
            "StudyDays": bool(top.get("study_days", False)),
        }
        if "additional" in top:
            made["AdditionalCriteria"] = self.group(top["additional"], "additional")
        if "censor_at" in top:
            made["CensoringCriteria"] = self.plain(top["censor_at"], "censor_at")
        if "between" in top:
            span = self.known(top["between"], "between", ("start", "end"))
            made["CensorWindow"] = {f"{k.title()}Date": str(v) for k, v in span.items()}
        if "exit" in top:
            made["EndStrategy"] = self.leaving(top["exit"])
        return made

    def concept_set(self, name: str, value: Any, number: int) -> dict[str, Any]:
        at = f"concept_sets.{name}"
        item = self.known(value, at, ("source", "concepts", "study_treatment"))
        self.sets[name] = number
        items = []
        for place, one in enumerate(item.get("concepts", [])):
            content = one if isinstance(one, Mapping) else {"id": one}
            content = self.known(content, f"{at}.concepts[{place}]", ("id", "descendants", "mapped", "excluded"))
            items.append(
                {
                    "concept": {"CONCEPT_ID": content.get("id")},
                    "includeDescendants": bool(content.get("descendants", False)),
                    "includeMapped": bool(content.get("mapped", False)),
                    "isExcluded": bool(content.get("excluded", False)),
                }
            )
        return {
            "id": number,
            "name": name,
            "expression": {"items": items},
            "sourceValues": [str(text) for text in self.listed(item.get("source", []), f"{at}.source")],
            "studyTreatment": bool(item.get("study_treatment", False)),
        }

    def set_id(self, name: Any, at: str) -> int:
        if name not in self.sets:
            raise self.fail(at, f"there is no concept set {name}")
        return self.sets[name]

    def rule(self, value: Any, at: str) -> dict[str, Any]:
        content = self.known(value, at, ("name", "description", *GROUPS))
        group = {key: item for key, item in content.items() if key in GROUPS}
        return {
            "name": str(content.get("name", at)),
            "description": str(content.get("description", "")),
            "expression": self.group(group, at),
        }

    def leaving(self, value: Any) -> dict[str, Any]:
        content = self.known(value, "exit", ("days", "after", "while_exposed", "gap", "extra", "days_supply"))
        if "while_exposed" in content:
            era = {
                "DrugCodesetId": self.set_id(content["while_exposed"], "exit.while_exposed"),
                "GapDays": content.get("gap", 0),
                "Offset": content.get("extra", 0),
                "DaysSupplyOverride": content.get("days_supply"),
            }
            return {"CustomEra": era}
        field = {"start": "StartDate", "end": "EndDate"}.get(str(content.get("after", "start")))
        return {"DateOffset": {"DateField": field, "Offset": content.get("days", 0)}}

    # -- groups and criteria -----------------------------------------------------------------------------------

    def plain(self, value: Any, at: str) -> list[dict[str, Any]]:
        """Criteria by themselves, without windows."""
        made = []
        for number, one in enumerate(self.listed(value, at)):
            place = f"{at}[{number}]"
            content = self.known(one, place, tuple(NAMES))
            if len(content) != 1:
                raise self.fail(place, "one criterion is needed here")
            made.append(self.criterion(content, place))
        return made

    def group(self, value: Any, at: str) -> dict[str, Any]:
        content = self.known(value, at, tuple(GROUPS))
        if len(content) != 1:
            raise self.fail(at, f"one of {', '.join(GROUPS)} is needed here")
        (kind, members), *_ = content.items()
        made: dict[str, Any] = {"Type": GROUPS[kind], "CriteriaList": [], "DemographicCriteriaList": [], "Groups": []}
        if kind.startswith("at_"):
            counted = self.known(members, f"{at}.{kind}", ("count", "of"))
            made["Count"], members = counted.get("count", 1), counted.get("of", [])
        for number, one in enumerate(self.listed(members, f"{at}.{kind}")):
            place = f"{at}.{kind}[{number}]"
            if not isinstance(one, Mapping):
                raise self.fail(place, "a mapping is needed here")
            if set(one) & set(GROUPS):
                made["Groups"].append(self.group(one, place))
            elif set(one) & set(NAMES):
                made["CriteriaList"].append(self.correlated(one, place))
            else:
                made["DemographicCriteriaList"].append(self.attributes(one, DEMOGRAPHICS, place))
        return made

    def correlated(self, value: Mapping[str, Any], at: str) -> dict[str, Any]:
        more = ("occurs", "within", "ends_within", "from", "distinct", "same_visit", "outside_observation")
        content = self.known(value, at, (*NAMES, *more))
        domain = {key: item for key, item in content.items() if key in NAMES}
        if len(domain) != 1:
            raise self.fail(at, "one domain is needed here")
        words, _, count = str(content.get("occurs", "at least 1")).rpartition(" ")
        if words not in OCCURS or not count.isdigit():
            raise self.fail(f"{at}.occurs", "exactly, at most or at least, and a number, are needed here")
        occurrence: dict[str, Any] = {"Type": OCCURS[words], "Count": int(count)}
        if "distinct" in content:
            columns = {"concept": "DOMAIN_CONCEPT", "start_date": "START_DATE", "visit": "VISIT_ID"}
            occurrence |= {"IsDistinct": True, "CountColumn": columns.get(str(content["distinct"]))}
        from_end = content.get("from", "start") == "end"
        made: dict[str, Any] = {
            "Criteria": self.criterion(domain, at),
            "StartWindow": self.window(content.get("within", ["any", "any"]), f"{at}.within", from_end, False),
            "Occurrence": occurrence,
            "RestrictVisit": bool(content.get("same_visit", False)),
            "IgnoreObservationPeriod": bool(content.get("outside_observation", False)),
        }
        if "ends_within" in content:
            made["EndWindow"] = self.window(content["ends_within"], f"{at}.ends_within", from_end, True)
        return made

    def window(self, value: Any, at: str, from_end: bool, of_end: bool) -> dict[str, Any]:
        ends = self.listed(value, at)
        if len(ends) != 2:
            raise self.fail(at, "two days are needed here")
        made = []
        for side, day in zip((-1, 1), ends, strict=True):
            if day == "any":
                made.append({"Coeff": side})
            elif isinstance(day, int) and not isinstance(day, bool):
                made.append({"Days": abs(day), "Coeff": 1 if day > 0 else -1})
            else:
                raise self.fail(at, "a day is a whole number or any")
        return {"Start": made[0], "End": made[1], "UseIndexEnd": from_end, "UseEventEnd": of_end}

    def criterion(self, value: Mapping[str, Any], at: str) -> dict[str, Any]:
        (key, given), *_ = value.items()
        name, place = NAMES[key], f"{at}.{key}"
        content = dict(given or {})
        made: dict[str, Any] = {}
        if "of" in content:
            made["CodesetId"] = self.set_id(content.pop("of"), f"{place}.of")
        if "first" in content:
            made["First"] = content.pop("first")
        if "where" in content:
            made["CorrelatedCriteria"] = self.group(content.pop("where"), f"{place}.where")
        return {name: {**made, **self.attributes(content, DOMAINS[name].attributes, place)}}

    def attributes(self, value: Mapping[str, Any], known: Mapping[str, Attribute], at: str) -> dict[str, Any]:
        named = {_snake(name): name for name in known}
        made: dict[str, Any] = {}
        for key, item in value.items():
            place = f"{at}.{key}"
            if key == "study_day":
                days = self.span(item, place, study_days=True)
                start = next((n for n in ("OccurrenceStartDate", "EraStartDate", "PeriodStartDate") if n in known), "")
                made[start] = days
                continue
            if key not in named:
                raise self.fail(place, f"{key} is unknown; known are {', '.join(named)}")
            name = named[key]
            made |= self.attribute(name, known[name], item, place)
        return made

    def attribute(self, name: str, known: Attribute, item: Any, at: str) -> dict[str, Any]:
        if known.kind == "flag":
            return {name: item}
        if known.kind == "text":
            found = _TEXT.match(str(item))
            if found is None:
                raise self.fail(at, "contains, startsWith or endsWith, and a text, are needed here")
            return {name: {"Op": ("!" if found["not"] else "") + found["op"], "Text": found["text"]}}
        if known.kind == "concepts":
            if isinstance(item, Mapping):
                content = self.known(item, at, ("of", "exclude"))
                selection = {"CodesetId": self.set_id(content.get("of"), f"{at}.of")}
                return {f"{name}CS": {**selection, "IsExclusion": bool(content.get("exclude", False))}}
            ids = item if isinstance(item, list) else [item]
            return {name: [{"CONCEPT_ID": SEXES.get(one, one) if name == "Gender" else one} for one in ids]}
        return {name: self.span(item, at, study_days=False, dates=known.kind == "date")}

    def span(self, item: Any, at: str, *, study_days: bool, dates: bool = False) -> dict[str, Any]:
        """A range in words: "> 1", "18 to 65", "not 2 to 3", or a value alone."""
        found = _RANGE.match(str(item).strip()) or _RANGE.match(f"= {str(item).strip()}")
        if found is None:
            raise self.fail(at, 'a range is written "> 1", "18 to 65" or "not 18 to 65"')

        def read(text: str) -> Any:
            try:
                if study_days:
                    return date_of(int(text)).isoformat()
                return text if dates else (float(text) if "." in text or "e" in text.lower() else int(text))
            except ValueError:
                raise self.fail(at, f"{text} is not a {'study day' if study_days else 'number'}") from None

        if found["op"]:
            return {"Op": OPERATORS[found["op"]], "Value": read(found["value"])}
        op = "!bt" if found["not"] else "bt"
        return {"Op": op, "Value": read(found["first"]), "Extent": read(found["last"])}


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
