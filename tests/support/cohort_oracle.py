"""Cohorts worked out person by person in plain Python, straight from the JSON: the other way to get the same answer.

Nothing of trialops is used. Tables are lists of dictionaries; a missing value is None, and a comparison with it fails.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable
from typing import Any

Row = dict[str, Any]
Cdm = dict[str, list[Row]]
DAY = dt.timedelta(days=1)
EPOCH = dt.date(2000, 1, 1)

# domain -> table, key, start, end, concept, source concept, source value
PLACES = {
    "ConditionOccurrence": ("condition_occurrence", "condition_start_date", "condition_end_date", "condition"),
    "DrugExposure": ("drug_exposure", "drug_exposure_start_date", "drug_exposure_end_date", "drug"),
    "Measurement": ("measurement", "measurement_date", None, "measurement"),
    "Observation": ("observation", "observation_date", None, "observation"),
    "ProcedureOccurrence": ("procedure_occurrence", "procedure_date", None, "procedure"),
    "VisitOccurrence": ("visit_occurrence", "visit_start_date", "visit_end_date", "visit"),
    "Death": ("death", "death_date", None, "cause"),
    "DrugEra": ("drug_era", "drug_era_start_date", "drug_era_end_date", "drug"),
    "ConditionEra": ("condition_era", "condition_era_start_date", "condition_era_end_date", "condition"),
    "ObservationPeriod": (
        "observation_period",
        "observation_period_start_date",
        "observation_period_end_date",
        "period_type",
    ),
}
TESTS: dict[str, Callable[[Any, Any], bool]] = {
    "lt": lambda a, b: a < b,
    "lte": lambda a, b: a <= b,
    "eq": lambda a, b: a == b,
    "!eq": lambda a, b: a != b,
    "gt": lambda a, b: a > b,
    "gte": lambda a, b: a >= b,
}


class Oracle:
    """A definition over some tables."""

    def __init__(self, expression: dict[str, Any], cdm: Cdm, *, study_days: bool = False, ancestors: Any = ()) -> None:
        self.expression, self.cdm, self.study_days = expression, cdm, study_days
        self.ancestors = list(ancestors)
        self.persons = {row["person_id"]: row for row in cdm["person"]}
        self.sets = {item["id"]: item for item in expression.get("ConceptSets", [])}

    # -- parts -------------------------------------------------------------------------------------------------

    def concepts(self, number: int) -> set[int]:
        inside: set[int] = set()
        outside: set[int] = set()
        for item in self.sets[number].get("expression", {}).get("items", []):
            mine = {item["concept"]["CONCEPT_ID"]}
            if item.get("includeDescendants"):
                mine |= {low for high, low in self.ancestors if high in mine}
            (outside if item.get("isExcluded") else inside).update(mine)
        return inside - outside

    def age(self, person: Row, day: dt.date) -> int | None:
        if person is None or person["year_of_birth"] is None:
            return None
        if not self.study_days:
            return day.year - person["year_of_birth"]
        years = abs((day - EPOCH).days) / 365.25
        whole = int(years)
        return 2000 - person["year_of_birth"] + (whole if day >= EPOCH else -whole)

    def ranged(self, value: Any, wanted: Row) -> bool:
        if value is None:
            return False
        first, last = wanted["Value"], wanted.get("Extent")
        if isinstance(value, dt.date):
            first = dt.date.fromisoformat(first)
            last = dt.date.fromisoformat(last) if last else None
        if wanted["Op"] in ("bt", "!bt"):
            inside = first <= value <= last
            return inside if wanted["Op"] == "bt" else not inside
        return TESTS[wanted["Op"]](value, first)

    def events(self, criterion: Row) -> list[Row]:
        """Events of a criterion: person_id, id, start, end, concept, visit."""
        (domain, wanted), *_ = criterion.items()
        table, start, end, stem = PLACES[domain]
        key = "person_id" if domain == "Death" else f"{table}_id"
        found = []
        for row in self.cdm[table]:
            first = row[start]
            last = row[end] if end else None
            if last is None and domain == "DrugExposure" and row["days_supply"] is not None:
                last = first + row["days_supply"] * DAY
            if last is None:
                last = first + DAY
            concept = row[f"{stem}_concept_id"]
            if domain == "Death" and concept is None:
                concept = 0
            if wanted.get("CodesetId") is not None and not self.in_set(wanted["CodesetId"], concept, row, stem, domain):
                continue
            source = wanted.get(f"{domain.removesuffix('Occurrence').removesuffix('Exposure')}SourceConcept")
            if source is not None and row[f"{stem}_source_concept_id"] not in self.concepts(source):
                continue
            found.append(
                {
                    "person_id": row["person_id"],
                    "id": row[key],
                    "natural": first,
                    "start": first,
                    "end": last,
                    "concept": concept,
                    "visit": row.get("visit_occurrence_id") if domain not in ("Death",) else None,
                    "row": row,
                }
            )
        if wanted.get("First"):
            best: dict[int, Row] = {}
            for event in found:
                old = best.get(event["person_id"])
                if old is None or (event["natural"], event["id"]) < (old["natural"], old["id"]):
                    best[event["person_id"]] = event
            found = list(best.values())
        moved = wanted.get("DateAdjustment")
        if moved:
            found = [
                {
                    **e,
                    "start": (e["start"] if moved["StartWith"] == "START_DATE" else e["end"])
                    + moved["StartOffset"] * DAY,
                    "end": (e["start"] if moved["EndWith"] == "START_DATE" else e["end"]) + moved["EndOffset"] * DAY,
                }
                for e in found
            ]
        found = [event for event in found if self.fits(domain, wanted, event)]
        group = wanted.get("CorrelatedCriteria")
        if group:
            kept = []
            for event in found:
                for period in self.cdm["observation_period"]:
                    if period["person_id"] == event["person_id"] and (
                        period["observation_period_start_date"]
                        <= event["start"]
                        <= period["observation_period_end_date"]
                    ):
                        index = {
                            **event,
                            "op_start": period["observation_period_start_date"],
                            "op_end": period["observation_period_end_date"],
                        }
                        if self.holds(group, index):
                            kept.append(event)
                            break
            found = kept
        return found

    def in_set(self, number: int, concept: int, row: Row, stem: str, domain: str) -> bool:
        if concept in self.concepts(number):
            return True
        item = self.sets[number]
        values = {text.upper() for text in item.get("sourceValues", [])}
        value = row.get(f"{stem}_source_value")
        if (
            value is not None
            and domain not in ("DrugEra", "ConditionEra", "ObservationPeriod")
            and value.upper() in values
        ):
            return True
        return bool(item.get("studyTreatment") and domain == "DrugExposure" and row.get("study_treatment"))

    def fits(self, domain: str, wanted: Row, event: Row) -> bool:
        row, person = event["row"], self.persons.get(event["person_id"])
        stem = PLACES[domain][3]
        length = (event["end"] - event["start"]).days
        value, low, high = row.get("value_as_number"), row.get("range_low"), row.get("range_high")
        numbers = {
            "ValueAsNumber": value,
            "RangeLow": low,
            "RangeHigh": high,
            "RangeLowRatio": value / low if value is not None and low else None,
            "RangeHighRatio": value / high if value is not None and high else None,
            "Quantity": row.get("quantity"),
            "DaysSupply": row.get("days_supply"),
            "Refills": row.get("refills"),
            "EraLength": length,
            "PeriodLength": length,
            "VisitLength": length,
            "OccurrenceCount": row.get("drug_exposure_count", row.get("condition_occurrence_count")),
            "GapDays": row.get("gap_days"),
        }
        days = {
            "OccurrenceStartDate": event["start"],
            "OccurrenceEndDate": event["end"],
            "EraStartDate": event["start"],
            "EraEndDate": event["end"],
            "PeriodStartDate": event["start"],
            "PeriodEndDate": event["end"],
        }
        for name, known in {**numbers, **days}.items():
            if name in wanted and not self.ranged(known, wanted[name]):
                return False
        for name, day in (("Age", event["start"]), ("AgeAtStart", event["start"]), ("AgeAtEnd", event["end"])):
            if name in wanted and (person is None or not self.ranged(self.age(person, day), wanted[name])):
                return False
        lists = {
            "Gender": person["gender_concept_id"] if person else None,
            "Unit": row.get("unit_concept_id"),
            f"{stem.capitalize()}Type": row.get(f"{stem}_type_concept_id"),
            "PeriodType": row.get("period_type_concept_id"),
        }
        for name, known in lists.items():
            if name == "VisitType" and domain != "VisitOccurrence":
                continue
            if wanted.get(name):
                among = known in {c["CONCEPT_ID"] for c in wanted[name]}
                if known is None or among == bool(wanted.get(f"{name}Exclude")):
                    return False
            if f"{name}CS" in wanted:
                among = known in self.concepts(wanted[f"{name}CS"]["CodesetId"])
                if known is None or among == bool(wanted[f"{name}CS"].get("IsExclusion")):
                    return False
        if domain != "VisitOccurrence" and wanted.get("VisitType"):
            visits = [v for v in self.cdm["visit_occurrence"] if v["visit_occurrence_id"] == event["visit"]]
            kinds = {c["CONCEPT_ID"] for c in wanted["VisitType"]}
            if not any(v["visit_concept_id"] in kinds and v["person_id"] == event["person_id"] for v in visits):
                return False
        if wanted.get("Abnormal"):
            below = value is not None and low is not None and value < low
            above = value is not None and high is not None and value > high
            if not (below or above or row.get("value_as_concept_id") in (4155142, 4155143)):
                return False
        return True

    def holds(self, group: Row, index: Row) -> bool:
        members = [self.correlated(one, index) for one in group.get("CriteriaList", [])]
        members += [self.demographic(one, index) for one in group.get("DemographicCriteriaList", [])]
        members += [self.holds(one, index) for one in group.get("Groups", [])]
        if not members:
            return True
        kind, count = group["Type"], sum(members)
        if kind == "ALL":
            return all(members)
        if kind == "ANY":
            return any(members)
        return count >= group["Count"] if kind == "AT_LEAST" else count <= group["Count"]

    def demographic(self, wanted: Row, index: Row) -> bool:
        person = self.persons.get(index["person_id"])
        if person is None:
            return False
        if "Age" in wanted and not self.ranged(self.age(person, index["start"]), wanted["Age"]):
            return False
        if "OccurrenceStartDate" in wanted and not self.ranged(index["start"], wanted["OccurrenceStartDate"]):
            return False
        if "OccurrenceEndDate" in wanted and not self.ranged(index["end"], wanted["OccurrenceEndDate"]):
            return False
        for name, column in (("Gender", "gender"), ("Race", "race"), ("Ethnicity", "ethnicity")):
            if wanted.get(name) and person[f"{column}_concept_id"] not in {c["CONCEPT_ID"] for c in wanted[name]}:
                return False
        return True

    def correlated(self, one: Row, index: Row) -> bool:
        observed = not one.get("IgnoreObservationPeriod")
        found = []
        for event in self.events(one["Criteria"]):
            if event["person_id"] != index["person_id"]:
                continue
            if observed and not index["op_start"] <= event["start"] <= index["op_end"]:
                continue
            windows = [(one.get("StartWindow"), False), (one.get("EndWindow"), True)]
            if not all(self.within(w, event, index, observed, end) for w, end in windows if w):
                continue
            if one.get("RestrictVisit") and (event["visit"] is None or event["visit"] != index["visit"]):
                continue
            found.append(event)
        wanted = one.get("Occurrence", {"Type": 2, "Count": 1})
        count = len(found)
        if wanted.get("IsDistinct"):
            column = {"DOMAIN_CONCEPT": "concept", "START_DATE": "start", "VISIT_ID": "visit"}
            values = {event[column[wanted.get("CountColumn", "DOMAIN_CONCEPT")]] for event in found}
            count = len(values - {None})
        number = wanted["Count"]
        return {0: count == number, 1: count <= number, 2: count >= number}[wanted["Type"]]

    def within(self, window: Row, event: Row, index: Row, observed: bool, end_by_default: bool) -> bool:
        event_end = window.get("UseEventEnd")
        day = event["end"] if (end_by_default if event_end is None else event_end) else event["start"]
        anchor = index["end"] if window.get("UseIndexEnd") else index["start"]
        for name in ("Start", "End"):
            days, coeff = window[name].get("Days"), window[name]["Coeff"]
            if days is not None:
                bound = anchor + coeff * days * DAY
            elif observed:
                bound = index["op_start"] if coeff == -1 else index["op_end"]
            else:
                continue
            if (day < bound) if name == "Start" else (day > bound):
                return False
        return True

    # -- the whole ---------------------------------------------------------------------------------------------

    def run(self) -> list[tuple[int, dt.date, dt.date]]:
        """Memberships: person, first day, last day."""
        expression = self.expression
        primary = expression["PrimaryCriteria"]
        window = primary.get("ObservationWindow", {})
        events = []
        for number, criterion in enumerate(primary["CriteriaList"]):
            for event in self.events(criterion):
                for period in self.cdm["observation_period"]:
                    if period["person_id"] != event["person_id"]:
                        continue
                    first, last = period["observation_period_start_date"], period["observation_period_end_date"]
                    if not first <= event["start"] <= last:
                        continue
                    if first + window.get("PriorDays", 0) * DAY > event["start"]:
                        continue
                    if event["start"] + window.get("PostDays", 0) * DAY > last:
                        continue
                    events.append({**event, "k": number, "op_start": first, "op_end": last})
        events = limited(events, primary.get("PrimaryCriteriaLimit", {}).get("Type", "First"))
        if expression.get("AdditionalCriteria"):
            events = [event for event in events if self.holds(expression["AdditionalCriteria"], event)]
            events = limited(events, expression.get("QualifiedLimit", {}).get("Type", "First"))
        for rule in expression.get("InclusionRules", []):
            events = [event for event in events if self.holds(rule["expression"], event)]
        events = limited(events, expression.get("ExpressionLimit", {}).get("Type", "First"))
        spans = []
        for event in events:
            last = self.leaves(event)
            if last is not None:
                spans.append((event["person_id"], event["start"], last))
        pad = expression.get("CollapseSettings", {}).get("EraPad", 0)
        merged = merge(spans, pad)
        censor = expression.get("CensorWindow", {})
        done = []
        for person, first, last in merged:
            if censor.get("StartDate"):
                first = max(first, dt.date.fromisoformat(censor["StartDate"]))
            if censor.get("EndDate"):
                last = min(last, dt.date.fromisoformat(censor["EndDate"]))
            if first <= last:
                done.append((person, first, last))
        return sorted(done)

    def leaves(self, event: Row) -> dt.date | None:
        strategy = self.expression.get("EndStrategy") or {}
        days = []
        if "DateOffset" in strategy:
            wanted = strategy["DateOffset"]
            anchor = event["start"] if wanted["DateField"] == "StartDate" else event["end"]
            days.append(min(anchor + wanted["Offset"] * DAY, event["op_end"]))
        else:
            days.append(event["op_end"])
        if "CustomEra" in strategy:
            wanted = strategy["CustomEra"]
            spans = []
            for row in self.cdm["drug_exposure"]:
                known = self.in_set(wanted["DrugCodesetId"], row["drug_concept_id"], row, "drug", "DrugExposure")
                source = row["drug_source_concept_id"] in self.concepts(wanted["DrugCodesetId"])
                if row["person_id"] == event["person_id"] and (known or source):
                    first, last = row["drug_exposure_start_date"], row["drug_exposure_end_date"]
                    if wanted.get("DaysSupplyOverride") is not None:
                        last = first + wanted["DaysSupplyOverride"] * DAY
                    elif last is None:
                        last = first + (1 if row["days_supply"] is None else row["days_supply"]) * DAY
                    spans.append((row["person_id"], first, last))
            for _, first, last in merge(spans, wanted["GapDays"]):
                if first <= event["start"] <= last + wanted["Offset"] * DAY:
                    days.append(last + wanted["Offset"] * DAY)
        for criterion in self.expression.get("CensoringCriteria", []):
            days += [
                one["start"]
                for one in self.events(criterion)
                if one["person_id"] == event["person_id"] and event["start"] <= one["start"] <= event["op_end"]
            ]
        return min((day for day in days if day >= event["start"]), default=None)


def limited(events: list[Row], limit: str) -> list[Row]:
    if limit.lower() == "all":
        return events
    chosen: dict[int, Row] = {}
    for event in sorted(events, key=lambda e: (e["start"], e["id"], e["k"], e["op_start"])):
        old = chosen.get(event["person_id"])
        if old is None or (limit.lower() == "last" and event["start"] > old["start"]):
            chosen[event["person_id"]] = event
    return list(chosen.values())


def merge(spans: Iterable[tuple[int, dt.date, dt.date]], gap: int) -> list[tuple[int, dt.date, dt.date]]:
    """Spans of a person that lie at most `gap` days apart, made one."""
    done: list[tuple[int, dt.date, dt.date]] = []
    for person, first, last in sorted(spans):
        if done and done[-1][0] == person and first <= done[-1][2] + gap * DAY:
            done[-1] = (person, done[-1][1], max(done[-1][2], last))
        else:
            done.append((person, first, last))
    return done
