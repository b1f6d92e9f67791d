"""Erasure: decision, refusal with restriction, rows, keys, backups, feature store, models, certificate."""

from __future__ import annotations

import datetime as dt
import json
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from components.privacy import erase_subjects
from tests.support.homes import artifact, leave, live_in
from tests.support.vaults import vault_in
from trialops.errors import TrialOpsError
from trialops.governance.audit import AuditTrail
from trialops.privacy import certificate, holds, requests, subject_store
from trialops.privacy.erasure import Stores, still_there
from trialops.privacy.permission import unrestricted
from trialops.settings import settings
from trialops.stores.context import Step
from trialops.stores.vault import LINKS, Vault

KEYS = ["01-701-1015", "01-701-1023", "Patient/p-81"]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    yield live_in(tmp_path / "home", monkeypatch)
    leave()


def made(home: Path) -> tuple[Step, list[str]]:
    """A home with two trial subjects and one outside the trial, their features, models, contact details and links."""
    run = Step("setup", {}, settings())
    names = run.vault.pseudonyms("subject", KEYS)
    run.vault.remember("subject", dict(zip(KEYS, names, strict=True)), engine=run.engine)
    run.lake.write("clean/dm", pl.DataFrame({"USUBJID": names[:2]}))
    run.lake.write("features/labs", pl.DataFrame({"subject_id": names, "x": [1.0, 2.0, None]}))
    run.lake.write("features/labs", pl.DataFrame({"subject_id": names, "x": [1.5, 2.5, None]}))
    training = run.lake.write("training/withdrawal", pl.DataFrame({"subject_id": names[1:], "label": [0, 1]}))
    run.lake.write("omop/person", pl.DataFrame({"person_id": [1, 2, 3], "person_source_value": names}))
    run.lake.write("omop/measurement", pl.DataFrame({"measurement_id": [1, 2, 3, 4], "person_id": [3, 1, 3, 2]}))
    for name in names:
        subject_store.put(name, "contact", b"call 555-0100", vault=run.vault, objects=run.objects)
    read = {"rows": {"table": "training/withdrawal", "version": training.version}}
    for step, metrics in (("search-model", {}), ("register-model", {"version": "4"})):
        record = {
            "step": step,
            "run_id": "r7",
            "parameters": {"task": "withdrawal"},
            "metrics": metrics,
            "inputs": [{"artifact": "training", "tables": read}],
        }
        run.objects.put(f"runs/r7/steps/{step}/record.json", json.dumps(record).encode())
    work = home / "work" / "r7" / "build-training-set"
    work.mkdir(parents=True)
    pl.DataFrame({"subject_id": names, "x": [1.0, 2.0, 3.0]}).write_parquet(work / "labs.parquet")
    with sqlite3.connect(work / "online.db") as online:
        online.execute("CREATE TABLE trialops_labs (entity_key BLOB, value BLOB)")
        rows = [(b"\x02subject_id\x00" + name.encode() + b"\x00", b"1.0") for name in names]
        online.executemany("INSERT INTO trialops_labs VALUES (?, ?)", rows)
    online.close()
    return run, names


def ask(run: Step, key: str, kind: str = "erasure") -> requests.Event:
    return requests.receive(
        run.engine, run.vault, kind=kind, subject_key=key, actor="dpo", reason="identity shown in person"
    )


def carried_out(home: Path, rotate: bool = False) -> tuple[int, dict, str]:  # type: ignore[type-arg]
    one, page = artifact(home, "certificates"), artifact(home, "report")
    done = erase_subjects.python_func(one, page, rotate)
    return done, json.loads(Path(one.path).read_text()), Path(page.path).read_text()


def test_a_trial_subject_is_refused_with_reasons_and_restricted(home: Path) -> None:
    run, names = made(home)
    event = ask(run, KEYS[1])
    done, document, page = carried_out(home)
    assert done == 1
    body = document["certificates"][0]["body"]
    assert certificate.verify(document["certificates"][0])
    assert body["in_trial"] is True and body["links"] == 0
    refused = {place: why for place, action, why in body["places"] if action == "refuse"}
    assert "Art. 17(3)(d)" in refused["trial record"] and "25 years" in refused["trial record"]
    assert [e.action for e in requests.events(run.engine, event.request)] == [
        "received",
        "decided",
        "restricted",
        "executed",
    ]
    # The trial record and the way back to the subject stay; all that is not the trial's own is gone.
    assert names[1] in run.lake.read(_newest(run, "clean/dm"))["USUBJID"].to_list()
    assert run.vault.reidentify("subject", names[1], reason="SAE", actor="dr", engine=run.engine) == KEYS[1]
    stores = Stores(run.lake, run.objects, run.engine, run.vault)
    assert still_there(stores, names[1]) == [] and len(still_there(stores, names[0])) >= 3
    assert set(run.lake.read(_newest(run, "omop/measurement"))["person_id"]) == {1, 3}
    assert body["models"] == [
        {"model": "withdrawal", "recommend": "train again without the subject", "run": "r7", "version": "4"}
    ]
    # Later steps leave the subject out.
    tables = unrestricted({"DM": pl.DataFrame({"USUBJID": names})}, run)
    assert tables["DM"]["USUBJID"].to_list() == [names[0], names[2]]
    everything = json.dumps(document) + page + json.dumps([e.detail for e in requests.events(run.engine)])
    assert KEYS[1] not in everything
    assert not any(KEYS[1] in str(e) for e in AuditTrail(run.engine).events() if e.action != "reidentify")


def _newest(run: Step, table: str):  # type: ignore[no-untyped-def]
    from trialops.stores.refs import TableRef

    commit = run.lake.versions(table)[0]
    return TableRef(table, commit["version"], commit["rows"], commit["digest"])


def test_feature_store_files_lose_the_subject(home: Path) -> None:
    run, names = made(home)
    ask(run, KEYS[2])
    _, document, _ = carried_out(home)
    work = home / "work" / "r7" / "build-training-set"
    assert document["certificates"][0]["body"]["features"] == {"offline": 1, "online": 1}
    assert pl.read_parquet(work / "labs.parquet")["subject_id"].to_list() == names[:2]
    assert names[2].encode() not in (work / "online.db").read_bytes()
    assert names[0].encode() in (work / "online.db").read_bytes()


def test_published_features_and_what_is_prepared_from_them_lose_the_subject(home: Path) -> None:
    from trialops.features.offline_store_files import Place
    from trialops.features.offline_store_prepared import Source, prepared
    from trialops.features.training_set import write_views
    from trialops.privacy.erasure_reach import erase_published

    run, names = made(home)
    at = [dt.datetime(2000, 1, 10, tzinfo=dt.UTC)] * 3
    frame = pl.DataFrame({"subject_id": names, "event_timestamp": at, "created": at, "alt": [1.0, 2.0, 3.0]})
    paths = write_views({"labs": frame}, f"{run.objects.url}/features/current")
    source = Source(Place(paths["labs"]), ("subject_id",), "event_timestamp", "created")
    made_from = prepared(source)
    assert made_from.scan().collect()["subject_id"].to_list() == sorted(names)
    assert erase_published(run.objects, names[2]) == 2
    for place in (source.place, made_from):
        assert place.scan().collect()["subject_id"].to_list() == sorted(names[:2])
    assert sorted(prepared(source).scan().collect()["alt"]) == [1.0, 2.0]
    ask(run, KEYS[1])
    _, document, _ = carried_out(home)  # and in a request: source and prepared file, beside those of the work folder
    assert document["certificates"][0]["body"]["features"] == {"offline": 3, "online": 1}


def test_online_store_is_the_real_feast(home: Path) -> None:
    """What Feast itself writes online is found by the erasure, and Feast then knows the subject no more."""
    from trialops.features.training_set import write_views
    from trialops.privacy.erasure_reach import erase_feature_files
    from trialops.stores.features import open_store

    work = home / "work" / "feast"
    at = dt.datetime(2000, 1, 10, tzinfo=dt.UTC)
    views = {
        "labs": pl.DataFrame(
            {
                "subject_id": ["aaaa2222", "bbbb3333"],
                "event_timestamp": [at, at],
                "created": [at, at],
                "alt": [1.0, 2.0],
            }
        )
    }
    store = open_store(work, write_views(views, work), columns={"labs": ["alt"]})
    store.materialize(dt.datetime(2000, 1, 1, tzinfo=dt.UTC), dt.datetime(2000, 2, 1, tzinfo=dt.UTC))

    def online() -> list[float | None]:
        rows = [{"subject_id": "aaaa2222"}, {"subject_id": "bbbb3333"}]
        return list(store.get_online_features(features=["labs:alt"], entity_rows=rows).to_dict()["alt"])

    assert online() == [1.0, 2.0]
    found = erase_feature_files(home / "work", "bbbb3333")
    assert found["offline"] == 1 and found["online"] >= 1
    assert online() == [1.0, None]


def test_the_online_store_of_the_settings_and_pushed_rows_lose_the_subject(
    home: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.support.online_stores import rows
    from trialops.features.materialize import all_services
    from trialops.features.push import merged, push
    from trialops.settings import settings
    from trialops.stores.online import open_reader

    monkeypatch.setenv("TRIALOPS_ONLINE_URL", redis_url)
    settings.cache_clear()
    run, names = made(home)
    (service, *_) = all_services()
    late = rows(service.view("labs"), dict.fromkeys(names, 3))
    push(run, (service,), "labs", late, today=9, url=redis_url)
    ask(run, KEYS[2])
    _, document, _ = carried_out(home)
    assert document["certificates"][0]["body"]["features"]["online"] == 2  # the subject in Redis and in the old file
    assert any(one.startswith("pushed/labs/") for one in document["certificates"][0]["body"]["rows"])
    with open_reader(redis_url, service) as reader:
        assert reader.read(names).found.tolist() == [True, True, False]
    assert merged(run, service, "labs", late.clear())["subject_id"].to_list() == sorted(names[:2])


def test_outside_the_trial_old_copies_open_for_nobody(home: Path, tmp_path: Path) -> None:
    run, names = made(home)
    backup = tmp_path / "backup"
    shutil.copytree(home, backup)
    event = ask(run, KEYS[2])
    done, document, _ = carried_out(home, rotate=True)
    body = document["certificates"][0]["body"]
    assert done == 1 and body["in_trial"] is False and body["links"] == 1 and body["objects"] == 1
    assert f"subject-{names[2]}/1" in body["keys"] and body["master_key"] == "replaced"
    assert requests.events(run.engine, event.request)[-1].action == "executed"
    # The others' identities were sealed again and open as before.
    assert run.vault.reidentify("subject", names[0], reason="SAE", actor="dr", engine=run.engine) == KEYS[0]
    with pytest.raises(TrialOpsError, match="No identity is kept"):
        run.vault.reidentify("subject", names[2], reason="x", actor="dr", engine=run.engine)

    # An old copy of the contact details, restored beside today's keys.
    key = f"subjects/{names[2]}/contact"
    old = (backup / key).read_bytes()
    run.objects.put(key, old)
    with pytest.raises(TrialOpsError, match="key was destroyed"):
        subject_store.get(names[2], "contact", vault=Vault(run.objects, _key(home)), objects=run.objects)
    # An old copy of the database: the sealed link is there, and no key opens it.
    with sqlite3.connect(backup / "trialops.db") as database:
        query = "SELECT sealed FROM pseudonym_links WHERE pseudonym = ?"
        sealed = database.execute(query, (names[2],)).fetchone()[0]
    database.close()
    link = f"pseudonym_links/{run.vault.study}/subject/{names[2]}"
    assert vault_in(backup).opens(sealed, link) and not run.vault.opens(sealed, link)
    # An old copy of the keyring too, with today's master key: it does not open.
    mixed = tmp_path / "mixed"
    shutil.copytree(backup, mixed)
    for path in (home / "vault").glob("master*"):
        shutil.copy(path, mixed / "vault" / path.name)
    with pytest.raises(TrialOpsError, match="master key does not open"):
        _ = vault_in(mixed).id
    # Before the erasure the copy did open: the test would notice if nothing had been destroyed.
    assert vault_in(backup).decrypt(old, key) == b"call 555-0100"


def _key(home: Path):  # type: ignore[no-untyped-def]
    from trialops.stores.master_key import KeyFile

    return KeyFile(home / "vault")


def test_a_hold_keeps_everything(home: Path) -> None:
    run, names = made(home)
    event = ask(run, KEYS[2])
    hold = holds.place(
        run.engine, record_class="subject", object=f"subject/{names[2]}", actor="counsel", reason="claim 4"
    )
    done, document, page = carried_out(home)
    assert done == 0 and document["certificates"] == [] and "legal hold" in page
    assert requests.events(run.engine, event.request)[-1].action == "received"
    holds.release(run.engine, hold.hold, actor="counsel", reason="settled")
    assert carried_out(home)[0] == 1


def test_requests_are_checked(home: Path) -> None:
    run, _ = made(home)
    with pytest.raises(TrialOpsError, match="names nobody") as caught:
        ask(run, "01-999-0000")
    assert "01-999-0000" not in str(caught.value)
    ask(run, KEYS[0])
    with pytest.raises(TrialOpsError, match="open request"):
        ask(run, KEYS[0])
    with pytest.raises(TrialOpsError, match="no request of kind"):
        ask(run, KEYS[0], kind="oblivion")
    event = requests.events(run.engine)[0]
    with pytest.raises(TrialOpsError, match="cannot be executed"):
        requests.append(
            run.engine, event.request, "executed", "erasure", event.study, event.subject, actor="x", reason="y"
        )


def test_restriction_and_its_end(home: Path) -> None:
    run, names = made(home)
    event = ask(run, KEYS[0], kind="restriction")
    carried_out(home)
    assert requests.restricted(run.engine, run.vault.study) == {names[0]}
    assert requests.open_requests(run.engine) == []
    requests.append(
        run.engine, event.request, "lifted", event.kind, event.study, event.subject, actor="dpo", reason="verified"
    )
    assert requests.restricted(run.engine, run.vault.study) == frozenset()


def test_forgetting_one_link_needs_a_reason_and_destroys_the_old_key(home: Path) -> None:
    run, names = made(home)
    with pytest.raises(TrialOpsError, match="reason"):
        run.vault.forget({"subject": names[:1]}, reason="", actor="dpo", engine=run.engine)
    assert run.vault.forget({"subject": names[:1]}, reason="r", actor="dpo", engine=run.engine) == 1
    states = [k.state for k in run.vault.key_records() if k.purpose == LINKS]
    assert states == ["destroyed", "active"]
