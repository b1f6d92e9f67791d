"""FHIR deliveries: bundles, NDJSON, bulk exports; versions, replays, deletions, references; the raw zone."""

from __future__ import annotations

import datetime as dt
import gzip
import io
import json
import tracemalloc
from itertools import permutations
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.intake import ingest_fhir
from tests.support.fhir_zone import Zone, bundle, delete, observation, patient
from tests.support.homes import Made, artifact, leave, live_in
from tests.support.vaults import MASTER, vault_in
from trialops.errors import TrialOpsError
from trialops.intake import fhir_json
from trialops.intake.fhir_account import labels
from trialops.intake.fhir_documents import in_memory
from trialops.intake.fhir_intake import open_zone, sources
from trialops.intake.fhir_items import items, outline
from trialops.intake.fhir_tables import RESOURCE_SCHEMA, parse, subject_of, to_tables
from trialops.intake.raw_zone import StateMoved, instants
from trialops.stores import step


def reasons(intake: Any) -> dict[str, int]:
    found = dict(intake.quarantine.group_by("reason").len().iter_rows())
    return {k: int(v) for k, v in found.items()}


def ignored(intake: Any) -> dict[str, int]:
    return dict(intake.ignored.group_by("reason").agg(pl.col("rows").sum()).iter_rows())


# -- the form of a delivery -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["transaction", "batch", "collection", "searchset", "history", "document", "message"])
def test_bundles_of_every_kind(tmp_path: Path, kind: str) -> None:
    zone = Zone(tmp_path)
    intake = zone.deliver([in_memory("bundle-1.json", bundle([patient("a"), observation("o", "a")], kind))])
    assert intake.total("loaded") == 2 and set(zone.current("Patient")) == {"a"}
    frame = zone.tables()["Observation"]
    assert {name: str(kind) for name, kind in frame.schema.items()} == RESOURCE_SCHEMA
    row = frame.row(0, named=True)
    assert (row["id"], row["subject"], row["_SOURCE"], row["_ROW"]) == ("o", "a", "bundle-1.json", 2)


def test_sorted_keys_put_the_entries_first(tmp_path: Path) -> None:
    """A bundle whose type and time come last, and a List, which has entries too and is no bundle."""
    zone = Zone(tmp_path)
    zone.give(patient("z", 1, "2026-01-01T00:00:00Z"))
    late = {"entry": [{"resource": patient("a")}, delete("Patient/z")], "resourceType": "Bundle", "type": "batch"}
    late |= {"timestamp": "2026-02-01T00:00:00Z"}
    listed = {"entry": [{"item": {"reference": "Patient/a"}}], "id": "l", "mode": "working", "resourceType": "List"}
    listed |= {"status": "current"}
    files = [in_memory(f"bundle-{n}.json", json.dumps(d, sort_keys=True).encode()) for n, d in ((1, late), (2, listed))]
    intake = zone.deliver(files)
    assert intake.total("loaded") == 3 and intake.quarantine.is_empty()
    assert set(zone.current("Patient")) == {"a"} and set(zone.current("List")) == {"l"}
    # The deletion took place when the bundle says: what is older stays away.
    zone.give(patient("z", None, "2026-01-15T00:00:00Z"))
    assert set(zone.current("Patient")) == {"a"}


def test_ndjson_holds_resources_and_bundles_and_blank_lines(tmp_path: Path) -> None:
    lines = [
        json.dumps(patient("a")),
        "",
        bundle([patient("b"), patient("c")]).decode(),
        "  ",
        json.dumps(patient("d")),
    ]
    zone = Zone(tmp_path)
    intake = zone.deliver([in_memory("export.ndjson", "\r\n".join(lines).encode())])
    assert intake.total("read") == 4 == intake.total("loaded")
    assert zone.tables()["Patient"]["_ROW"].to_list() == [1, 2, 3, 4]


def test_a_byte_order_mark_is_passed_over_in_front_of_a_file_alone(tmp_path: Path) -> None:
    mark, line = b"\xef\xbb\xbf", json.dumps(patient("a")).encode()
    intake = Zone(tmp_path).deliver([in_memory("export.ndjson", mark + line + b"\n" + mark + line + b"\n")])
    assert intake.total("loaded") == 1 and reasons(intake) == {"NOT_JSON": 1}


def test_compressed_files_are_inflated(tmp_path: Path) -> None:
    source = tmp_path / "delivery"
    source.mkdir()
    lines = "\n".join(json.dumps(patient(f"p{i}")) for i in range(50)).encode()
    # Two members one after the other are one stream.
    (source / "Patient.ndjson.gz").write_bytes(gzip.compress(lines[:1000]) + gzip.compress(lines[1000:]))
    (source / "bundle-1.json.gz").write_bytes(gzip.compress(bundle([observation("o", "p1")])))
    assert Zone(tmp_path / "home").deliver(source).total("loaded") == 51


def test_folders_named_by_a_day_say_when_a_delivery_came(tmp_path: Path) -> None:
    source = tmp_path / "delivery"
    for day, gender in (("2026-02-01", "male"), ("2026-01-01", "female")):
        (source / day).mkdir(parents=True)
        (source / day / "bundle-1.json").write_bytes(bundle([patient("a", gender=gender)]))
    zone = Zone(tmp_path / "home")
    zone.deliver(source)
    assert zone.current("Patient")["a"]["gender"] == "male"
    assert zone.tables()["Patient"]["_RECEIVED"].to_list() == [dt.date(2026, 2, 1)]


def test_a_huge_bundle_is_read_in_bounded_memory(tmp_path: Path) -> None:
    """A 40 MB bundle, one element of 300 kB among them: never more than a few chunks and one element are held."""
    count, big = 40_000, "x" * 300_000
    path = tmp_path / "bundle-1.json"
    with path.open("w") as out:
        out.write('{"resourceType":"Bundle","type":"collection","entry":[')
        for i in range(count):
            text = big if i == 7 else "y" * 900
            out.write(("," if i else "") + json.dumps({"resource": observation(f"o{i}", "a", note=[{"text": text}])}))
        out.write("]}")
    assert path.stat().st_size > 40_000_000
    from trialops.intake.fhir_documents import find_documents

    document = find_documents(tmp_path)[0][0]
    tracemalloc.start()
    seen = sum(1 for _ in items(document))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert seen == count
    assert peak < 8_000_000


# -- a bulk export ----------------------------------------------------------------------------------------------------


def export(folder: Path, **changes: Any) -> Path:
    """A folder with an export: two patients, an observation, a deletion, an error."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {
        "Patient.ndjson": [patient("a"), patient("b")],
        "Observation.ndjson": [observation("o", "a")],
        "deleted.ndjson": [json.loads(bundle([delete("Patient/z")], "transaction"))],
        "errors.ndjson": [{"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": "exception"}]}],
    }
    for name, lines in files.items():
        (folder / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
    base = "https://ehr.example/bulk/"
    manifest = {
        "transactionTime": "2026-03-01T00:00:00Z",
        "request": "https://ehr.example/fhir/$export",
        "requiresAccessToken": True,
        "output": [
            {"type": "Patient", "url": base + "Patient.ndjson", "count": 2},
            {"type": "Observation", "url": base + "Observation.ndjson", "count": 1},
        ],
        "deleted": [{"type": "Bundle", "url": base + "deleted.ndjson", "count": 1}],
        "error": [{"type": "OperationOutcome", "url": base + "errors.ndjson"}],
    } | changes
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def test_an_export_is_read_by_its_manifest(tmp_path: Path) -> None:
    zone = Zone(tmp_path / "home")
    zone.give(patient("z", 1, "2026-01-01T00:00:00Z"))
    intake = zone.deliver(export(tmp_path / "export"))
    assert intake.complete and set(zone.current("Patient")) == {"a", "b"}
    kinds = dict(intake.dispositions.select("file", "kind").iter_rows())
    assert kinds["deleted.ndjson"] == "deleted" and kinds["errors.ndjson"] == "error"
    assert ignored(intake) == {"EXPORT_ERROR": 1} and intake.total("deletions") == 1


def test_an_export_without_its_manifest_is_read_too(tmp_path: Path) -> None:
    folder = export(tmp_path / "export")
    (folder / "manifest.json").unlink()
    intake = Zone(tmp_path / "home").deliver(folder)
    assert intake.total("loaded") == 4 and ignored(intake) == {"OUTCOME": 1}


def test_an_export_that_is_short_says_so(tmp_path: Path) -> None:
    folder = export(tmp_path / "export")
    (folder / "Patient.ndjson").write_text(json.dumps(patient("a")) + "\n")
    (folder / "Observation.ndjson").unlink()
    intake = Zone(tmp_path / "home").deliver(folder)
    notes = dict(intake.dispositions.select("file", "note").iter_rows())
    assert notes["Patient.ndjson"] == "the manifest promises 2 lines and it has 1"
    assert notes["Observation.ndjson"] == "the manifest names it and it is not there"
    assert not intake.complete and intake.total("loaded") == 2


def test_a_file_the_manifest_does_not_name_is_left_out(tmp_path: Path) -> None:
    folder = export(tmp_path / "export")
    (folder / "Condition.ndjson").write_text(json.dumps(patient("x")) + "\n")
    zone = Zone(tmp_path / "home")
    intake = zone.deliver(folder)
    assert "x" not in zone.current("Patient")
    assert dict(intake.dispositions.select("file", "note").iter_rows())["Condition.ndjson"] == (
        "the manifest beside it does not name it"
    )


def test_a_line_of_another_type_than_the_manifest_says_is_set_aside(tmp_path: Path) -> None:
    folder = export(tmp_path / "export")
    (folder / "Patient.ndjson").write_text(json.dumps(patient("a")) + "\n" + json.dumps(observation("o2", "a")) + "\n")
    assert reasons(Zone(tmp_path / "home").deliver(folder)) == {"WRONG_KIND": 1}


@pytest.mark.parametrize(
    "changes", [{"output": "none"}, {"output": [{"type": "Patient"}]}, {"output": [{"url": "x", "count": -1}]}]
)
def test_a_manifest_that_cannot_be_followed_is_one_error(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(TrialOpsError, match="manifest of a bulk export cannot be followed"):
        Zone(tmp_path / "home").deliver(export(tmp_path / "export", **changes))


# -- versions ---------------------------------------------------------------------------------------------------------


def test_the_same_delivery_again_changes_nothing(tmp_path: Path) -> None:
    zone, data = Zone(tmp_path), [patient("a", 1), observation("o", "a")]
    zone.give(*data)
    before, seq = zone.content(), zone.zone.held().seq
    again = zone.give(*data)
    assert again.total("loaded") == 0 and ignored(again) == {"ALREADY_HELD": 2}
    assert again.checked == 0  # known content is not validated again
    assert (zone.content(), zone.zone.held().seq) == (before, seq)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (patient("a", 9, gender="male"), patient("a", 10, gender="female")),
        (patient("a", 1, "2026-05-01T00:00:00Z"), patient("a", 2, "2026-01-01T00:00:00Z")),
        (patient("a", None, "2026-01-01T00:00:00Z"), patient("a", None, "2026-01-01T00:00:00.001Z")),
        (patient("a", None, "2026-01-01T03:00:00+02:00"), patient("a", None, "2026-01-01T02:00:00Z")),
        (patient("a", gender="male"), patient("a", 1, gender="female")),
    ],
    ids=["version as a number", "version before time", "fraction of a second", "time zones", "a version before none"],
)
@pytest.mark.parametrize("together", [True, False])
def test_an_older_version_never_supersedes_a_newer(
    tmp_path: Path, old: dict[str, Any], new: dict[str, Any], together: bool
) -> None:
    for number, order in enumerate(permutations([old, new])):
        zone = Zone(tmp_path / str(number))
        if together:
            assert ignored(zone.give(*order)) == {"OLDER_VERSION": 1}
        else:
            for one in order:
                zone.give(one)
        assert zone.current("Patient") == {"a": new}
        assert ignored(zone.give(old)) == {"ALREADY_HELD": 1}
        assert zone.current("Patient") == {"a": new}


def test_without_version_and_time_the_later_arrival_counts_and_a_replay_does_not(tmp_path: Path) -> None:
    zone = Zone(tmp_path)
    zone.give(patient("a", gender="male"))
    zone.give(patient("a", gender="female"))
    zone.give(patient("a", gender="male"))
    assert zone.current("Patient")["a"]["gender"] == "female"


def test_one_version_with_two_contents_is_a_conflict(tmp_path: Path) -> None:
    zone = Zone(tmp_path)
    zone.give(patient("a", 2, gender="male"))
    intake = zone.give(patient("a", 2, gender="female"))
    assert reasons(intake) == {"VERSION_CONFLICT": 1}
    assert zone.current("Patient")["a"]["gender"] == "male"


@pytest.mark.parametrize(
    ("resource", "deletion"),
    [
        (patient("a", 2, "2026-01-02T00:00:00Z"), delete("Patient/a", ifMatch='W/"3"')),
        (patient("a", 2, "2026-01-02T00:00:00Z"), delete("Patient/a/_history/3")),
        (
            patient("a", None, "2026-01-02T00:00:00Z"),
            {**delete("Patient/a"), "response": {"status": "204", "lastModified": "2026-01-03T00:00:00Z"}},
        ),
    ],
    ids=["etag", "history", "time"],
)
def test_a_deletion_ends_what_is_older_in_any_order(
    tmp_path: Path, resource: dict[str, Any], deletion: dict[str, Any]
) -> None:
    for number, order in enumerate(permutations([resource, deletion, observation("o", "a")])):
        zone = Zone(tmp_path / str(number))
        for one in order:
            zone.give(one)
        assert zone.current("Patient") == {} and set(zone.current("Observation")) == {"o"}
        zone.give(resource)
        assert zone.current("Patient") == {}
        zone.give(patient("a", 4, "2026-01-09T00:00:00Z"))
        assert set(zone.current("Patient")) == {"a"}  # it came back under a later version


def test_a_deletion_without_version_or_time_ends_what_came_before_it(tmp_path: Path) -> None:
    zone = Zone(tmp_path)
    zone.give(patient("a"), patient("b"))
    intake = zone.give(delete("Patient/a"))
    assert intake.total("deletions") == 1 and set(zone.current("Patient")) == {"b"}
    assert ignored(zone.give(delete("Patient/a"))) == {"ALREADY_HELD": 1}
    zone.give(patient("a"))  # a replay of what was deleted
    assert set(zone.current("Patient")) == {"b"}
    zone.give(delete("Patient/b"))
    assert "Patient" not in zone.zone.held().tables


history = st.lists(
    st.one_of(
        st.builds(
            lambda own, v, g: patient(own, v, f"2026-01-{v:02d}T00:00:00Z", gender=g),
            st.sampled_from("ab"),
            st.integers(1, 6),
            st.just("other"),
        ),
        st.builds(lambda own, v: delete(f"Patient/{own}", ifMatch=f'"{v}"'), st.sampled_from("ab"), st.integers(1, 6)),
    ),
    min_size=1,
    max_size=7,
)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(history, st.randoms(use_true_random=False))
def test_any_order_and_any_replay_end_in_the_same_state(events: list[dict[str, Any]], random: Random) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        together, scattered = Zone(Path(folder) / "a"), Zone(Path(folder) / "b")
        together.give(*events)
        shuffled = [*events, *events[: len(events) // 2]]
        random.shuffle(shuffled)
        while shuffled:
            cut = random.randint(1, 3)
            scattered.give(*shuffled[:cut])
            shuffled = shuffled[cut:]
        assert scattered.content() == together.content()
        expected = {}
        for own in "ab":
            stored = {int(e["meta"]["versionId"]) for e in events if e.get("id") == own}
            ended = [
                int(e["request"]["ifMatch"].strip('"'))
                for e in events
                if e.get("request", {}).get("url") == f"Patient/{own}"
            ]
            if stored and max(stored) > max(ended, default=0):
                expected[own] = str(max(stored))
        assert {k: r["meta"]["versionId"] for k, r in together.current("Patient").items()} == expected


def test_times_are_read_to_the_microsecond() -> None:
    frame = pl.DataFrame(
        {"t": ["2026-01-01T00:00:00Z", "2026-01-01T00:00:00.5Z", "2026-01-01T01:00:00+01:00", "", "x"]}
    )
    got = frame.select(instants("t"))["t"].to_list()
    assert got[1] - got[0] == 500_000 and got[2] == got[0] and got[3:] == [None, None]


def test_another_run_in_between_is_noticed(tmp_path: Path) -> None:
    zone = Zone(tmp_path)
    before = zone.zone.held()
    zone.give(patient("a"))
    with pytest.raises(StateMoved):
        zone.zone.commit(before, None, rules="x", cursors={"s": "2026"})


def test_tables_that_did_not_change_are_not_written_again(tmp_path: Path) -> None:
    zone = Zone(tmp_path)
    zone.give(patient("a"), observation("o", "a"))
    before = dict(zone.zone.held().tables)
    zone.give(observation("o2", "a"))
    after = zone.zone.held().tables
    assert after["Patient"] == before["Patient"] and after["Observation"] != before["Observation"]


def test_a_destroyed_key_ends_what_it_sealed_and_deliveries_go_on(tmp_path: Path) -> None:
    zone = Zone(tmp_path)
    zone.give(patient("a"), observation("o", "a"))
    vault = vault_in(tmp_path, MASTER)
    vault.rotate("raw")
    vault.destroy("raw", 1, reason="the sponsor's order", actor="tester")
    after = Zone(tmp_path)
    assert after.zone.held().tables == {} and after.zone.held().seq == 1
    after.give(patient("a"))
    assert set(after.current("Patient")) == {"a"} and after.zone.held().seq == 2


def test_an_altered_state_is_an_error(tmp_path: Path) -> None:
    zone = Zone(tmp_path)
    zone.give(patient("a"))
    for path in (tmp_path / "raw").rglob("tables/*"):
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
    with pytest.raises(TrialOpsError):
        Zone(tmp_path).zone.held()


# -- references -------------------------------------------------------------------------------------------------------


def entry(resource: dict[str, Any], full: str = "", **request: str) -> dict[str, Any]:
    return {"resource": resource} | ({"fullUrl": full} if full else {}) | ({"request": request} if request else {})


def test_references_by_urn_and_full_url_point_to_type_and_id(tmp_path: Path) -> None:
    urn = "urn:uuid:6b01025b-43b4-a9e4-525b-872995031987"
    seen = observation("o", "x") | {"subject": {"reference": urn}}
    seen["performer"] = [{"reference": "https://ehr.example/fhir/Practitioner/d"}]
    seen["hasMember"] = [{"reference": "Observation/elsewhere"}]
    zone = Zone(tmp_path)
    zone.give(
        entry(seen),  # before what it refers to
        entry({k: v for k, v in patient("x").items() if k != "id"}, urn, method="POST", url="Patient"),
        entry({"resourceType": "Practitioner", "id": "d"}, "https://ehr.example/fhir/Practitioner/d"),
    )
    assert set(zone.current("Patient")) == {urn.removeprefix("urn:uuid:")}
    got = zone.current("Observation")["o"]
    assert got["subject"]["reference"] == f"Patient/{urn.removeprefix('urn:uuid:')}"
    assert got["performer"][0]["reference"] == "Practitioner/d"
    assert got["hasMember"][0]["reference"] == "Observation/elsewhere"
    assert zone.tables()["Observation"]["subject"].to_list() == [urn.removeprefix("urn:uuid:")]


def test_conditional_references_are_looked_up_in_the_delivery_and_in_what_is_held(tmp_path: Path) -> None:
    npi = "http://hl7.org/fhir/sid/us-npi"
    zone = Zone(tmp_path)
    zone.give({"resourceType": "Practitioner", "id": "held", "identifier": [{"system": npi, "value": "1"}]})
    asks = [
        observation(f"o{n}", "a") | {"performer": [{"reference": f"Practitioner?identifier={npi}|{n}"}]} for n in "1234"
    ]
    intake = zone.give(
        *asks,
        {"resourceType": "Practitioner", "id": "new", "identifier": [{"system": npi, "value": "2"}]},
        {"resourceType": "Practitioner", "id": "twin1", "identifier": [{"system": npi, "value": "3"}]},
        {"resourceType": "Practitioner", "id": "twin2", "identifier": [{"system": npi, "value": "3"}]},
    )
    got = {k: o["performer"][0]["reference"] for k, o in zone.current("Observation").items()}
    assert got == {"o1": "Practitioner/held", "o2": "Practitioner/new"}
    assert reasons(intake) == {"UNRESOLVED_REFERENCE": 2}  # two have it, nobody has it


def test_a_urn_that_leads_nowhere_is_set_aside_with_the_element(tmp_path: Path) -> None:
    lost = observation("o", "a") | {"subject": {"reference": "urn:uuid:00000000-0000-4000-8000-000000000000"}}
    row = Zone(tmp_path).give(lost).quarantine.row(0, named=True)
    assert (row["reason"], row["column"], row["domain"]) == (
        "UNRESOLVED_REFERENCE",
        "Observation.subject.reference",
        "Observation",
    )


@pytest.mark.parametrize(
    ("resource", "subject"),
    [
        ({"resourceType": "Patient", "id": "a"}, "a"),
        ({"resourceType": "Consent", "patient": {"reference": "Patient/a"}}, "a"),
        ({"resourceType": "ResearchSubject", "individual": {"reference": "https://x/fhir/Patient/a/_history/2"}}, "a"),
        ({"resourceType": "Coverage", "beneficiary": {"reference": "Patient/a"}}, "a"),
        ({"resourceType": "Task", "for": {"reference": "Patient/a"}}, "a"),
        ({"resourceType": "Observation", "subject": {"reference": "Group/g"}}, None),
        ({"resourceType": "Observation", "subject": {"reference": "Patient?identifier=x"}}, None),
        ({"resourceType": "Account", "subject": [{"reference": "Patient/a"}, {"reference": "Patient/b"}]}, None),
        ({"resourceType": "Appointment", "participant": [{"actor": {"reference": "Patient/a"}}, {"actor": {}}]}, "a"),
        ({"resourceType": "Organization", "id": "o"}, None),
        ({"resourceType": "Observation", "subject": "Patient/a"}, None),
    ],
)
def test_whom_a_resource_is_about(resource: dict[str, Any], subject: str | None) -> None:
    assert subject_of(resource) == subject


# -- text -------------------------------------------------------------------------------------------------------------


def test_decimals_keep_their_precision() -> None:
    made = observation("o", "a") | {"valueQuantity": {"value": 1}}
    text = json.dumps(made).replace('"value": 1', '"value": 1.10')
    table = to_tables([parse(text)])["Observation"]
    assert '"value":1.10}' in table["json"][0]
    assert table["digest"][0] != to_tables([parse(text.replace("1.10", "1.1"))])["Observation"]["digest"][0]


def test_key_order_and_white_space_do_not_matter(tmp_path: Path) -> None:
    zone = Zone(tmp_path)
    zone.give(patient("a", gender="male", birthDate="1950"))
    text = '{ "birthDate":"1950",\n "gender":"male", "id":"a","resourceType":"Patient"}'
    assert ignored(zone.deliver([in_memory("page-1.json", text.encode())])) == {"ALREADY_HELD": 1}


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 64])
def test_chunks_may_cut_anywhere(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr(fhir_json, "CHUNK", chunk)
    data = bundle([patient("a", gender="other", name=[{"family": 'Ærø ✓ \\" 𝒳'}]), observation("o", "a")], total=123456)
    data = data.replace(b'"weight"', b'"we\\u0069ght \\ud835\\udcb3"').replace(b"123456", b"-1.25e+3")
    whole = json.loads(data)
    got = [item.resource for _, item in items(in_memory("bundle-1.json", data))]
    assert got == [e["resource"] for e in whole["entry"]]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(),
        lambda x: st.lists(x) | st.dictionaries(st.text(), x),
        max_leaves=12,
    ),
    st.integers(1, 40),
)
def test_the_stream_reads_what_the_standard_library_reads(value: Any, chunk: int) -> None:
    text = json.dumps(value)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fhir_json, "CHUNK", chunk)
        try:
            reader = fhir_json.JsonStream(io.BytesIO(f" {text} ".encode()))
            got = reader.value()
            reader.end()
        except fhir_json.JsonFault as fault:
            assert fault.reason == "BAD_CHARACTER" and ("\\u0000" in text or "\\ud" in text)
        else:
            assert got == value


def test_names_of_files_that_may_be_a_patients_are_not_shown() -> None:
    names = ["bulk/Patient.ndjson", "Yang129_Eichmann909_6b01.json", "bundle-0001.ndjson", "2026-01-31/bundle-1.json",
             "Smith.ndjson", "Patient/john.json", "Observation-page-0001.json", "study.ndjson"]  # fmt: skip
    shown = labels(names)
    kept = {n for n, label in shown.items() if n == label}
    assert kept == {"bulk/Patient.ndjson", "bundle-0001.ndjson", "Observation-page-0001.json", "study.ndjson"}
    assert len(set(shown.values())) == len(names)
    assert shown["Smith.ndjson"] == f"document {sorted(names).index('Smith.ndjson') + 1}.ndjson"


# -- the component ----------------------------------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    yield live_in(tmp_path / "home", monkeypatch)
    leave()


def run(home: Path, source: Path) -> tuple[int, Made]:
    raw = artifact(home, "raw")
    return ingest_fhir.python_func(str(source), raw, artifact(home, "quarantine"), artifact(home, "report")), raw


def test_component_seals_all_that_was_received_and_what_is_held(home: Path, tmp_path: Path) -> None:
    source = export(tmp_path / "export")
    (source / "Patient.ndjson").write_text(json.dumps(patient("a", name=[{"family": "Sacrosanct"}])) + "\n{broken\n")
    quarantined, raw = run(home, source)
    assert quarantined == 1
    with step("look") as run_:
        tables = run_.unseal(raw)
        assert tables["Patient"]["id"].to_list() == ["a"] and tables["Observation"]["subject"].to_list() == ["a"]
        files = [key for key in run_.objects.list(f"raw/{run_.vault.id}/files")]
        received = {run_.vault.decrypt(run_.objects.get(key), context=key) for key in files}
    assert received == {p.read_bytes() for p in source.iterdir()}
    for path in home.rglob("*"):
        if path.is_file():
            assert b"Sacrosanct" not in path.read_bytes(), path.name


def test_component_keeps_a_large_document_in_parts(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trialops.intake.fhir_intake.PART", 1000)
    source = tmp_path / "delivery"
    source.mkdir()
    content = bundle([patient(f"p{i}") for i in range(100)])
    (source / "bundle-1.json").write_bytes(content)
    run(home, source)
    with step("look") as run_:
        listing = next(k for k in run_.objects.list(f"raw/{run_.vault.id}/files") if k.endswith(".parts.json"))
        parts = json.loads(run_.objects.get(listing))["parts"]
        keys = [f"raw/{run_.vault.id}/files/{digest}" for digest in parts]
        whole = b"".join(run_.vault.decrypt(run_.objects.get(key), context=key) for key in keys)
    assert len(parts) > 5 and whole == content


def test_component_notices_a_file_that_is_still_being_written(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trialops.intake import fhir_intake

    source = tmp_path / "delivery"
    source.mkdir()
    (source / "bundle-1.json").write_bytes(bundle([patient("a")]))
    merge = fhir_intake.merge_delivery

    def slowly(*arguments: Any) -> Any:
        (source / "bundle-1.json").write_bytes(bundle([patient("a"), patient("b")]))
        return merge(*arguments)

    monkeypatch.setattr(fhir_intake, "merge_delivery", slowly)
    with pytest.raises(TrialOpsError, match="changed while it was read"):
        run(home, source)
    with step("look") as run_:
        assert open_zone(run_).held().seq == 0


def test_component_merges_deliveries_and_reuses_one_it_knows(home: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for folder, made in ((first, patient("a")), (second, patient("b"))):
        folder.mkdir()
        (folder / "bundle-1.json").write_bytes(bundle([made]))
    run(home, first)
    _, both = run(home, second)
    with step("look") as run_:
        assert run_.unseal(both)["Patient"]["id"].to_list() == ["a", "b"]
        seq = open_zone(run_).held().seq
    # The first delivery again: what is handed on is what is held now, not what was held then.
    _, again = run(home, first)
    with step("look") as run_:
        assert run_.unseal(again)["Patient"]["id"].to_list() == ["a", "b"]
        assert open_zone(run_).held().seq == seq == 2
    record = json.loads((home / "runs/run-1/steps/ingest-fhir/record.json").read_text())
    assert record["metrics"]["ignored"] == 1
    run(home, first)
    record = json.loads((home / "runs/run-1/steps/ingest-fhir/record.json").read_text())
    assert record["metrics"]["nothing_new_since"] == "run-1"


def test_component_says_what_waits_for_its_patient(home: Path, tmp_path: Path) -> None:
    source = tmp_path / "delivery"
    source.mkdir()
    (source / "bundle-1.json").write_bytes(bundle([patient("a"), observation("o1", "a"), observation("o2", "later")]))
    run(home, source)
    page = (home / "runs/run-1/steps/ingest-fhir/page.html").read_text()
    assert "1 resources are about patients that have not been delivered" in page
    (source / "bundle-2.json").write_bytes(bundle([patient("later")]))
    run(home, source)
    assert "have not been delivered" not in (home / "runs/run-1/steps/ingest-fhir/page.html").read_text()


def test_component_refuses_another_study(home: Path, tmp_path: Path) -> None:
    def enrolled(study: str) -> Path:
        folder = tmp_path / study
        folder.mkdir()
        subject = {
            "resourceType": "ResearchSubject",
            "id": f"r-{study}",
            "status": "on-study",
            "identifier": [{"system": f"urn:trialops:study:{study}", "value": "S-1"}],
            "study": {"reference": f"ResearchStudy/{study}"},
            "individual": {"reference": "Patient/a"},
        }
        (folder / "bundle-1.json").write_bytes(bundle([subject]))
        return folder

    run(home, enrolled("T1"))
    with pytest.raises(TrialOpsError, match="delivery is of study T2"):
        run(home, enrolled("T2"))


@pytest.mark.parametrize("content", ["missing", "empty"])
def test_component_needs_documents(home: Path, tmp_path: Path, content: str) -> None:
    source = tmp_path / "delivery"
    if content == "empty":
        source.mkdir()
        (source / "readme.txt").write_text("nothing")
    with pytest.raises(TrialOpsError, match="delivery folder"):
        run(home, source)


def test_outline_finds_a_fault_before_anything_is_handed_out() -> None:
    cut = bundle([patient("a"), patient("b")])[:-5]
    assert outline(in_memory("bundle-1.json", cut)).fault == "CUT_OFF"


def test_where_fhir_is(tmp_path: Path) -> None:
    """A folder named apart is read instead of the delivery; an address is asked beside it."""
    delivery, apart = tmp_path / "delivery", tmp_path / "apart"
    for folder in (delivery / "fhir", apart):
        folder.mkdir(parents=True)
        (folder / "bundle.json").write_text("{}")
    run: Any = SimpleNamespace(settings=SimpleNamespace(fhir_endpoint="https://fhir.example/r4"))
    assert sources(run, str(delivery), "none") == (delivery / "fhir", "")
    assert sources(run, str(delivery), "") == (delivery / "fhir", "https://fhir.example/r4")
    assert sources(run, str(delivery), "https://other.example") == (delivery / "fhir", "https://other.example")
    assert sources(run, str(delivery), str(apart)) == (apart, "")
    with pytest.raises(TrialOpsError, match="does not exist"):
        sources(run, str(delivery), str(tmp_path / "gone"))
