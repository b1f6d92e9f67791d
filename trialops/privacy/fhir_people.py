"""Who the resources are about: subject keys and pseudonyms, day 1, age, offset, and each subject's own identifiers."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError
from trialops.intake.fhir_tables import parse, resources_of
from trialops.privacy.spans import Known

if TYPE_CHECKING:
    import polars as pl

    from trialops.privacy.fhir_policy import FhirPolicy
    from trialops.privacy.keys import Vault

STUDY_SYSTEM = "urn:trialops:study:"
"""Identifier systems that carry a subject's USUBJID begin with this."""

_DAY = re.compile(r"^(\d{4})(?:-(\d{2})(?:-(\d{2}))?)?")
#: Their dates reach into the future or are not about the subject.
_UNDATED = ("Consent", "Coverage", "ResearchStudy", "Patient")
_NAMED = (
    r'"display":"((?:[^"\\]|\\.)*)"[^{}]*'
    r'"reference":"[^"]*(?:Practitioner|PractitionerRole|RelatedPerson|Patient|Person)[/?]'
)
_PLACES = r'"display":"((?:[^"\\]|\\.)*)"[^{}]*"reference":"[^"]*(?:Organization|Location|HealthcareService)[/?]'


@dataclass(frozen=True)
class Subject:
    """One subject.

    Attributes:
        key: What the pseudonym and the offset are made from: USUBJID, or Patient/<id>.
        pseudonym: Keyed pseudonym, shared with SDTM where the key is a USUBJID.
        day_one: Date of study day 1; None without any exact date.
        birth: Earliest date of birth the record allows; None where it gives none.
        age: Completed years on day 1; the capped value for everybody over the limit; None without birth or day 1.
        old: Whether the record tells of an age over the limit, on any of its dates.
        offset: Days by which dates are shifted in limited mode; 0 in others.
        known: The subject's own identifiers as they may stand in a text.
    """

    key: str
    pseudonym: str
    day_one: dt.date | None
    birth: dt.date | None
    age: int | None
    old: bool
    offset: int
    known: Known = field(repr=False)


@dataclass(frozen=True)
class People:
    """All subjects and resources of a delivery.

    Attributes:
        subjects: Patient id -> subject.
        references: "Type/id" -> "Type/pseudonym".
        bare: id -> "Type/id" for ids that one resource alone has, for references by urn:uuid.
        identifiers: ("Type", system, value) -> "Type/id", for conditional references.
        clinicians: Names of practitioners and other people beside the subjects.
        places: Names of organisations and locations.
        keys: Subject keys by where they come from -> subjects.
        day_one: Source of day 1 -> subjects.
    """

    subjects: Mapping[str, Subject]
    references: Mapping[str, str] = field(repr=False)
    bare: Mapping[str, str] = field(repr=False)
    identifiers: Mapping[tuple[str, str, str], str] = field(repr=False)
    clinicians: tuple[str, ...] = field(repr=False)
    places: tuple[str, ...] = field(repr=False)
    keys: Mapping[str, int]
    day_one: Mapping[str, int]

    def links(self, raw: Mapping[str, pl.DataFrame]) -> dict[str, pl.DataFrame]:
        """Key space -> columns `raw` and `pseudonym`, for the vault: who stands behind a pseudonym."""
        import polars as pl

        subjects = sorted({(s.key, s.pseudonym) for s in self.subjects.values()})
        patients = {f"Patient/{p}" for p in self.subjects}
        others = sorted((k, v.split("/")[-1]) for k, v in self.references.items() if k not in patients)
        schema = {"raw": pl.String, "pseudonym": pl.String}
        return {
            "subject": pl.DataFrame(subjects, schema=schema, orient="row"),
            "fhir_id": pl.DataFrame(others, schema=schema, orient="row"),
        }


def people(
    tables: Mapping[str, pl.DataFrame], policy: FhirPolicy, mode: str, vault: Vault, *, chosen: Iterable[str] = ()
) -> People:
    """Find out who the resources are about.

    Args:
        tables: Raw tables, see `trialops.intake.fhir_tables`.
        policy: Age limit.
        mode: "limited" needs offsets.
        vault: Keys of the study.
        chosen: Patient ids known beside those in the tables (resources may come without their Patient).

    Raises:
        TrialOpsError: The vault gave two values the same pseudonym.
    """
    patients = {p["id"]: p for p in resources_of(tables["Patient"])} if "Patient" in tables else {}
    ids = sorted({*patients, *chosen, *(s for t in tables.values() for s in t["subject"].drop_nulls().unique())})
    keys, sources = _keys(ids, patients, tables)
    pseudonyms = vault.pseudonyms("subject", [keys[i] for i in ids])
    _distinct(pseudonyms, "subject")
    references = _references(tables, dict(zip(ids, pseudonyms, strict=True)), vault)
    first, last, started = _days(tables, patients)
    clinicians, places = _names(tables, _NAMED, "Practitioner"), _names(tables, _PLACES, "Organization", "Location")
    relatives = _relatives(tables)
    near = _near(tables)
    subjects = {}
    counts: dict[str, int] = {}
    for pid, pseudonym in zip(ids, pseudonyms, strict=True):
        patient = patients.get(pid, {})
        day_one, source = started.get(pid) or ((first[pid], "earliest date") if pid in first else (None, "none"))
        counts[source] = counts.get(source, 0) + 1
        birth = day(patient.get("birthDate"))
        ends = [d for d in (day_one, last.get(pid), day(patient.get("deceasedDateTime"))) if d]
        end = max(ends, default=None)
        span = years(birth or first.get(pid), end)
        age = years(birth, day_one) if birth else None
        subjects[pid] = Subject(
            keys[pid],
            pseudonym,
            day_one,
            birth,
            None if age is None else policy.age_capped if age > policy.age_over else max(age, 0),
            span is not None and span > policy.age_over,
            vault.offset_days(keys[pid]) if mode == "limited" else 0,
            _known(patient, [*relatives.get(pid, ())], near.get(pid, ()), keys[pid]),
        )
    return People(
        subjects,
        references,
        _bare(references),
        _identifiers(tables),
        clinicians,
        places,
        sources,
        dict(sorted(counts.items())),
    )


def subject_keys(tables: Mapping[str, pl.DataFrame]) -> dict[str, str]:
    """Patient id -> what the subject's pseudonym is made from, of everybody in the tables."""
    patients = {p["id"]: p for p in resources_of(tables["Patient"])} if "Patient" in tables else {}
    ids = sorted({*patients, *(s for t in tables.values() for s in t["subject"].drop_nulls().unique())})
    return _keys(ids, patients, tables)[0]


def day(text: Any) -> dt.date | None:
    """The first day a FHIR date text can mean; None where it is not a date."""
    found = _DAY.match(text) if isinstance(text, str) else None
    if not found:
        return None
    try:
        return dt.date(int(found[1]), int(found[2] or 1), int(found[3] or 1))
    except ValueError:
        return None


def years(start: dt.date | None, end: dt.date | None) -> int | None:
    """Completed years between two days; None where one is not known."""
    if start is None or end is None:
        return None
    return end.year - start.year - ((end.month, end.day) < (start.month, start.day))


def _distinct(pseudonyms: list[str], kind: str) -> None:
    if len(set(pseudonyms)) != len(pseudonyms):
        raise TrialOpsError(
            "The vault gave two values the same pseudonym.",
            where=f"vault, kind {kind}",
            fix="Use longer pseudonyms; nothing was released.",
        )


def _keys(
    ids: list[str], patients: Mapping[str, dict[str, Any]], tables: Mapping[str, pl.DataFrame]
) -> tuple[dict[str, str], dict[str, int]]:
    """Subject key of every Patient id, and how many come from where. A USUBJID that two Patients claim serves none."""
    found: dict[str, str] = {}
    if "ResearchSubject" in tables:
        frame = tables["ResearchSubject"].sort("id")
        for pid, resource in zip(frame["subject"], resources_of(frame), strict=True):
            number = _study_number(resource)
            if pid is not None and number:
                found.setdefault(pid, number)
    for pid, patient in sorted(patients.items()):
        number = _study_number(patient)
        if number:
            found.setdefault(pid, number)
    claims: dict[str, int] = {}
    for number in found.values():
        claims[number] = claims.get(number, 0) + 1
    keys = {pid: found[pid] if claims.get(found.get(pid, ""), 0) == 1 else f"Patient/{pid}" for pid in ids}
    own = sum(1 for pid in ids if keys[pid] == found.get(pid))
    return keys, {
        "USUBJID": own,
        "Patient id": len(ids) - own,
        "USUBJID claimed twice": sum(c - 1 for c in claims.values()),
    }


def _study_number(resource: Mapping[str, Any]) -> str:
    for item in resource.get("identifier", ()):
        if str(item.get("system", "")).startswith(STUDY_SYSTEM) and item.get("value"):
            return str(item["value"])
    return ""


def _references(tables: Mapping[str, pl.DataFrame], subjects: Mapping[str, str], vault: Vault) -> dict[str, str]:
    """Name ("Type/id") -> "Type/pseudonym" of every resource; a Patient's is the subject's pseudonym."""
    made = {f"Patient/{pid}": f"Patient/{name}" for pid, name in subjects.items()}
    names = [
        f"{kind}/{i}"
        for kind, frame in sorted(tables.items())
        if kind != "Patient"
        for i in frame["id"].unique().sort()
    ]
    given = vault.pseudonyms("fhir_id", names)
    _distinct(given, "fhir_id")
    made.update((name, f"{name.split('/')[0]}/{pseudonym}") for name, pseudonym in zip(names, given, strict=True))
    return made


def _bare(references: Mapping[str, str]) -> dict[str, str]:
    found: dict[str, str] = {}
    double = set()
    for name in references:
        bare = name.split("/", 1)[1]
        if found.setdefault(bare, name) != name:
            double.add(bare)
    return {bare: name for bare, name in found.items() if bare not in double}


def _identifiers(tables: Mapping[str, pl.DataFrame]) -> dict[tuple[str, str, str], str]:
    found = {}
    for kind in ("Practitioner", "Organization", "Location", "Patient"):
        if kind in tables:
            for resource in resources_of(tables[kind]):
                for item in resource.get("identifier", ()):
                    found[kind, str(item.get("system", "")), str(item.get("value", ""))] = f"{kind}/{resource['id']}"
    return found


def _days(
    tables: Mapping[str, pl.DataFrame], patients: Mapping[str, dict[str, Any]]
) -> tuple[dict[str, dt.date], dict[str, dt.date], dict[str, tuple[dt.date, str]]]:
    """First and last exact date of every subject's resources, and day 1 where a participation or a consent tells it."""
    import polars as pl

    parts = []
    for kind, frame in tables.items():
        if kind not in _UNDATED:
            dates = (
                pl.col("json")
                .str.extract_all(r'"(\d{4}-\d{2}-\d{2})(?:T|")')
                .list.eval(pl.element().str.slice(1, 10).str.to_date("%Y-%m-%d", strict=False))
            )
            visit = kind == "Encounter"
            parts.append(
                frame.lazy()
                .filter(pl.col("subject").is_not_null())
                .select("subject", first=dates.list.min(), last=dates.list.max(), visit=pl.lit(visit))
            )
    first: dict[str, dt.date] = {}
    last: dict[str, dt.date] = {}
    if parts:
        visits = pl.col("first").filter(pl.col("visit")).min()
        spans = (
            pl.concat(parts)
            .group_by("subject")
            .agg(pl.coalesce(visits, pl.col("first").min()).alias("first"), pl.col("last").max())
            .collect()
        )
        for pid, start, end in spans.iter_rows():
            if start is not None:
                first[pid], last[pid] = start, end
    started: dict[str, tuple[dt.date, str]] = {}
    for kind, path, source in (
        ("ResearchSubject", "$.period.start", "participation"),
        ("Consent", "$.dateTime", "consent"),
    ):
        if kind in tables:
            exact = pl.col("json").str.json_path_match(path).str.slice(0, 10).str.to_date("%Y-%m-%d", strict=False)
            rows = tables[kind].select("subject", day=exact).drop_nulls().group_by("subject").agg(pl.col("day").min())
            for pid, start in rows.iter_rows():
                started.setdefault(pid, (start, source))
    return first, last, started


def _display(frame: pl.DataFrame, pattern: str) -> pl.DataFrame:
    """Subject and display of every reference to a person or place; the JSON is canonical, its keys sorted."""
    import polars as pl

    found = pl.col("json").str.extract_all(pattern).list.eval(pl.element().str.extract(pattern, 1))
    return frame.select("subject", name=found).explode("name").drop_nulls("name").unique()


def _names(tables: Mapping[str, pl.DataFrame], pattern: str, *kinds: str) -> tuple[str, ...]:
    """Names of people or places: of their own resources, and where references show them."""
    found = {n for k, t in tables.items() for n in _unquoted(_display(t, pattern)["name"].unique())}
    for kind in kinds:
        if kind in tables:
            for resource in resources_of(tables[kind]):
                found |= {resource["name"]} if isinstance(resource.get("name"), str) else set()
                found |= set(_human_names(resource.get("name") if isinstance(resource.get("name"), list) else ()))
    return tuple(sorted(n for n in found if n.strip()))


def _near(tables: Mapping[str, pl.DataFrame]) -> dict[str, set[str]]:
    """People that a subject's own resources name."""
    near: dict[str, set[str]] = {}
    for frame in tables.values():
        for pid, name in _display(frame, _NAMED).iter_rows():
            if pid is not None:
                near.setdefault(pid, set()).update(_unquoted([name]))
    return near


def _unquoted(names: Iterable[str]) -> Iterator[str]:
    for name in names:
        yield parse(f'"{name}"') if "\\" in name else name


def _relatives(tables: Mapping[str, pl.DataFrame]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    if "RelatedPerson" in tables:
        frame = tables["RelatedPerson"]
        for pid, resource in zip(frame["subject"], resources_of(frame), strict=True):
            found.setdefault(pid, []).append(resource)
    return found


def _human_names(names: Any) -> Iterator[str]:
    for name in names or ():
        if not isinstance(name, dict):
            continue
        given = [str(g) for g in name.get("given", ()) if g]
        family = str(name.get("family", "") or "")
        if given or family:
            yield " ".join([*given, family]).strip()
        if name.get("text"):
            yield str(name["text"])


def _known(patient: Mapping[str, Any], relatives: list[dict[str, Any]], near: Iterable[str], key: str) -> Known:
    """A subject's own identifiers, of relatives and contacts too."""
    persons = [patient, *relatives, *patient.get("contact", ())]
    names: set[str] = set(near)
    places: set[str] = set()
    phones: set[str] = set()
    emails: set[str] = set()
    numbers = {key.removeprefix("Patient/"), str(patient.get("id", ""))}
    for person in persons:
        name = person.get("name")
        names |= set(_human_names(name if isinstance(name, list) else [name]))
        address = person.get("address") or []
        for item in address if isinstance(address, list) else [address]:
            places |= set(_address(item))
        for item in person.get("telecom", ()):
            value = str(item.get("value") or "")
            (emails if "@" in value else phones).add(value)
        numbers |= {str(item.get("value") or "") for item in person.get("identifier", ())}
    for item in patient.get("extension", ()):
        if str(item.get("url", "")).endswith("mothersMaidenName"):
            names.add(str(item.get("valueString") or ""))
        if str(item.get("url", "")).endswith("birthPlace"):
            places |= set(_address(item.get("valueAddress") or {}))
    exact = (patient.get("birthDate"), patient.get("deceasedDateTime"))
    dates = {d for text in exact if isinstance(text, str) and len(text) >= 10 and (d := day(text))}
    return Known(
        names=_some(names),
        addresses=_some(places),
        phones=_some(phones),
        emails=_some(emails),
        identifiers=_some(numbers),
        dates=tuple(sorted(dates)),
    )


def _address(item: Mapping[str, Any]) -> Iterator[str]:
    yield from (str(line) for line in item.get("line", ()) if line)
    for part in ("city", "district", "text"):
        if item.get(part):
            yield str(item[part])
    if len(str(item.get("postalCode") or "")) >= 5:
        yield str(item["postalCode"])


def _some(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted({v.strip() for v in values if v and v.strip()}))
