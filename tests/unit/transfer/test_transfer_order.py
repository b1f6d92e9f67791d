"""The order of the steps, configuration, and what is read of a landing zone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from trialops.errors import TrialOpsError
from trialops.stores.objects import open_store
from trialops.transfer.config import Flow, parse_config, read_config
from trialops.transfer.failures import TransferFailure
from trialops.transfer.graph import NODES, Outcome, holds, names_in
from trialops.transfer.landed import damaged, read_landed

FLOW = Flow("f1", "01")


@pytest.mark.parametrize(
    ("depends", "outcomes", "expected"),
    [
        ("", {}, True),
        ("a.Succeeded", {"a": "Succeeded"}, True),
        ("a.Succeeded", {"a": "Omitted"}, False),
        ("a.Failed || b.Failed", {"a": "Succeeded", "b": "Failed"}, True),
        ("a.Succeeded && !b.Failed", {"a": "Succeeded", "b": "Errored"}, True),
        ("(a.Failed || b.Failed) && b.Succeeded", {"a": "Failed", "b": "Failed"}, False),
        ("a.Failed || a.Succeeded && b.Succeeded", {"a": "Succeeded", "b": "Failed"}, False),
    ],
)
def test_expressions(depends: str, outcomes: dict[str, Outcome], expected: bool) -> None:
    assert holds(depends, outcomes) is expected


@pytest.mark.parametrize(
    "depends", ["a.Succeeded ||", "a", "a.Done", "(a.Failed", "a.Failed b.Failed", "a.Failed | b.Failed"]
)
def test_expressions_that_cannot_be_read(depends: str) -> None:
    with pytest.raises(TrialOpsError):
        holds(depends, {"a": "Succeeded", "b": "Succeeded"})


def test_every_step_waits_for_steps_before_it() -> None:
    seen: set[str] = set()
    for node in NODES:
        assert set(names_in(node.depends)) <= seen
        seen.add(node.name)


def configuration(**changes: Any) -> dict[str, Any]:
    return {
        "trial": "t",
        "region": "r",
        "account": "1",
        "flows": [{"name": "f", "site": "1"}],
        "landing": "l",
        "cleansed": "c",
        "backup": {"vault": "v", "resource": "r", "role": "r"},
        "datasets": [{"id": "d", "table": "dm"}],
        "task": "t",
        "function": {"start": "s", "status": "s"},
        **changes,
    }


def test_a_configuration_names_all_that_it_lacks(tmp_path: Path) -> None:
    assert parse_config(configuration()).datasets[0].table == "DM"
    with pytest.raises(TrialOpsError, match=r"lacks task, backup.role; has unknown typo; names a flow"):
        parse_config(
            configuration(
                task="",
                typo=1,
                backup={"vault": "v", "resource": "r"},
                flows=[{"name": "f", "site": "1"}, {"name": "f", "site": "2"}],
            )
        )
    with pytest.raises(TrialOpsError, match="cannot be read"):
        read_config(str(tmp_path / "none.yaml"))


DM = (
    "STUDYID,DOMAIN,USUBJID,SUBJID,SITEID,AGE,AGEU,SEX,RACE,ARMCD,ARM,RFSTDTC,RFENDTC,RFICDTC,COUNTRY,DMDTC\n"
    "S,DM,S-01-0001,0001,01,50,YEARS,F,WHITE,A,A,2025-01-02,2025-02-02,2025-01-01,USA,2025-01-01\n"
)


def landed(folder: Path, files: dict[str, str | bytes], records: int, **more: Any) -> Any:
    store = open_store(str(folder))
    for name, text in files.items():
        store.put(f"f1/e1/{name}", text.encode() if isinstance(text, str) else text)
    store.put("f1/e0/DM.csv", b"of another execution")
    return read_landed(store, [FLOW], {"f1": {"execution": "e1", "records": records}}, "{flow}/{execution}", **more)


@pytest.mark.parametrize(
    ("files", "records", "code"),
    [
        ({}, 1, "row count"),
        ({"DM.csv": DM}, 2, "row count"),
        ({"DM.csv": DM, "notes.txt": "ignored"}, 3, "row count"),
        ({"DM.parquet": b"PAR1 no parquet"}, 1, "unreadable"),
        ({"DM.csv": "USUBJID\nx\n"}, 1, "schema"),
    ],
)
def test_what_cannot_be_trusted_of_a_landing_zone(
    tmp_path: Path, files: dict[str, str | bytes], records: int, code: str
) -> None:
    with pytest.raises(TransferFailure) as raised:
        landed(tmp_path, files, records)
    assert (raised.value.kind, raised.value.code) == ("integrity", code)
    assert "S-01-0001" not in str(raised.value)


def test_files_that_change_later_are_found(tmp_path: Path) -> None:
    import hashlib

    store = open_store(str(tmp_path))
    manifest = []
    for name in ("a", "b", "c"):
        store.put(f"{name}.csv", name.encode())
        manifest.append({"key": f"{name}.csv", "sha256": hashlib.sha256(name.encode()).hexdigest()})
    assert damaged(store, manifest) == []
    store.put("a.csv", b"changed")
    store.delete("c.csv")
    assert damaged(store, manifest) == ["a.csv", "c.csv"]
