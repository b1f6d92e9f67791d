"""One set of keys for all who share an object store: folders and buckets, pods and processes."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import polars as pl
import pytest

from tests.support.s3_server import s3  # noqa: F401
from tests.support.vaults import MASTER, pod, use, vault_in
from trialops.errors import TrialOpsError
from trialops.stores.keyring import PREFIX, newest
from trialops.stores.objects import ObjectStore, open_store
from trialops.stores.sealed import seal, seal_file, unseal
from trialops.stores.vault import Vault, open_vault, vault_id

FRAMES = {"DM": pl.DataFrame({"USUBJID": ["01-701-1015"], "AGE": [63]})}


@pytest.fixture(params=["folder", "s3"])
def objects_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "folder":
        return str(tmp_path / "objects")
    return f"{request.getfixturevalue('s3')}/{tmp_path.name}"


def test_two_pods_share_the_keys(objects_url: str, tmp_path: Path) -> None:
    one, two = (open_vault(pod(tmp_path / name, objects_url)) for name in ("a", "b"))
    assert one.id == two.id == vault_id(pod(tmp_path / "c", objects_url)) and len(one.id) == 16
    assert one.pseudonym("subject", "01-701-1015") == two.pseudonym("subject", "01-701-1015")
    assert one.offset_days("01-701-1015") == two.offset_days("01-701-1015")
    blob = one.encrypt("raw", b"identifiable", "c")
    assert two.decrypt(blob, "c") == b"identifiable"
    assert two.rotate("raw") == 2 and one.rotate("raw") == 3, "each sees what the other did"
    assert one.decrypt(two.encrypt("raw", b"later", "c"), "c") == b"later"
    one.destroy("raw", 1, reason="erasure request", actor="dpo")
    three = open_vault(pod(tmp_path / "d", objects_url))
    assert three.id == one.id and three.destroyed() == ["raw/1"]
    with pytest.raises(TrialOpsError, match="destroyed"):
        three.decrypt(blob, "c")
    kept = b"".join(open_store(objects_url).get(key) for key in list(open_store(objects_url).list(PREFIX))[:-1])
    assert b"wrapped" not in kept, "a destroyed key lies in no earlier revision"
    assert not any((tmp_path / name).exists() for name in ("a", "b", "c", "d")), "nothing is kept in a pod"


def test_another_master_key_does_not_open_it(objects_url: str, tmp_path: Path) -> None:
    open_vault(pod(tmp_path / "a", objects_url))
    with pytest.raises(TrialOpsError, match="does not open") as refused:
        open_vault(pod(tmp_path / "b", objects_url, MASTER[::-1]))
    assert "TRIALOPS_VAULT_KEY" in refused.value.fix
    assert newest(open_store(objects_url)) == 1


def test_bucket_without_a_master_key_is_refused(s3: str, tmp_path: Path) -> None:  # noqa: F811
    settings = pod(tmp_path / "a", f"{s3}/none", None)
    for ask in (open_vault, vault_id):
        with pytest.raises(TrialOpsError, match="must be given") as refused:
            ask(settings)
        assert refused.value.where == "TRIALOPS_VAULT_KEY"
    assert newest(open_store(f"{s3}/none")) == 0 and not (tmp_path / "a").exists()


def test_folder_without_a_master_key_gets_a_key_file(tmp_path: Path) -> None:
    settings = pod(tmp_path / "home", str(tmp_path / "objects"), None)
    named = vault_id(settings)
    assert [path.name for path in sorted((tmp_path / "home" / "vault").iterdir())] == ["master.key", "master.lock"]
    assert open_vault(settings).id == vault_id(settings) == named
    with pytest.raises(TrialOpsError, match="no master key"):
        open_vault(pod(tmp_path / "other home", str(tmp_path / "objects"), None))


@pytest.mark.parametrize("given", [True, False])
def test_processes_that_create_a_vault_at_once_share_its_keys(tmp_path: Path, given: bool) -> None:
    _at_once(str(tmp_path / "objects"), tmp_path, given, apart=given)


def test_pods_that_create_a_vault_in_a_bucket_at_once_share_its_keys(s3: str, tmp_path: Path) -> None:  # noqa: F811
    _at_once(f"{s3}/at-once", tmp_path, True, apart=True)


def _at_once(objects_url: str, tmp_path: Path, given: bool, *, apart: bool) -> None:
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    homes = [str(tmp_path / (f"home-{number}" if apart else "home")) for number in range(4)]
    workers = [context.Process(target=use, args=(home, objects_url, given, results)) for home in homes]
    for worker in workers:
        worker.start()
    made = [results.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join(60)
    vault = open_vault(pod(Path(homes[0]), objects_url, MASTER if given else None))
    assert {named for named, _, _ in made} == {vault.id}
    assert {vault.decrypt(blob, "c") for _, blob, _ in made} == {b"from a worker"}
    assert {name for _, _, name in made} == {vault.pseudonym("subject", "1")}
    assert [(key.purpose, key.version) for key in vault.key_records()] == [("raw", 1)]
    assert vault.revision == newest(open_store(objects_url)) == 2, "one revision made the vault, one the key"


# -- sealed tables --------------------


def kept(objects: ObjectStore, vault: Vault) -> list[str]:
    """Sealed objects of a vault."""
    return list(objects.list(f"raw/{vault.id}"))


def test_what_one_vault_sealed_is_nothing_to_another(tmp_path: Path) -> None:
    objects = open_store(str(tmp_path / "raw zone"))
    one, two = vault_in(tmp_path / "a"), vault_in(tmp_path / "b")
    documents = [seal(FRAMES, vault=vault, objects=objects) for vault in (one, two)]
    seal_file(b"x", vault=one, objects=objects)
    assert documents[0]["digest"] == documents[1]["digest"]
    assert (len(kept(objects, one)), len(kept(objects, two))) == (2, 1)
    for vault, document in zip((one, two), documents, strict=True):
        assert unseal(document, vault=vault, objects=objects)["DM"].equals(FRAMES["DM"])


def test_sealed_once_while_it_opens_and_again_after_its_key_was_destroyed(tmp_path: Path) -> None:
    objects, vault = open_store(str(tmp_path)), vault_in(tmp_path)
    document = seal(FRAMES, vault=vault, objects=objects)
    seal_file(b"dm.xpt", vault=vault, objects=objects)
    before = {key: objects.get(key) for key in kept(objects, vault)}
    vault.rotate("raw")
    assert seal(FRAMES, vault=vault, objects=objects) == document
    assert {key: objects.get(key) for key in kept(objects, vault)} == before, "a retired key still opens it"
    vault.destroy("raw", 1, reason="erasure request", actor="dpo")
    with pytest.raises(TrialOpsError, match="destroyed"):
        unseal(document, vault=vault, objects=objects)
    assert seal(FRAMES, vault=vault, objects=objects) == document
    digest = seal_file(b"dm.xpt", vault=vault, objects=objects)
    assert unseal(document, vault=vault, objects=objects)["DM"].equals(FRAMES["DM"])
    key = f"raw/{vault.id}/files/{digest}"
    assert vault.decrypt(objects.get(key), key) == b"dm.xpt"


def test_who_comes_second_reads_again_and_repeats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = (open_vault(pod(tmp_path / name, str(tmp_path / "objects"))) for name in ("a", "b"))
    put, lost = one._ring._put, []

    def late(seq: int, data: bytes, *, if_absent: bool) -> bool:
        if not lost:
            two.rotate("backup")
        lost.append(not put(seq, data, if_absent=if_absent))
        return not lost[-1]

    monkeypatch.setattr(one._ring, "_put", late)
    assert one.rotate("raw") == 1
    assert lost == [True, False]
    assert [(key.purpose, key.version) for key in two.key_records()] == [("backup", 1), ("raw", 1)]
