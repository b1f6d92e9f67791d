"""The vault: what is sealed opens only unaltered, in its context, while its key lives; stable pseudonyms."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from tests.support.vaults import revisions, vault_in
from trialops.errors import TrialOpsError
from trialops.governance.audit import AuditTrail
from trialops.stores import envelope
from trialops.stores.keyring import Keyring
from trialops.stores.master_key import KeyFile
from trialops.stores.objects import open_store
from trialops.stores.vault import LINKS, Vault

MASTER = bytes(range(32))


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return vault_in(tmp_path, study="CDISC01")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Vault:
    return vault_in(tmp_path_factory.mktemp("shared"), MASTER)


@given(data=st.binary(max_size=200), context=st.text(max_size=30))
def test_round_trip(shared: Vault, data: bytes, context: str) -> None:
    assert shared.decrypt(shared.encrypt("raw", data, context), context) == data


@given(position=st.integers(0, 10**6), flip=st.integers(1, 255))
def test_any_flipped_byte_is_refused(shared: Vault, position: int, flip: int) -> None:
    blob = bytearray(shared.encrypt("raw", b"identifiable", "lb/1"))
    blob[position % len(blob)] ^= flip
    with pytest.raises(TrialOpsError):
        shared.decrypt(bytes(blob), "lb/1")


def test_every_shortened_blob_is_refused(shared: Vault) -> None:
    blob = shared.encrypt("raw", b"identifiable", "lb/1")
    for length in range(len(blob)):
        with pytest.raises(TrialOpsError):
            shared.decrypt(blob[:length], "lb/1")


def test_wrong_context_is_refused(vault: Vault) -> None:
    blob = vault.encrypt("raw", b"identifiable", "lb/1")
    with pytest.raises(TrialOpsError, match="another context"):
        vault.decrypt(blob, "lb/2")


def test_equal_data_is_sealed_differently_and_not_in_the_clear(vault: Vault) -> None:
    first, second = (vault.encrypt("raw", b"identifiable", "c") for _ in range(2))
    assert first != second and b"identifiable" not in first


@pytest.mark.parametrize("purpose", ["", "Raw", "a b", "x" * 64, "../raw", "raw\n"])
def test_purpose_is_a_short_name(vault: Vault, purpose: str) -> None:
    with pytest.raises(TrialOpsError, match="purpose"):
        vault.encrypt(purpose, b"", "c")


# -- files --------------------


@pytest.fixture
def small_frames(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(envelope, "FRAME_BYTES", 64)
    return 64


@pytest.mark.parametrize("size", [0, 1, 63, 64, 65, 128, 1000])
def test_file_round_trip(vault: Vault, tmp_path: Path, small_frames: int, size: int) -> None:
    plain, sealed, back = tmp_path / "plain", tmp_path / "sealed", tmp_path / "out" / "back"
    plain.write_bytes(os.urandom(size))
    vault.encrypt_file(plain, sealed, purpose="backup", context="b/1")
    vault.decrypt_file(sealed, back, context="b/1")
    assert back.read_bytes() == plain.read_bytes()
    assert back.stat().st_mode & 0o077 == 0


def test_file_of_several_real_frames(vault: Vault, tmp_path: Path) -> None:
    data = os.urandom(1024) * (9 * 1024) + b"tail"
    (tmp_path / "plain").write_bytes(data)
    seen: list[float] = []
    vault.encrypt_file(
        tmp_path / "plain",
        tmp_path / "sealed",
        purpose="backup",
        context="b",
        progress=lambda text, part: seen.append(part),
    )
    vault.decrypt_file(tmp_path / "sealed", tmp_path / "back", context="b")
    assert (tmp_path / "back").read_bytes() == data
    assert len(seen) == 3 and seen == sorted(seen) and seen[-1] == 1.0


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(position=st.integers(0, 10**6), flip=st.integers(1, 255))
def test_any_flipped_byte_of_a_file_is_refused(shared: Vault, tmp_path: Path, position: int, flip: int) -> None:
    (tmp_path / "plain").write_bytes(b"identifiable" * 4)
    shared.encrypt_file(tmp_path / "plain", tmp_path / "sealed", purpose="backup", context="b")
    data = bytearray((tmp_path / "sealed").read_bytes())
    data[position % len(data)] ^= flip
    (tmp_path / "sealed").write_bytes(data)
    with pytest.raises(TrialOpsError):
        shared.decrypt_file(tmp_path / "sealed", tmp_path / "back", context="b")
    assert not (tmp_path / "back").exists()


def test_truncated_reordered_and_extended_files_are_refused(vault: Vault, tmp_path: Path, small_frames: int) -> None:
    plain, sealed, back = tmp_path / "plain", tmp_path / "sealed", tmp_path / "back"
    plain.write_bytes(os.urandom(4 * small_frames))
    vault.encrypt_file(plain, sealed, purpose="backup", context="b")
    data, frame = sealed.read_bytes(), small_frames + 16
    head, frames = data[: -4 * frame], [data[len(data) - (4 - i) * frame :][:frame] for i in range(4)]
    assert head + b"".join(frames) == data
    one, two, three, four = frames
    wrong = {
        "no frames": [],
        "last dropped": [one, two, three],
        "first dropped": [two, three, four],
        "swapped": [one, three, two, four],
        "repeated": [one, two, two, three, four],
        "extended": [one, two, three, four, four],
        "trailing bytes": [one, two, three, four, b"x"],
        "cut in a frame": [one, two, three, four[:-5]],
    }
    for name, parts in wrong.items():
        sealed.write_bytes(head + b"".join(parts))
        with pytest.raises(TrialOpsError):
            vault.decrypt_file(sealed, back, context="b")
        assert not back.exists(), name
    for length in range(len(head)):
        sealed.write_bytes(data[:length])
        with pytest.raises(TrialOpsError):
            vault.decrypt_file(sealed, back, context="b")
    sealed.write_bytes(data)
    with pytest.raises(TrialOpsError):
        vault.decrypt_file(sealed, back, context="other")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["plain", "sealed", "vault"]


def test_blob_and_file_formats_do_not_mix(vault: Vault, tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(vault.encrypt("raw", b"x", "c"))
    with pytest.raises(TrialOpsError, match="format"):
        vault.decrypt_file(tmp_path / "blob", tmp_path / "back", context="c")


# -- keys --------------------


def test_rotation_keeps_old_data_readable(vault: Vault, tmp_path: Path) -> None:
    old = vault.encrypt("raw", b"old", "c")
    assert vault.rotate("raw") == 2
    new = vault.encrypt("raw", b"new", "c")
    reopened = vault_in(tmp_path)
    assert (reopened.decrypt(old, "c"), reopened.decrypt(new, "c")) == (b"old", b"new")
    assert [(key.version, key.state) for key in vault.key_records()] == [(1, "retired"), (2, "active")]


def test_destroyed_key_is_gone_for_every_instance(vault: Vault, engine: Engine, tmp_path: Path) -> None:
    other = vault_in(tmp_path)
    old = vault.encrypt("raw", b"old", "c")
    assert other.decrypt(old, "c") == b"old"
    vault.rotate("raw")
    new = vault.encrypt("raw", b"new", "c")
    vault.destroy("raw", 1, reason="erasure request 7", actor="dpo", engine=engine)
    for each in (vault, other, vault_in(tmp_path)):
        with pytest.raises(TrialOpsError, match="destroyed"):
            each.decrypt(old, "c")
        assert each.decrypt(new, "c") == b"new"
    tomb = vault.key_records()[0]
    assert (tomb.state, tomb.reason, tomb.actor) == (
        "destroyed",
        "erasure request 7",
        "dpo",
    ) and tomb.destroyed
    *earlier, newest = (json.loads(path.read_text()) for path in revisions(tmp_path))
    assert "wrapped" not in newest["keys"]["raw"]["1"]
    assert len(earlier) == 3 and all(set(stub) == {"format", "seq", "replaced"} for stub in earlier)
    event = list(AuditTrail(engine).events())[-1]
    assert (event.action, event.object, event.version) == ("key.destroy", "vault/raw", "1")


def test_destroyed_active_key_gets_a_successor_of_a_new_version(vault: Vault) -> None:
    vault.encrypt("raw", b"old", "c")
    vault.destroy("raw", 1, reason="end of retention", actor="dpo")
    assert vault.decrypt(vault.encrypt("raw", b"new", "c"), "c") == b"new"
    assert [(key.version, key.state) for key in vault.key_records()] == [(1, "destroyed"), (2, "active")]
    with pytest.raises(TrialOpsError, match="no such key"):
        vault.destroy("raw", 3, reason="x", actor="y")
    with pytest.raises(TrialOpsError, match="reason"):
        vault.destroy("raw", 2, reason=" ", actor="y")


def test_master_rotation_rewraps_only(vault: Vault, tmp_path: Path) -> None:
    blob, name = vault.encrypt("raw", b"x", "c"), vault.pseudonym("subject", "01-701-1015")
    key = tmp_path / "vault" / "master.key"
    other, before, named = vault_in(tmp_path, study="CDISC01"), key.read_bytes(), vault.id
    vault.rotate_master()
    assert key.read_bytes() != before
    for each in (vault, other, vault_in(tmp_path, study="CDISC01")):
        assert each.decrypt(blob, "c") == b"x" and each.pseudonym("subject", "01-701-1015") == name
        assert each.id == named
    key.write_bytes(before)
    with pytest.raises(TrialOpsError, match="does not open"):
        vault_in(tmp_path)


def test_given_master_key_rotates_to_the_given_one(tmp_path: Path) -> None:
    vault = vault_in(tmp_path, MASTER)
    blob = vault.encrypt("raw", b"x", "c")
    with pytest.raises(TrialOpsError, match="new one must be given"):
        vault.rotate_master()
    vault.rotate_master(MASTER[::-1])
    assert vault.decrypt(blob, "c") == vault_in(tmp_path, MASTER[::-1]).decrypt(blob, "c") == b"x"
    with pytest.raises(TrialOpsError, match="does not open"):
        vault_in(tmp_path, MASTER)
    assert [path.name for path in (tmp_path / "vault").iterdir()] == ["keyring"]


@pytest.mark.parametrize("dies_at", ["keyring", "rename"])
def test_master_rotation_cut_short_loses_nothing(
    vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dies_at: str
) -> None:
    """Die before or after the keyring is stored: the old or the new master key must open the vault."""
    blob, calls, replace = vault.encrypt("raw", b"x", "c"), [], os.replace

    def die(*arguments: object, **more: object) -> None:
        raise OSError("power cut")

    def once(*paths: str) -> None:
        calls.append(paths)
        replace(*paths) if len(calls) == 1 else die()

    if dies_at == "keyring":
        monkeypatch.setattr(vault._ring._objects, "put", die)
    else:
        monkeypatch.setattr(os, "replace", once)
    with pytest.raises(OSError, match="power cut"):
        vault.rotate_master()
    monkeypatch.undo()
    assert (tmp_path / "vault" / "master.key.next").exists()
    after = vault_in(tmp_path)
    assert after.decrypt(blob, "c") == b"x"
    after.rotate("raw")
    assert not (tmp_path / "vault" / "master.key.next").exists()
    assert vault_in(tmp_path).decrypt(blob, "c") == b"x"


def test_shredding_cut_short_is_finished_by_the_next_to_open(
    vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Die with the tombstone stored and the key still in earlier revisions."""
    blob = vault.encrypt("raw", b"x", "c")
    monkeypatch.setattr(Keyring, "_check_predecessor", lambda *arguments: (_ for _ in ()).throw(OSError("power cut")))
    with pytest.raises(OSError, match="power cut"):
        vault.destroy("raw", 1, reason="erasure", actor="dpo")
    monkeypatch.undo()
    assert "wrapped" in revisions(tmp_path)[1].read_text()
    with pytest.raises(TrialOpsError, match="destroyed"):
        vault_in(tmp_path).decrypt(blob, "c")
    assert not any("wrapped" in path.read_text() for path in revisions(tmp_path))


def test_key_files_are_the_owners_alone(vault: Vault, tmp_path: Path) -> None:
    vault.rotate("raw")
    vault.destroy("raw", 1, reason="erasure", actor="dpo")
    folder = tmp_path / "vault"
    assert {str(path.relative_to(folder)): path.stat().st_mode & 0o777 for path in folder.rglob("*")} == {
        "master.key": 0o600,
        "master.lock": 0o600,
        "keyring": 0o700,
        "keyring/000001.json": 0o600,
        "keyring/000002.json": 0o600,
        "keyring/000003.json": 0o600,
    }
    assert folder.stat().st_mode & 0o777 == 0o700


def test_world_readable_master_key_is_refused(vault: Vault, tmp_path: Path) -> None:
    key = tmp_path / "vault" / "master.key"
    key.chmod(0o644)
    with pytest.raises(TrialOpsError, match="every user"):
        vault_in(tmp_path)
    key.chmod(0o640)  # a volume's group, as Kubernetes sets it
    vault_in(tmp_path)


def test_lost_master_key_is_not_made_anew(vault: Vault, tmp_path: Path) -> None:
    key = tmp_path / "vault" / "master.key"
    key.unlink()
    with pytest.raises(TrialOpsError, match="no master key"):
        vault_in(tmp_path)
    assert not key.exists()


def test_damaged_or_altered_key_files_are_refused(vault: Vault, tmp_path: Path) -> None:
    vault.encrypt("raw", b"x", "c")
    vault.rotate("raw")
    _, before, newest = revisions(tmp_path)
    whole = newest.read_text()
    newest.write_text(whole.replace('"retired"', '"active"'))
    with pytest.raises(TrialOpsError, match="altered"):
        vault_in(tmp_path)
    newest.write_text(whole[:-20])
    with pytest.raises(TrialOpsError, match="cannot be read"):
        vault_in(tmp_path)
    newest.write_text(whole)
    earlier = before.read_text()
    before.write_text(earlier.replace("active", "Active"))
    with pytest.raises(TrialOpsError, match="revision of the keyring was altered"):
        vault_in(tmp_path)
    before.unlink()
    with pytest.raises(TrialOpsError, match="missing"):
        vault_in(tmp_path)
    before.write_text(earlier)
    vault_in(tmp_path)
    (tmp_path / "vault" / "master.key").write_bytes(b"c2hvcnQ=")
    with pytest.raises(TrialOpsError, match="damaged"):
        vault_in(tmp_path)


def test_earlier_revision_put_in_the_newest_place_is_refused(vault: Vault, tmp_path: Path) -> None:
    vault.rotate("raw")
    first, second = revisions(tmp_path)
    second.with_name("000003.json").write_bytes(first.read_bytes())
    with pytest.raises(TrialOpsError, match="altered"):
        vault_in(tmp_path)


def test_removed_keyring_is_not_made_anew_by_who_has_it_open(vault: Vault, tmp_path: Path) -> None:
    for path in revisions(tmp_path):
        path.unlink()
    with pytest.raises(TrialOpsError, match="gone"):
        vault.rotate("raw")
    assert revisions(tmp_path) == []


def test_master_key_has_32_bytes(tmp_path: Path) -> None:
    with pytest.raises(TrialOpsError, match="32 bytes"):
        vault_in(tmp_path, b"short")
    assert list(tmp_path.iterdir()) == []


def test_keys_stay_out_of_representations(tmp_path: Path) -> None:
    vault = vault_in(tmp_path, MASTER)
    vault.encrypt("raw", b"x", "c")
    shown = repr(vault) + repr(vault._ring) + repr(vault._ring._master_key) + repr(vault.key_records())
    secrets = [MASTER, vault._ring.pseudonym_key(), vault._ring.key("raw", 1)]
    assert not any(repr(secret)[2:-1] in shown or secret.hex() in shown for secret in secrets)
    kept = "".join(path.read_text() for path in revisions(tmp_path))
    assert not any(base64.b64encode(secret).decode() in kept for secret in secrets)


# -- pseudonyms --------------------


def test_pseudonym_is_16_base32_letters_and_stable(vault: Vault, tmp_path: Path) -> None:
    name = vault.pseudonym("subject", "01-701-1015")
    assert len(name) == 16 and set(name) <= set("abcdefghijklmnopqrstuvwxyz234567")
    vault.rotate("raw")
    assert vault_in(tmp_path, study="CDISC01").pseudonym("subject", "01-701-1015") == name


def test_pseudonyms_differ_by_kind_study_value_and_vault(vault: Vault, tmp_path: Path) -> None:
    names = [
        vault.pseudonym("subject", "1015"),
        vault.pseudonym("subject", "1016"),
        vault.pseudonym("site", "1015"),
        vault.pseudonym("subject", "1015", study="CDISC02"),
        vault.pseudonym("subjec", "t1015"),
        vault_in(tmp_path / "other", study="CDISC01").pseudonym("subject", "1015"),
        vault_in(tmp_path).pseudonym("subject", "1015"),
    ]
    assert len(set(names)) == len(names)


def test_pseudonym_is_the_documented_hmac(tmp_path: Path) -> None:
    import base64
    import hashlib
    import hmac

    vault = vault_in(tmp_path, MASTER, study="S")
    domain = b"\0\0\0\x09pseudonym\0\0\0\x01S\0\0\0\x07subject"
    key = hmac.new(vault._ring.pseudonym_key(), domain, hashlib.sha256).digest()
    expected = base64.b32encode(hmac.new(key, b"1015", hashlib.sha256).digest()[:10]).decode().lower()
    assert vault.pseudonym("subject", "1015") == expected


def test_pseudonyms_of_many_keep_order_and_repeats(vault: Vault) -> None:
    values = [str(number % 7) for number in range(50)]
    assert vault.pseudonyms("subject", values) == [vault.pseudonym("subject", value) for value in values]
    assert vault.pseudonyms("subject", []) == []


def test_pseudonyms_of_twenty_thousand_do_not_collide(vault: Vault) -> None:
    assert len(set(vault.pseudonyms("subject", [f"S-{number}" for number in range(20_000)]))) == 20_000


def test_offsets_are_fixed_never_zero_and_fill_the_range(vault: Vault, tmp_path: Path) -> None:
    offsets = [vault.offset_days(f"S-{number}", -5, 5) for number in range(2_000)]
    counts = {day: offsets.count(day) for day in range(-5, 6)}
    assert counts.pop(0) == 0 and sum(counts.values()) == 2_000
    assert all(140 <= count <= 260 for count in counts.values())  # 200 expected, standard deviation 13
    again = vault_in(tmp_path, study="CDISC01")
    assert [again.offset_days(f"S-{number}", -5, 5) for number in range(2_000)] == offsets


def test_offset_range(vault: Vault) -> None:
    assert {vault.offset_days(str(number), 3, 4) for number in range(50)} == {3, 4}
    assert {vault.offset_days(str(number), -4, -3) for number in range(50)} == {-4, -3}
    assert {vault.offset_days(str(number), 0, 1) for number in range(50)} == {1}
    assert all(-182 <= vault.offset_days(str(number)) <= 182 for number in range(200))
    assert vault.offset_days("1", study="A") != vault.offset_days("1", study="B")
    with pytest.raises(TrialOpsError, match="empty"):
        vault.offset_days("1", 0, 0)


def test_reidentify_is_audited(vault: Vault, engine: Engine) -> None:
    values = [f"01-701-{number}" for number in range(1_000, 1_600)]
    links = dict(zip(values, vault.pseudonyms("subject", values), strict=True))
    assert vault.remember("subject", links, engine=engine) == 600
    assert vault.remember("subject", links, engine=engine) == 0
    name = links["01-701-1015"]
    value = vault.reidentify("subject", name, reason="SUSAR follow-up", actor="safety", engine=engine)
    assert value == "01-701-1015"
    (event,) = AuditTrail(engine).events()
    assert (event.action, event.actor, event.reason) == ("reidentify", "safety", "SUSAR follow-up")
    assert event.object == f"subject/{name}" and event.detail["found"] is True
    assert "01-701-1015" not in repr(event)
    with engine.connect() as connection:
        stored = connection.exec_driver_sql("SELECT study, kind, pseudonym, sealed FROM pseudonym_links").all()
    assert not any(b"01-701" in bytes(row.sealed) for row in stored) and "01-701" not in repr(
        [row[:3] for row in stored]
    )


def test_unknown_pseudonym_is_audited_too(vault: Vault, engine: Engine) -> None:
    with pytest.raises(TrialOpsError, match="No identity"):
        vault.reidentify("subject", "a" * 16, reason="curious", actor="eve", engine=engine)
    (event,) = AuditTrail(engine).events()
    assert event.actor == "eve" and event.detail["found"] is False
    for reason, actor in (("", "eve"), ("why", " ")):
        with pytest.raises(TrialOpsError, match="This needs"):
            vault.reidentify("subject", "a" * 16, reason=reason, actor=actor, engine=engine)


def test_shredded_links_cannot_be_reidentified(vault: Vault, engine: Engine) -> None:
    name = vault.pseudonym("subject", "1015")
    vault.remember("subject", {"1015": name}, engine=engine)
    vault.destroy(LINKS, 1, reason="end of retention", actor="dpo", engine=engine)
    with pytest.raises(TrialOpsError, match="destroyed"):
        vault.reidentify("subject", name, reason="too late", actor="safety", engine=engine)
    assert [event.action for event in AuditTrail(engine).events()] == ["key.destroy", "reidentify"]


def test_link_moved_to_another_pseudonym_is_refused(vault: Vault, engine: Engine) -> None:
    names = vault.pseudonyms("subject", ["1", "2"])
    vault.remember("subject", {"1": names[0], "2": names[1]}, engine=engine)
    with engine.begin() as connection:
        sealed = connection.exec_driver_sql(f"SELECT sealed FROM pseudonym_links WHERE pseudonym = '{names[0]}'")
        connection.exec_driver_sql(f"DELETE FROM pseudonym_links WHERE pseudonym = '{names[1]}'")
        assert sealed.one()
        connection.exec_driver_sql(f"UPDATE pseudonym_links SET pseudonym = '{names[1]}'")
    with pytest.raises(TrialOpsError, match="another context"):
        vault.reidentify("subject", names[1], reason="test", actor="eve", engine=engine)


def test_one_pseudonym_for_two_values_is_refused(vault: Vault, engine: Engine) -> None:
    vault.remember("subject", {"1": "a" * 16}, engine=engine)
    for links in ({"2": "a" * 16}, {"2": "b" * 16, "3": "b" * 16}, {"3": "c" * 16, "2": "a" * 16}):
        with pytest.raises(TrialOpsError, match="two values"):
            vault.remember("subject", links, engine=engine)
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM pseudonym_links").scalar() == 1


def test_given_pseudonym_key_settles_pseudonyms_and_nothing_else(tmp_path: Path) -> None:
    key = bytes(range(32, 64))
    first, second = (
        Vault(open_store(str(tmp_path / name)), KeyFile(tmp_path / name / "vault"), pseudonym_key=key)
        for name in ("one", "two")
    )
    assert first.pseudonym("subject", "01-701-1015") == second.pseudonym("subject", "01-701-1015")
    assert first.id != second.id
    with pytest.raises(TrialOpsError):  # each vault still encrypts with keys of its own
        second.decrypt(first.encrypt("raw", b"identifiable", "lb/1"), "lb/1")
    other = Vault(open_store(str(tmp_path / "one")), KeyFile(tmp_path / "one" / "vault"), pseudonym_key=bytes(32))
    assert other.pseudonym("subject", "01-701-1015") == first.pseudonym("subject", "01-701-1015")
