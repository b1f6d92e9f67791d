"""Dataset-JSON 1.1: valid by the published schemas, equal when read back, streamed, refused when cut or altered."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft201909Validator

from tests.support import submissions
from tests.support.cdisc_schemas import dataset_json_schema, dataset_ndjson_schema
from trialops.errors import TrialOpsError
from trialops.regulatory import dataset_json
from trialops.regulatory.dataset_json import read_json, write_json
from trialops.regulatory.define_rules import parse_define
from trialops.regulatory.define_xml import write_define
from trialops.regulatory.metadata import Metadata, describe


@pytest.fixture(scope="module")
def described() -> Metadata:
    return submissions.metadata()


def write_all(described: Metadata, folder: Path, lines: bool) -> dict[str, Path]:
    paths = {}
    for data_set in described.data_sets:
        paths[data_set.name] = folder / f"{data_set.name.lower()}.{'ndjson' if lines else 'json'}"
        write_json(paths[data_set.name], data_set, described, version="0.1", lines=lines)
    return paths


def test_valid_by_the_published_schemas(described: Metadata, tmp_path: Path) -> None:
    whole = Draft201909Validator(json.loads(dataset_json_schema().read_text()))
    first = Draft201909Validator(json.loads(dataset_ndjson_schema().read_text())["$defs"]["DatasetMetadata"] | {
        "$defs": json.loads(dataset_ndjson_schema().read_text())["$defs"]})  # fmt: skip
    for path in write_all(described, tmp_path, lines=False).values():
        document = json.loads(path.read_text())
        assert list(whole.iter_errors(document)) == []
        assert list(whole.iter_errors({**document, "records": -1}))
        assert list(whole.iter_errors({k: v for k, v in document.items() if k != "itemGroupOID"}))
        document["columns"][0]["dataType"] = "text"
        assert list(whole.iter_errors(document)), "the schema is really applied"
    for path in write_all(described, tmp_path, lines=True).values():
        lines = path.read_text().splitlines()
        header = json.loads(lines[0])
        assert list(first.iter_errors(header)) == []
        assert list(first.iter_errors({**header, "datasetJSONVersion": "1.0"}))
        assert len(lines) == header["records"] + 1
        assert all(len(json.loads(line)) == len(header["columns"]) for line in lines[1:])


@pytest.mark.parametrize("lines", [False, True])
def test_read_back_is_equal(described: Metadata, tmp_path: Path, lines: bool) -> None:
    for data_set in described.data_sets:
        path = write_all(described, tmp_path, lines)[data_set.name]
        back = read_json(path)
        kinds = {i.name: pl.Int64 for i in data_set.items if i.typed.data_type == "integer"}
        assert back.frame.equals(data_set.frame.cast(kinds))
        assert back.header["records"] == data_set.frame.height


def test_identifiers_and_types_are_those_of_define_xml(described: Metadata, tmp_path: Path) -> None:
    definition = parse_define(write_define(described))
    version = definition.version
    for name, path in write_all(described, tmp_path, lines=False).items():
        header = read_json(path).header
        group = next(g for g in definition.groups() if g.get("Name") == name)
        refs = {r.get("ItemOID"): r for r in group if r.get("ItemOID")}
        assert header["metaDataVersionOID"] == version.get("OID") and header["itemGroupOID"] == group.get("OID")
        assert [c["itemOID"] for c in header["columns"]] == list(refs)
        for column in header["columns"]:
            item = definition.item(column["itemOID"])
            assert item is not None
            assert str(column.get("keySequence", "")) == refs[column["itemOID"]].get("KeySequence", "")
            assert str(column.get("length", "")) == item.get("Length", "")


def test_missing_values_dates_and_decimals(described: Metadata, tmp_path: Path) -> None:
    documents = {n: json.loads(p.read_text()) for n, p in write_all(described, tmp_path, lines=False).items()}
    types = {c["name"]: c["dataType"] for d in documents.values() for c in d["columns"]}
    assert types["AESTDTC"] == "datetime" and types["RFSTDTC"] == "date" and types["LBSTRESN"] == "double"
    row = dict(zip([c["name"] for c in documents["DM"]["columns"]], documents["DM"]["rows"][2], strict=True))
    assert row["AGE"] is None and row["AGEU"] == "" and row["RFSTDTC"] == "2024-02-28"
    values = [r[[c["name"] for c in documents["LB"]["columns"]].index("LBSTRESN")] for r in documents["LB"]["rows"]]
    assert sorted(v for v in values if v is not None) == [39.5, 42.0]


numbers = st.one_of(
    st.none(), st.floats(allow_nan=False, allow_infinity=False), st.integers(-(10**9), 10**9).map(float)
)
texts = st.one_of(st.none(), st.text(max_size=20).map(lambda t: t.rstrip(" ")).map(lambda t: t or None))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(numbers, texts), min_size=1, max_size=30), st.booleans())
def test_any_number_and_text_survive(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[float | None, str | None]], lines: bool
) -> None:
    frame = pl.DataFrame(
        {
            "STUDYID": ["T1"] * len(rows),
            "USUBJID": [f"{i:04d}" for i in range(len(rows))],
            "AGE": pl.Series([r[0] for r in rows], dtype=pl.Float64),
            "ARM": pl.Series([r[1] for r in rows], dtype=pl.String),
        }
    )
    described = describe({"DM": frame}, submissions.STUDY)
    path = tmp_path_factory.mktemp("j") / f"dm.{'ndjson' if lines else 'json'}"
    write_json(path, described.data_sets[0], described, lines=lines)
    back = read_json(path).frame.cast({"AGE": pl.Float64})
    assert back.equals(described.data_sets[0].frame)


@pytest.mark.parametrize("lines", [False, True])
def test_many_blocks_are_streamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: bool) -> None:
    monkeypatch.setattr(dataset_json, "BLOCK", 7)
    monkeypatch.setattr(dataset_json, "_CHUNK", 64)
    rows = 100
    frame = pl.DataFrame({"STUDYID": ["T1"] * rows, "USUBJID": [f"{i:04d}" for i in range(rows)], "SEX": ["F"] * rows})
    described = describe({"DM": frame}, submissions.STUDY)
    path = tmp_path / f"dm.{'ndjson' if lines else 'json'}"
    write_json(path, described.data_sets[0], described, lines=lines)
    assert read_json(path).frame.equals(described.data_sets[0].frame)


@pytest.mark.parametrize("lines", [False, True])
def test_a_file_cut_anywhere_is_refused(described: Metadata, tmp_path: Path, lines: bool) -> None:
    path = write_all(described, tmp_path, lines)["AE"]
    data = path.read_bytes()
    for keep in range(0, len(data.rstrip()) - 1, 97):
        path.write_bytes(data[:keep])
        with pytest.raises(TrialOpsError):
            read_json(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d | {"datasetJSONVersion": "1.0.0"},
        lambda d: d | {"records": d["records"] + 1},
        lambda d: d | {"rows": [[1], *d["rows"][1:]]},
        lambda d: d | {"rows": [{"a": 1}, *d["rows"][1:]]},
        lambda d: d | {"rows": [[3, *r[1:]] for r in d["rows"]]},
        lambda d: {k: v for k, v in d.items() if k != "columns"},
    ],
)
def test_an_altered_file_is_refused(described: Metadata, tmp_path: Path, change: object) -> None:
    path = write_all(described, tmp_path, lines=False)["AE"]
    document = json.loads(path.read_text())
    path.write_text(json.dumps(change(document)))  # type: ignore[operator]
    with pytest.raises(TrialOpsError):
        read_json(path)


def test_members_in_another_order_are_read(described: Metadata, tmp_path: Path) -> None:
    path = write_all(described, tmp_path, lines=False)["AE"]
    document = json.loads(path.read_text())
    path.write_text(json.dumps({"rows": document.pop("rows"), **document}))
    assert read_json(path).frame.height == document["records"]
