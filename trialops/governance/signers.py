"""Signers: enrolment, credentials, loss and lock-out (21 CFR 11.100, 11.200, 11.300)."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from trialops.errors import TrialOpsError
from trialops.governance import credentials
from trialops.governance.audit import APPEND_LOCK, AuditTrail
from trialops.stores.database import canonical, reading, utc_now, writing

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine, Row

    from trialops.stores.vault import Vault

PURPOSE = "signing-keys"
ATTEMPTS = 5
"""Wrong passphrases in a row that lock a signer out."""


class Signers:
    """The people who may sign.

    Args:
        engine: Migrated database.
        vault: Keeps the signers' keys, each encrypted once more by its signer's passphrase.
        cost: scrypt's N for new passphrases.
    """

    def __init__(self, engine: Engine, vault: Vault, *, cost: int = credentials.SCRYPT_N) -> None:
        """See the class."""
        self._engine = engine
        self._vault = vault
        self.trail = AuditTrail(engine)
        self._cost = cost

    def users(self) -> list[str]:
        """User ids of all signers, sorted, whatever their state."""
        import sqlalchemy as sa

        from trialops.stores.tables import signers

        with reading(self._engine) as connection:
            return sorted(connection.execute(sa.select(signers.c.user_id)).scalars())

    def enrol(
        self,
        user: str,
        printed_name: str,
        passphrase: str,
        *,
        actor: str = "",
        by: str = "",
        by_passphrase: str = "",
    ) -> str:
        """Register a signer whose identity has been verified (11.100(b)).

        The first signer of a database enrols alone; each later one needs a signer who may sign, and nobody vouches
        for himself.

        Args:
            user: Unique user id; never given to another person (11.100(a)).
            printed_name: As it is shown on records.
            passphrase: The signer's own secret, at least 12 characters.
            actor: Who enrols the first signer; by default the signer.
            by: User id of the signer who verified the new one's identity; the audit trail names this one as actor.
            by_passphrase: That signer's passphrase.

        Returns:
            Id of the signer's key.

        Raises:
            TrialOpsError: The id is taken, a name is empty, the passphrase is too easy, or there are signers and
                none of them vouches.
        """
        from trialops.stores.tables import signers

        check_line("user id", user)
        check_line("printed name", printed_name)
        credentials.check_passphrase(user, passphrase)
        voucher = None
        if self.users():
            if by in ("", user):
                raise _unvouched(user)
            voucher, _ = self.open(by, by_passphrase, "signer.enrol")
        credential = self._credential(user, passphrase)
        with writing(self._engine) as connection:
            take_turn(connection)
            if _signer(connection, user) is not None:
                raise TrialOpsError(
                    "This user id is enrolled already.",
                    where=f"signer {user}",
                    fix="Give each person an id of their own.",
                )
            if voucher is not None:
                now = known_signer(connection, by)
                if now.state != "active" or now.key_id != voucher.key_id:
                    raise refused()
                if now.failures:
                    self._update(connection, by, failures=0)
            elif connection.execute(signers.select().limit(1)).first() is not None:
                raise _unvouched(user)  # somebody else became the first a moment ago
            values = {name: credential[name] for name in ("key_id", "scrypt", "verifier", "sealed_key")}
            connection.execute(
                signers.insert().values(
                    user_id=user,
                    printed_name=printed_name,
                    state="active",
                    failures=0,
                    changed=utc_now(),
                    **values,
                )
            )
            self._register_key(
                connection,
                user,
                printed_name,
                credential,
                "signer.enrol",
                voucher.user_id if voucher is not None else actor or user,
                "",
            )
        return str(credential["key_id"])

    def change_passphrase(self, user: str, passphrase: str, new: str) -> None:
        """Give a signer another passphrase; key and signatures stay.

        Raises:
            TrialOpsError: The present passphrase is wrong, or the new one too easy.
        """
        credentials.check_passphrase(user, new)
        row, private = self.open(user, passphrase, "signer.passphrase")
        parameters = credentials.new_parameters(self._cost)
        stretched = credentials.stretch(new, parameters)
        sealed = self._seal(private, stretched, user, row.key_id)
        with writing(self._engine) as connection:
            take_turn(connection)
            now = known_signer(connection, user)
            if now.state != "active" or now.key_id != row.key_id:
                raise refused()
            self._update(
                connection,
                user,
                scrypt=parameters,
                verifier=stretched.verifier,
                sealed_key=sealed,
                failures=0,
            )
            self.trail.append(actor=user, action="signer.passphrase", object=f"signer/{user}", connection=connection)

    def suspend(self, user: str, *, reason: str, actor: str) -> None:
        """Stop a signer from signing: credential lost, stolen or no longer needed (11.300(c)).

        Signatures already made stay valid.

        Raises:
            TrialOpsError: The signer is unknown, or the reason is empty.
        """
        check_line("reason", reason)
        with writing(self._engine) as connection:
            take_turn(connection)
            known_signer(connection, user)
            self._update(connection, user, state="suspended")
            self.trail.append(
                actor=actor,
                action="signer.suspend",
                object=f"signer/{user}",
                reason=reason,
                connection=connection,
            )

    def reissue(self, user: str, passphrase: str, *, reason: str, actor: str) -> str:
        """Give a signer a new key and passphrase after loss, suspension or lock-out.

        Signatures of older keys stay valid.

        Returns:
            Id of the new key.

        Raises:
            TrialOpsError: The signer is unknown, the reason empty, or the passphrase too easy.
        """
        check_line("reason", reason)
        credentials.check_passphrase(user, passphrase)
        credential = self._credential(user, passphrase)
        with writing(self._engine) as connection:
            take_turn(connection)
            row = known_signer(connection, user)
            values = {name: credential[name] for name in ("key_id", "scrypt", "verifier", "sealed_key")}
            self._update(connection, user, state="active", failures=0, **values)
            self._register_key(connection, user, row.printed_name, credential, "signer.reissue", actor, reason)
        return str(credential["key_id"])

    def _credential(self, user: str, passphrase: str) -> dict[str, Any]:
        """A new key pair, its private half sealed by passphrase and vault."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        pair = Ed25519PrivateKey.generate()
        public = pair.public_key().public_bytes_raw()
        key_id = hashlib.sha256(public).hexdigest()
        parameters = credentials.new_parameters(self._cost)
        stretched = credentials.stretch(passphrase, parameters)
        return {
            "key_id": key_id,
            "public_key": public.hex(),
            "scrypt": parameters,
            "verifier": stretched.verifier,
            "sealed_key": self._seal(pair.private_bytes_raw(), stretched, user, key_id),
        }

    def _seal(self, private: bytes, stretched: credentials.Stretched, user: str, key_id: str) -> bytes:
        wrapped = credentials.wrap_private_key(private, stretched, key_id)
        return self._vault.encrypt(PURPOSE, wrapped, f"signers/{user}/{key_id}")

    def _register_key(
        self,
        connection: Connection,
        user: str,
        printed_name: str,
        credential: Mapping[str, Any],
        action: str,
        actor: str,
        reason: str,
    ) -> None:
        """Keep the public half for good, certified by the vault against rows slipped in."""
        from trialops.stores.tables import signer_keys

        key_id, public_key, at = credential["key_id"], credential["public_key"], utc_now()
        certificate = canonical(
            {"user_id": user, "printed_name": printed_name, "public_key": public_key, "at": at}
        ).encode("ascii")
        event = self.trail.append(
            actor=actor,
            action=action,
            object=f"signer/{user}",
            reason=reason,
            detail={"printed_name": printed_name, "key_id": key_id},
            connection=connection,
        )
        connection.execute(
            signer_keys.insert().values(
                key_id=key_id,
                user_id=user,
                public_key=public_key,
                at=at,
                audit_seq=event.seq,
                certificate=self._vault.encrypt(PURPOSE, certificate, f"signer_keys/{key_id}"),
            )
        )

    def open(self, user: str, passphrase: str, action: str) -> tuple[Row[Any], bytes]:
        """The signer's row and private key, if both components fit; else audit, count and refuse."""
        from cryptography.exceptions import InvalidTag

        with reading(self._engine) as connection:
            row = _signer(connection, user)
        # An unknown user costs the same time and gets the same answer as a wrong passphrase.
        stretched = credentials.stretch(
            passphrase, row.scrypt if row is not None else credentials.new_parameters(self._cost)
        )
        if row is None:
            self._refuse(user, action, "unknown user")
        elif row.state != "active":
            self._refuse(user, action, row.state)
        elif not credentials.matches(stretched, row.verifier):
            self._refuse(user, action, "wrong passphrase")
        try:
            wrapped = self._vault.decrypt(row.sealed_key, f"signers/{user}/{row.key_id}")
            return row, credentials.unwrap_private_key(wrapped, stretched, row.key_id)
        except InvalidTag as error:
            raise TrialOpsError(
                "The signer's key was altered.",
                where=f"signer {user}",
                fix="Have the signer's key issued again.",
            ) from error

    def _refuse(self, user: str, action: str, why: str) -> NoReturn:
        from trialops.stores.tables import signers

        with writing(self._engine) as connection:
            take_turn(connection)
            row = _signer(connection, user)
            failures = 0
            if row is not None and why == "wrong passphrase":
                failures = row.failures + 1
                state = "locked" if failures >= ATTEMPTS and row.state == "active" else row.state
                connection.execute(
                    signers.update().where(signers.c.user_id == user).values(failures=failures, state=state)
                )
            self.trail.append(
                actor=user if user.strip() else "unknown",
                action=f"{action}.refused",
                object=f"signer/{user}",
                reason=why,
                detail={"failures": failures, "locked": failures >= ATTEMPTS},
                connection=connection,
            )
        raise refused()

    def _update(self, connection: Connection, user: str, **values: Any) -> None:
        from trialops.stores.tables import signers

        connection.execute(signers.update().where(signers.c.user_id == user).values(changed=utc_now(), **values))


def refused() -> TrialOpsError:
    """The one answer to every refused attempt; which component was wrong is for the audit trail only."""
    return TrialOpsError(
        "User id and passphrase do not fit together, or the signer may not sign now.",
        where="signature",
        fix=f"Try again; {ATTEMPTS} wrong passphrases in a row lock a signer out until a new one is issued.",
    )


def _unvouched(user: str) -> TrialOpsError:
    return TrialOpsError(
        "There are signers already, so one of them must enrol the next.",
        where=f"signer {user}",
        fix="Have an enrolled signer give user id and passphrase: trialops audit enrol --by USER.",
    )


def check_line(name: str, value: str) -> None:
    """One printable line, so that a printout cannot be made to say something else."""
    if not value.strip() or any(unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Zl", "Zp") for letter in value):
        raise TrialOpsError(
            f"The {name} must be one printable line.",
            where=name,
            fix="Remove control characters; do not leave it empty.",
        )


def take_turn(connection: Connection) -> None:
    """PostgreSQL: take turns with other signers and appenders; SQLite has one writer anyway."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({APPEND_LOCK})")


def _signer(connection: Connection, user: str) -> Row[Any] | None:
    import sqlalchemy as sa

    from trialops.stores.tables import signers

    return connection.execute(sa.select(signers).where(signers.c.user_id == user)).first()


def known_signer(connection: Connection, user: str) -> Row[Any]:
    """The signer's row.

    Raises:
        TrialOpsError: There is none.
    """
    row = _signer(connection, user)
    if row is None:
        raise TrialOpsError("This signer is not enrolled.", where=f"signer {user}", fix="Enrol the signer first.")
    return row
