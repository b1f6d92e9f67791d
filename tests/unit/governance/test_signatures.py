"""Electronic signatures: two components, bound to one record, witnessed by the audit trail."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy import Engine

from tests.support.vaults import vault_in
from trialops.errors import TrialOpsError
from trialops.governance.audit import AuditTrail
from trialops.governance.signatures import Signature, Signatures, as_text
from trialops.governance.signers import ATTEMPTS

PASSPHRASE = "correct horse battery"
RECORD = b"model card, version 3"


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def signing(engine: Engine, tmp_path: Path) -> Signatures:
    signing = Signatures(engine, vault_in(tmp_path), cost=2**4)
    signing.enrol("alovelace", "Ada Lovelace", PASSPHRASE)
    return signing


def sign(signing: Signatures, **change: str) -> Signature:
    fields = {
        "user": "alovelace",
        "passphrase": PASSPHRASE,
        "meaning": "approved",
        "kind": "model",
        "record": "withdrawal/3",
        "digest": digest(RECORD),
    }
    return signing.sign(**(fields | change))


def test_signature_holds_and_is_witnessed(signing: Signatures, engine: Engine) -> None:
    signature = sign(signing, reason="criteria met", run_id="r1")
    check = signing.verify(signature, digest(RECORD))
    assert check.ok and bool(check) and check.problem == ""
    assert signing.of("model", "withdrawal/3") == [signature]
    event = list(AuditTrail(engine).events())[signature.audit_seq - 1]
    assert (event.action, event.actor, event.object) == ("sign", "alovelace", "model/withdrawal/3")
    assert event.version == digest(RECORD) and event.run_id == "r1"
    assert AuditTrail(engine).verify().ok


def test_any_changed_byte_of_the_record_invalidates(signing: Signatures) -> None:
    signature = sign(signing)
    for position in range(len(RECORD)):
        altered = bytearray(RECORD)
        altered[position] ^= 1
        assert not signing.verify(signature, digest(bytes(altered)))


@pytest.mark.parametrize(
    "change",
    [
        {"printed_name": "Ada L."},
        {"user_id": "cbabbage"},
        {"at": "2020-01-01T00:00:00.000000Z"},
        {"meaning": "authored"},
        {"reason": "other"},
        {"kind": "report"},
        {"record": "withdrawal/4"},
        {"id": "0"},
        {"run_id": "r2"},
        {"key_id": "0" * 64},
        {"signature": "00" * 64},
        {"signature": "not hex"},
        {"audit_seq": 1},
        {"audit_seq": 99},
    ],
    ids=lambda change: "=".join(map(str, next(iter(change.items())))),
)
def test_any_changed_field_of_the_signature_invalidates(signing: Signatures, change: dict[str, object]) -> None:
    signature = sign(signing)
    check = signing.verify(replace(signature, **change), digest(RECORD))
    assert not check.ok and check.problem


def test_signature_cannot_be_moved_to_another_record(signing: Signatures) -> None:
    signature, other = sign(signing), digest(b"another record")
    assert not signing.verify(replace(signature, digest=other), other)


def test_forged_key_row_is_not_the_signers(signing: Signatures, engine: Engine) -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from trialops.stores.tables import signer_keys

    forger = Ed25519PrivateKey.generate()
    public = forger.public_key().public_bytes_raw()
    genuine = sign(signing)
    forged = replace(genuine, key_id=hashlib.sha256(public).hexdigest(), digest=digest(b"forged"))
    forged = replace(forged, signature=forger.sign(forged.statement()).hex())
    with engine.begin() as connection:
        old = connection.execute(sa.select(signer_keys)).one()
        connection.execute(
            signer_keys.insert().values(**(dict(old._mapping) | {"key_id": forged.key_id, "public_key": public.hex()}))
        )
    assert not signing.verify(forged, digest(b"forged"))


def test_wrong_passphrase_is_refused_and_audited(signing: Signatures, engine: Engine) -> None:
    with pytest.raises(TrialOpsError) as caught:
        sign(signing, passphrase="wrong horse battery")
    assert "wrong horse" not in str(caught.value)
    event = list(AuditTrail(engine).events())[-1]
    assert (event.action, event.actor, event.reason) == ("sign.refused", "alovelace", "wrong passphrase")
    assert signing.of("model", "withdrawal/3") == []


def test_unknown_user_gets_the_same_answer(signing: Signatures, engine: Engine) -> None:
    with pytest.raises(TrialOpsError) as unknown:
        sign(signing, user="nobody")
    with pytest.raises(TrialOpsError) as wrong:
        sign(signing, passphrase="wrong horse battery")
    assert str(unknown.value) == str(wrong.value)
    assert [e.reason for e in AuditTrail(engine).events()][-2:] == ["unknown user", "wrong passphrase"]


def test_repeated_failures_lock_out_until_reissue(signing: Signatures) -> None:
    first = sign(signing)
    for _ in range(ATTEMPTS):
        with pytest.raises(TrialOpsError):
            sign(signing, passphrase="wrong horse battery")
    with pytest.raises(TrialOpsError):
        sign(signing)
    signing.reissue("alovelace", "a fresh passphrase", reason="locked out", actor="security")
    second = sign(signing, passphrase="a fresh passphrase")
    assert second.key_id != first.key_id
    assert signing.verify(first, digest(RECORD)) and signing.verify(second, digest(RECORD))
    with pytest.raises(TrialOpsError):
        sign(signing)


def test_success_clears_failures(signing: Signatures) -> None:
    for _ in range(3):
        for _ in range(ATTEMPTS - 1):
            with pytest.raises(TrialOpsError):
                sign(signing, passphrase="wrong horse battery")
        sign(signing)


def test_suspended_signer_cannot_sign_but_signatures_stay(signing: Signatures) -> None:
    signature = sign(signing)
    signing.suspend("alovelace", reason="left the company", actor="security")
    with pytest.raises(TrialOpsError):
        sign(signing)
    assert signing.verify(signature, digest(RECORD))


def test_change_of_passphrase_keeps_key(signing: Signatures) -> None:
    before = sign(signing)
    signing.change_passphrase("alovelace", PASSPHRASE, "another long passphrase")
    with pytest.raises(TrialOpsError):
        sign(signing)
    assert sign(signing, passphrase="another long passphrase").key_id == before.key_id
    with pytest.raises(TrialOpsError):
        signing.change_passphrase("alovelace", PASSPHRASE, "yet another passphrase")


def test_vault_rotation_keeps_signers(signing: Signatures, tmp_path: Path) -> None:
    before = sign(signing)
    vault = vault_in(tmp_path)
    vault.rotate("signing-keys")
    vault.rotate_master()
    assert signing.verify(before, digest(RECORD)) and signing.verify(sign(signing), digest(RECORD))


def test_database_alone_cannot_sign(signing: Signatures, engine: Engine, tmp_path: Path) -> None:
    stranger = Signatures(engine, vault_in(tmp_path / "other vault"), cost=2**4)
    with pytest.raises(TrialOpsError):
        sign(stranger)


BY = {"by": "alovelace", "by_passphrase": PASSPHRASE}
OTHER = "difference engine no 2"


def test_user_id_is_never_given_twice(signing: Signatures) -> None:
    signing.enrol("cbabbage", "Charles Babbage", OTHER, **BY)
    with pytest.raises(TrialOpsError, match="enrolled already"):
        signing.enrol("cbabbage", "Another Babbage", "quite another passphrase", **BY)


def test_only_the_first_signer_enrols_alone(signing: Signatures, engine: Engine) -> None:
    for by in ({}, {"by": "cbabbage", "by_passphrase": OTHER}):
        with pytest.raises(TrialOpsError, match="one of them must enrol"):
            signing.enrol("cbabbage", "Charles Babbage", OTHER, actor="cbabbage", **by)
    assert signing.users() == ["alovelace"]
    signing.enrol("cbabbage", "Charles Babbage", OTHER, actor="somebody", **BY)
    assert signing.users() == ["alovelace", "cbabbage"]
    event = list(AuditTrail(engine).events())[-1]
    assert (event.action, event.actor, event.object) == ("signer.enrol", "alovelace", "signer/cbabbage")
    sign(signing, user="cbabbage", passphrase=OTHER)


def test_who_may_not_sign_may_not_enrol(signing: Signatures, engine: Engine) -> None:
    for by in ({"by": "alovelace", "by_passphrase": "wrong horse battery"}, {"by": "nobody", "by_passphrase": OTHER}):
        with pytest.raises(TrialOpsError, match="do not fit"):
            signing.enrol("cbabbage", "Charles Babbage", OTHER, **by)
        assert list(AuditTrail(engine).events())[-1].action == "signer.enrol.refused"
    signing.suspend("alovelace", reason="left the company", actor="security")
    with pytest.raises(TrialOpsError, match="do not fit"):
        signing.enrol("cbabbage", "Charles Babbage", OTHER, **BY)
    assert signing.users() == ["alovelace"]


def test_two_who_enrol_first_at_once_make_one_first(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signing = Signatures(engine, vault_in(tmp_path), cost=2**4)
    signing.enrol("alovelace", "Ada Lovelace", PASSPHRASE)
    monkeypatch.setattr(signing, "users", lambda: [])  # read before the other one was enrolled
    with pytest.raises(TrialOpsError, match="one of them must enrol"):
        signing.enrol("cbabbage", "Charles Babbage", OTHER)
    monkeypatch.undo()
    assert signing.users() == ["alovelace"]


@pytest.mark.parametrize("passphrase", ["short", "aaaaaaaaaaaaaaaa", "my ALOVELACE2 passphrase"])
def test_easy_passphrase_is_refused(signing: Signatures, passphrase: str) -> None:
    with pytest.raises(TrialOpsError, match="too easy"):
        signing.enrol("alovelace2", "Ada Lovelace", passphrase)


@pytest.mark.parametrize(
    "change",
    [
        {"meaning": "liked"},
        {"digest": "abc"},
        {"digest": "A" * 64},
        {"kind": ""},
        {"record": "a\nb"},
        {"reason": "a\u202eb"},
    ],
    ids=str,
)
def test_malformed_signature_is_refused(signing: Signatures, change: dict[str, str]) -> None:
    with pytest.raises(TrialOpsError):
        sign(signing, **change)
    assert signing.of("model", "withdrawal/3") == []


def test_printed_name_is_one_line(signing: Signatures) -> None:
    with pytest.raises(TrialOpsError, match="printed name"):
        signing.enrol("cbabbage", "Charles\nMeaning: approved", "difference engine no 2")


def test_printout_shows_name_time_meaning_and_record(signing: Signatures) -> None:
    signature = replace(
        sign(signing, reason="criteria met"),
        at="2026-03-04T05:06:07.000008Z",
        id="abc",
        key_id="9" * 64,
        audit_seq=2,
    )
    assert as_text(signature).splitlines() == [
        "Signed by:  Ada Lovelace (alovelace)",
        "Date, time: 2026-03-04 05:06:07 UTC",
        "Meaning:    approved: I approve this record.",
        "Reason:     criteria met",
        "Record:     model withdrawal/3",
        f"SHA-256:    {digest(RECORD)}",
        "Signature:  abc, key 9999999999999999, audit record 2",
    ]


@pytest.mark.parametrize("table", ["signatures", "signer_keys"])
def test_append_only(signing: Signatures, engine: Engine, table: str) -> None:
    sign(signing)
    for statement in (f"UPDATE {table} SET at = 'x'", f"DELETE FROM {table}"):
        with pytest.raises(sa.exc.DBAPIError, match="append-only"), engine.begin() as connection:
            connection.exec_driver_sql(statement)
