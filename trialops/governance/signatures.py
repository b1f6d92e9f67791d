"""Electronic signatures under 21 CFR Part 11.

A signature shows printed name, UTC time and meaning (11.50), is bound by an Ed25519 key of the signer's own
to the digest of exactly one record and to its place in the audit trail (11.70), belongs to one person
(11.100), and is made with user id and passphrase each time (11.200). Repeated wrong passphrases lock the
signer out and are on record (11.300(d)).
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError
from trialops.governance import credentials
from trialops.governance.signers import Signers, check_line, known_signer, refused, take_turn
from trialops.stores.database import canonical, reading, utc_now, writing

if TYPE_CHECKING:
    from sqlalchemy import Engine, Row

    from trialops.stores.vault import Vault

MEANINGS: dict[str, str] = {
    "authored": "I wrote this record.",
    "reviewed": "I reviewed this record.",
    "approved": "I approve this record.",
    "responsible": "I take responsibility for this record.",
    "rejected": "I reviewed this record and reject it.",
    "witnessed": "I witnessed the making of this record.",
}
"""The meanings a signature may have (11.50(a)(3)) and the sentence each stands for."""

_DIGEST = re.compile(r"[0-9a-f]{64}\Z")


@dataclass(frozen=True)
class Signature:
    """One signature.

    Attributes:
        id: UUID.
        at: When signed, UTC.
        user_id: Signer's user id.
        printed_name: Signer's printed name at that time.
        meaning: One of the fixed meanings.
        reason: What the signer adds, or empty.
        kind: Kind of record ("model", "report", "table").
        record: Its id.
        digest: SHA-256 of what was signed, hexadecimal.
        run_id: The run it belongs to, or empty.
        key_id: SHA-256 of the signer's public key.
        signature: Ed25519 signature, hexadecimal.
        audit_seq: The audit record that witnesses it.
    """

    id: str
    at: str
    user_id: str
    printed_name: str
    meaning: str
    reason: str
    kind: str
    record: str
    digest: str
    run_id: str
    key_id: str
    signature: str
    audit_seq: int

    def statement(self) -> bytes:
        """The bytes that are signed: all fields but the signature and its audit record, which quotes them."""
        fields = {name: value for name, value in asdict(self).items() if name not in ("signature", "audit_seq")}
        return canonical({"format": 1, **fields}).encode("ascii")


@dataclass(frozen=True)
class Check:
    """Whether a signature holds, and if not, why."""

    ok: bool
    problem: str = ""

    def __bool__(self) -> bool:
        """Whether it holds."""
        return self.ok


class Signatures(Signers):
    """Signers and signatures of one database and vault.

    Args:
        engine: Migrated database.
        vault: Keeps the signers' keys, each encrypted once more by its signer's passphrase.
        meanings: Instead of MEANINGS.
        cost: scrypt's N for new passphrases.
    """

    def __init__(
        self,
        engine: Engine,
        vault: Vault,
        *,
        meanings: Mapping[str, str] = MEANINGS,
        cost: int = credentials.SCRYPT_N,
    ) -> None:
        """See the class."""
        super().__init__(engine, vault, cost=cost)
        self.meanings = dict(meanings)

    def sign(
        self,
        *,
        user: str,
        passphrase: str,
        meaning: str,
        kind: str,
        record: str,
        digest: str,
        reason: str = "",
        run_id: str = "",
    ) -> Signature:
        """Sign a record.

        Args:
            user: Signer's user id: the first component.
            passphrase: The second component; asked for each time.
            meaning: One of the fixed meanings.
            kind: Kind of record.
            record: Its id.
            digest: SHA-256 of its content, 64 hexadecimal digits.
            reason: What the signer adds.
            run_id: The run it belongs to.

        Returns:
            The signature, stored together with its audit record.

        Raises:
            TrialOpsError: User id and passphrase do not fit (which is audited), the signer is locked out or
                suspended, or a field is missing.
        """
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        from trialops.stores.tables import signatures as table

        if meaning not in self.meanings:
            raise TrialOpsError(
                "A signature needs one of the fixed meanings.",
                where="meaning",
                fix=f"Use one of {', '.join(self.meanings)}.",
            )
        if not _DIGEST.match(digest):
            raise TrialOpsError(
                "A signature is bound to a SHA-256 digest.",
                where="digest",
                fix="Pass 64 lower-case hex digits.",
            )
        check_line("record kind", kind)
        check_line("record id", record)
        if reason:
            check_line("reason", reason)
        row, private = self.open(user, passphrase, "sign")
        fields = {
            "id": str(uuid.uuid4()),
            "at": utc_now(),
            "user_id": user,
            "printed_name": row.printed_name,
            "meaning": meaning,
            "reason": reason,
            "kind": kind,
            "record": record,
            "digest": digest,
            "run_id": run_id,
            "key_id": row.key_id,
        }
        unsigned = Signature(**fields, signature="", audit_seq=0)
        statement = unsigned.statement()
        fields["signature"] = Ed25519PrivateKey.from_private_bytes(private).sign(statement).hex()
        with writing(self._engine) as connection:
            take_turn(connection)
            now = known_signer(connection, user)
            if now.state != "active" or now.key_id != row.key_id:
                raise refused()
            event = self.trail.append(
                actor=user,
                action="sign",
                object=f"{kind}/{record}",
                version=digest,
                reason=reason,
                run_id=run_id,
                detail={
                    "signature": fields["id"],
                    "meaning": meaning,
                    "statement": hashlib.sha256(statement).hexdigest(),
                },
                connection=connection,
            )
            connection.execute(table.insert().values(**fields, audit_seq=event.seq))
            if now.failures:
                self._update(connection, user, failures=0)
        return Signature(**fields, audit_seq=event.seq)

    def of(self, kind: str, record: str) -> list[Signature]:
        """The signatures on a record, oldest first; whether they hold is for `verify` to say."""
        import sqlalchemy as sa

        from trialops.stores.tables import signatures as table

        query = sa.select(table).where(table.c.kind == kind, table.c.record == record).order_by(table.c.audit_seq)
        with reading(self._engine) as connection:
            return [Signature(**row._mapping) for row in connection.execute(query)]

    def verify(self, signature: Signature, digest: str) -> Check:
        """Whether a signature holds for what is there now.

        Args:
            signature: As stored, exported or printed.
            digest: SHA-256 of the record as it is now.

        Returns:
            The check: the record is the one signed, the key is the signer's, nothing in the signature was
            altered, and the audit trail witnesses it. (That the trail is whole is for AuditTrail.verify to
            say.)
        """
        import sqlalchemy as sa
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        from trialops.stores.tables import audit_events, signer_keys

        if digest != signature.digest:
            return Check(False, "The record is not what was signed: its digest differs.")
        with reading(self._engine) as connection:
            key = connection.execute(sa.select(signer_keys).where(signer_keys.c.key_id == signature.key_id)).first()
            event = connection.execute(sa.select(audit_events).where(audit_events.c.seq == signature.audit_seq)).first()
        if key is None:
            return Check(False, "The key that signed was never registered.")
        try:
            certificate = json.loads(self._vault.decrypt(key.certificate, f"signer_keys/{key.key_id}"))
        except TrialOpsError:
            return Check(False, "The registration of the signer's key was altered.")
        public = bytes.fromhex(certificate["public_key"])
        if hashlib.sha256(public).hexdigest() != signature.key_id or certificate["user_id"] != signature.user_id:
            return Check(False, "The key that signed is not the signer's.")
        statement = signature.statement()
        try:
            Ed25519PublicKey.from_public_bytes(public).verify(bytes.fromhex(signature.signature), statement)
        except (InvalidSignature, ValueError):
            return Check(False, "The signature was altered, or copied from another record.")
        if certificate["printed_name"] != signature.printed_name:
            return Check(False, "The printed name is not the one the signer was enrolled with.")
        if (
            event is None
            or event.action != "sign"
            or event.actor != signature.user_id
            or not _witnesses(event, statement)
        ):
            return Check(False, "The audit trail does not witness this signature.")
        return Check(True)


def as_text(signature: Signature, meanings: Mapping[str, str] = MEANINGS) -> str:
    """What a printout of the signed record must show (11.50(b)): who, when, which meaning, which record."""
    sentence = meanings.get(signature.meaning, "")
    lines = [
        f"Signed by:  {signature.printed_name} ({signature.user_id})",
        f"Date, time: {signature.at[:10]} {signature.at[11:19]} UTC",
        f"Meaning:    {signature.meaning}{': ' + sentence if sentence else ''}",
        *([f"Reason:     {signature.reason}"] if signature.reason else []),
        f"Record:     {signature.kind} {signature.record}",
        f"SHA-256:    {signature.digest}",
        f"Signature:  {signature.id}, key {signature.key_id[:16]}, audit record {signature.audit_seq}",
    ]
    return "\n".join(lines)


def _witnesses(event: Row[Any], statement: bytes) -> bool:
    try:
        return bool(json.loads(event.detail).get("statement") == hashlib.sha256(statement).hexdigest())
    except (ValueError, AttributeError):
        return False
