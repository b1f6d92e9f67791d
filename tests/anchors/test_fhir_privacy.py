"""The ten Synthea bundles and the bulk files, de-identified: nothing of a person is left in any string, at any depth.

The search here is written apart from the product's own: it reads the raw JSON and the clean JSON as plain JSON.
"""

from __future__ import annotations

import base64
import datetime as dt
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.support.fhir_bundles import tables_of
from tests.support.raw_trial import Keys
from trialops.privacy.fhir_deidentify import FhirDeidentified, deidentify_fhir

FULL = re.compile(r"\d{4}-\d{2}-\d{2}")


class Letters(Keys):
    """A vault whose pseudonyms are letters, as the real one's are."""

    def pseudonyms(self, kind: str, values: list[str]) -> list[str]:
        return [
            base64.b32encode(bytes.fromhex(p + "0000")).decode().lower()[:16] for p in super().pseudonyms(kind, values)
        ]


def every(node: Any) -> Iterator[str]:
    """Every string below a node, keys too; base64 that decodes to text is decoded."""
    if isinstance(node, dict):
        yield from node
        for value in node.values():
            yield from every(value)
    elif isinstance(node, list):
        for value in node:
            yield from every(value)
    elif isinstance(node, str):
        yield node
        if len(node) > 40 and re.fullmatch(r"[A-Za-z0-9+/]+=*", node):
            yield base64.b64decode(node + "==").decode("utf-8", "replace")


def identifiers(patient: dict[str, Any]) -> set[str]:
    """What of a Patient may stand nowhere: names, address lines, towns, telecoms, numbers."""
    found = {i["value"] for i in patient.get("identifier", [])} | {t["value"] for t in patient.get("telecom", [])}
    for name in patient.get("name", []):
        found |= {name["family"], *name["given"]}
    for address in patient.get("address", []):
        found |= {*address.get("line", []), address.get("postalCode") or "", address.get("city") or ""}
    for extension in patient.get("extension", []):
        found |= {str(extension.get("valueString") or "")} | {str(extension.get("valueAddress", {}).get("city") or "")}
    words = {w for f in found for w in re.findall(r"[^\W\d_]{4,}(?=\d{2,}\b)", f)}
    return {f for f in found | words | {patient["id"]} if len(f) >= 4}


def raw_people(raw: dict[str, pl.DataFrame]) -> dict[str, set[str]]:
    return {p["id"]: identifiers(p) for p in map(json.loads, raw["Patient"]["json"])}


def staff(raw: dict[str, pl.DataFrame]) -> set[str]:
    """Names, addresses and numbers of practitioners and organisations."""
    found: set[str] = set()
    for p in map(json.loads, raw["Practitioner"]["json"]):
        found |= {
            f"{p['name'][0]['given'][0]} {p['name'][0]['family']}",
            p["telecom"][0]["value"],
            p["identifier"][0]["value"],
        }
    for o in map(json.loads, raw["Organization"]["json"]):
        found |= {o["name"], *o["address"][0]["line"], *(t["value"] for t in o.get("telecom", []))}
    return found


@pytest.fixture(scope="module")
def raw(anchors: Path) -> dict[str, pl.DataFrame]:
    paths = sorted((anchors / "fhir-r4" / "bundles").glob("*.json"))
    # The files are named after their patients, which the clean tables must not tell.
    return {k: f.with_columns(_SOURCE=pl.lit(paths[0].name)) for k, f in tables_of(paths).items()}


@pytest.fixture(scope="module")
def strict(raw: dict[str, pl.DataFrame]) -> FhirDeidentified:
    return deidentify_fhir(raw, "strict", Letters())


@pytest.fixture(scope="module")
def limited(raw: dict[str, pl.DataFrame]) -> FhirDeidentified:
    return deidentify_fhir(raw, "limited", Letters())


def leaks(clean: FhirDeidentified, wanted: set[str]) -> int:
    """Strings of the clean tables that hold one of the texts, in any case."""
    texts = {t for f in clean.tables.values() for j in f["json"] for t in every(json.loads(j))}
    frame = pl.DataFrame({"text": sorted(t.lower() for t in texts)})
    return frame.filter(pl.col("text").str.contains_any(sorted(w.lower() for w in wanted))).height


def own_leaks(raw: dict[str, pl.DataFrame], clean: FhirDeidentified) -> int:
    """Strings of a subject's clean resources that hold something of that subject."""
    people = raw_people(raw)
    pseudonym = dict(clean.links["subject"].with_columns(pl.col("raw").str.strip_prefix("Patient/")).iter_rows())
    count = 0
    for patient, wanted in people.items():
        mine = {
            text.lower()
            for frame in clean.tables.values()
            for document in frame.filter(pl.col("subject") == pseudonym[patient])["json"]
            for text in every(json.loads(document))
        }
        assert mine
        # A word alone is looked for as a word ("Judi" is in "adjudication"), all else inside any text.
        words = {w.lower() for w in wanted if w.isalpha()}
        frame = pl.DataFrame({"text": sorted(mine)})
        count += frame.filter(pl.col("text").str.contains_any(sorted({w.lower() for w in wanted} - words))).height
        count += sum(not words.isdisjoint(re.findall(r"[^\W\d_]+", text)) for text in mine)
    return count


def test_the_searcher_finds_what_is_there(raw: dict[str, pl.DataFrame]) -> None:
    people = raw_people(raw)
    assert len(people) == 10 and min(map(len, people.values())) >= 7
    texts = [t for f in raw.values() for j in f["json"] for t in every(json.loads(j))]
    seen = {w for t in set(texts) for w in set().union(*people.values()) if w in t}
    assert len(seen) > 80
    assert sum(bool(FULL.search(t)) for t in texts) > 9_000


@pytest.mark.slow
def test_strict_leaves_nothing_of_anybody(raw: dict[str, pl.DataFrame], strict: FhirDeidentified) -> None:
    # Words of names end in digits in the raw data, so a name cannot be a word of medicine; a town can.
    names = {w for words in raw_people(raw).values() for w in words if not w.isalpha() or len(w) > 30}
    assert leaks(strict, names | staff(raw)) == 0
    assert own_leaks(raw, strict) == 0
    assert sum(f.height for f in strict.tables.values()) == sum(f.height for f in raw.values())
    texts = {t for f in strict.tables.values() for j in f["json"] for t in every(json.loads(j))}
    assert not [t for t in texts if FULL.search(t) or re.search(r"\d{2}:\d{2}", t)]
    ids = {i for f in raw.values() for i in f["id"]}
    assert not ids & {m for t in texts for m in re.split(r"[/#: ]", t)}
    assert {s for f in strict.tables.values() for s in f["_SOURCE"]}.isdisjoint(
        {s for f in raw.values() for s in f["_SOURCE"]}
    )


def test_limited_leaves_no_direct_identifier(raw: dict[str, pl.DataFrame], limited: FhirDeidentified) -> None:
    towns = {
        a[k]
        for p in map(json.loads, raw["Patient"]["json"])
        for a in p["address"]
        for k in ("city", "postalCode")
        if a.get(k)
    }
    names = {w for words in raw_people(raw).values() for w in words if not w.isalpha()} - towns
    assert leaks(limited, names | staff(raw)) == 0
    kept = [json.loads(j)["address"][0] for j in limited.tables["Patient"]["json"]]
    assert {a["city"] for a in kept} <= towns and all(
        set(a) <= {"city", "state", "country", "postalCode"} for a in kept
    )
    assert "not Safe Harbor" in limited.report.label


def test_limited_keeps_every_interval(raw: dict[str, pl.DataFrame], limited: FhirDeidentified) -> None:
    """Every full date of a resource is the raw one moved by one and the same number of days per subject."""
    names = dict(pl.concat([limited.links["fhir_id"], limited.links["subject"]]).iter_rows())
    moved: dict[str, set[int]] = {}
    dates = 0
    for kind, frame in raw.items():
        clean = dict(limited.tables[kind].select("id", "json").iter_rows())
        for subject, identity, text in frame.select("subject", "id", "json").iter_rows():
            if subject is None:
                continue
            before = {k: v for k, v in json.loads(text).items() if k not in ("text", "extension")}
            found = [sorted(FULL.findall(t)) for t in (json.dumps(before), clean[names[f"{kind}/{identity}"]])]
            assert len(found[0]) == len(found[1])
            days = [[dt.date.fromisoformat(d).toordinal() for d in side] for side in found]
            moved.setdefault(subject, set()).update(b - a for a, b in zip(*days, strict=True))
            dates += len(found[0])
    assert dates > 9_000
    assert len(moved) == 10 and all(len(shifts) == 1 and 0 not in shifts for shifts in moved.values())


def test_strict_keeps_every_interval_as_study_days(raw: dict[str, pl.DataFrame], strict: FhirDeidentified) -> None:
    names = dict(pl.concat([strict.links["fhir_id"], strict.links["subject"]]).iter_rows())
    clean = dict(strict.tables["Condition"].select("id", "json").iter_rows())
    firsts: dict[str, set[int]] = {}
    for subject, identity, text in raw["Condition"].select("subject", "id", "json").iter_rows():
        beside = json.loads(clean[names[f"Condition/{identity}"]]).get("_onsetDateTime", {}).get("extension", [])
        day = next((e["valueInteger"] for e in beside if e["url"] == "urn:trialops:study-day"), None)
        if day is not None:
            assert day != 0
            date = dt.date.fromisoformat(json.loads(text)["onsetDateTime"][:10])
            firsts.setdefault(subject, set()).add(date.toordinal() - (day - 1 if day > 0 else day))
    assert len(firsts) >= 9 and all(len(first) == 1 for first in firsts.values())


def test_no_year_gives_a_date_away(strict: FhirDeidentified) -> None:
    """A year beside a study day is there for day 1 alone: two would fix the calendar."""

    def pairs(node: Any) -> Iterator[tuple[str, int]]:
        if isinstance(node, dict):
            for key, value in node.items():
                if key.startswith("_") and key[1:] in node and isinstance(value, dict):
                    for extension in value.get("extension", []):
                        if extension["url"] == "urn:trialops:study-day":
                            yield node[key[1:]], extension["valueInteger"]
                yield from pairs(value)
        elif isinstance(node, list):
            for value in node:
                yield from pairs(value)

    found = [p for f in strict.tables.values() for j in f["json"] for p in pairs(json.loads(j))]
    assert found and {day for _, day in found} == {1}


def with_masked_choice(resource: dict[str, Any]) -> dict[str, Any]:
    """A required choice may hold an extension alone (R4, Extensibility, special case); the models do not know that."""
    for name in ("occurrenceDateTime", "effectiveDateTime"):
        beside = resource.get(f"_{name}", {}).get("extension", [])
        if name not in resource and any(e.get("valueCode") == "masked" for e in beside):
            resource[name] = "2000"
    return resource


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["strict", "limited"])
def test_output_is_fhir(mode: str, request: pytest.FixtureRequest) -> None:
    from fhir.resources.R4B import get_fhir_model_class

    clean: FhirDeidentified = request.getfixturevalue(mode)
    for kind, frame in clean.tables.items():
        model = get_fhir_model_class(kind)
        for document in frame["json"]:
            model.model_validate(with_masked_choice(json.loads(document)))
        assert frame["id"].is_sorted() and frame["id"].n_unique() == frame.height


def test_same_input_same_bytes(raw: dict[str, pl.DataFrame], strict: FhirDeidentified) -> None:
    shuffled = {k: f.sample(fraction=1.0, shuffle=True, seed=3) for k, f in reversed(list(raw.items()))}
    again = deidentify_fhir(shuffled, "strict", Letters())
    assert {k: f["digest"].to_list() for k, f in again.tables.items()} == {
        k: f["digest"].to_list() for k, f in strict.tables.items()
    }


@pytest.mark.slow
def test_bulk_files(anchors: Path) -> None:
    raw = tables_of(sorted((anchors / "fhir-r4" / "bulk").glob("*.ndjson")))
    clean = deidentify_fhir(raw, "strict", Letters())
    assert {k: f.height for k, f in clean.tables.items()} == {"Patient": 100, "Condition": 639, "Encounter": 3697}
    people = raw_people(raw)
    displays = {n for t in raw["Encounter"]["json"] for n in re.findall(r'"display":"((?:Dr|Mr|Mrs|Ms)\. [^"]+)"', t)}
    streets = {w for words in people.values() for w in words if any(c.isdigit() for c in w)}
    assert len(displays) > 100 and len(streets) > 300
    assert leaks(clean, displays | streets | set(people)) == 0
    assert own_leaks(raw, clean) == 0
    old = [p for p in map(json.loads, clean.tables["Patient"]["json"]) if "birthDate" not in p]
    assert old and all(p["_birthDate"]["extension"][-1]["valueCode"] == "masked" for p in old)


def test_the_element_table_is_the_standard() -> None:
    """Every line of fhir_elements.txt says what fhir.resources' models say."""
    from fhir.resources.R4B import get_fhir_model_class

    from trialops.privacy.fhir_policy import elements, resource_types

    compared = 0
    for kind in sorted(resource_types()):
        fields = get_fhir_model_class(kind).model_fields
        wanted = {
            (i.alias or n): (bool("List[" in repr(i.annotation)), extra, repr(i.annotation))
            for n, i in fields.items()
            if isinstance(extra := i.json_schema_extra, dict) and extra.get("element_property")
        }
        assert set(elements()[kind]) == set(wanted), kind
        for name, (many, extra, annotation) in wanted.items():
            element = elements()[kind][name]
            assert element.many == many, (kind, name)
            if extra.get("element_required"):
                assert element.required, (kind, name)
            if f"{element.type}Type" not in annotation:
                plain = annotation.lower().replace("encodedbytes", "base64binary").replace("uuidversion", "uuid")
                assert element.type.lower() in plain or element.type == "boolean" and "bool" in plain, (kind, name)
            compared += 1
    assert compared > 1_500
