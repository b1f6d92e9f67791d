"""The vault: encryption at rest, pseudonyms, date offsets, and the guarded way back to an identity.

Envelope encryption (NIST SP 800-57): a master key wraps one data key per purpose and version, a data key
encrypts with AES-256-GCM. Destroying a data key makes everything it encrypted unreadable wherever copies lie
(crypto-shredding). A backup of the keyring, or an old version a bucket keeps of its objects, still holds the key
wrapped by the master key of its day: follow `destroy` with `rotate_master` and discard the old master key to shred
those too.

The keys lie in the object store (see trialops.stores.keyring), so all who share one share them: `open_vault`.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from trialops.errors import TrialOpsError
from trialops.stores import envelope
from trialops.stores.database import reading, utc_now, writing
from trialops.stores.keyring import KeyRecord, Keyring, stored_id
from trialops.stores.master_key import GivenKey, KeyFile, MasterKey
from trialops.stores.objects import ObjectStore, open_store

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from trialops.settings import Settings

LINKS = "pseudonym-links"
"""Purpose of the key that encrypts pseudonym links; destroying it makes re-identification impossible."""

PSEUDONYM_BYTES = 10
_CHUNK = 500
_REMOTE_FRESH_SECONDS = 1.0
"""How long a look at a bucket's newest keyring counts; a folder is looked at each time."""


def open_vault(settings: Settings, objects: ObjectStore | None = None, *, pseudonym_key: bytes | None = None) -> Vault:
    """The vault of an installation, made on first use.

    Args:
        settings: Say where the object store is, the master key if it is given, and the study.
        objects: The object store where it is open already.
        pseudonym_key: As in :class:`Vault`.

    Raises:
        TrialOpsError: The object store is not a folder and no master key is given, or as in :class:`Vault`.
    """
    store = open_store(settings.objects) if objects is None else objects
    return Vault(store, _master_key(settings, store), study=settings.study, pseudonym_key=pseudonym_key)


def vault_id(settings: Settings, objects: ObjectStore | None = None) -> str:
    """The vault's id for cache keys: one read where the vault exists, else the vault is made."""
    store = open_store(settings.objects) if objects is None else objects
    return stored_id(store) or open_vault(settings, store).id


def _master_key(settings: Settings, objects: ObjectStore) -> MasterKey:
    given = settings.master_key
    if given is not None:
        return GivenKey(given)
    if "://" in objects.url:
        # A key file here would be this machine's alone: nobody else could open what is shared.
        raise TrialOpsError(
            "The object store is shared, so the vault's master key must be given; it is not",
            where="TRIALOPS_VAULT_KEY",
            fix="Set it, the same for all, to 32 random bytes in base64; on a cluster in Secret trialops-secrets.",
        )
    return KeyFile(settings.home.resolve() / "vault")


class Vault:
    """Keys and what is done with them; safe to open by several processes at once.

    Args:
        objects: Holds the keyring; it is made where there is none.
        master_key: Wraps the keys.
        study: Separates pseudonyms and date offsets of one study from those of another.
        pseudonym_key: 32 bytes to make pseudonyms with, for made-up people alone: whoever knows the key can tell who is
            behind a pseudonym. Used where the keyring is made; drawn at random where it is not given.

    Raises:
        TrialOpsError: The master key is missing, wrong or readable by every user, or the keyring was altered.
    """

    def __init__(
        self, objects: ObjectStore, master_key: MasterKey, *, study: str = "", pseudonym_key: bytes | None = None
    ) -> None:
        """See the class."""
        self.study = study
        fresh = _REMOTE_FRESH_SECONDS if "://" in objects.url else 0.0
        self._ring = Keyring(objects, master_key, fresh_seconds=fresh, pseudonym_key=pseudonym_key)
        self._where = objects.url
        self._subkeys: dict[tuple[str, str, str], bytes] = {}

    def __repr__(self) -> str:
        """The store; never a key."""
        return f"Vault({self._where!r}, study={self.study!r})"

    @property
    def id(self) -> str:
        """Name of this set of keys, 16 hexadecimal digits; rotation and destruction of keys do not change it."""
        return self._ring.id

    @property
    def revision(self) -> int:
        """Revision of the keyring in use, from 1."""
        return self._ring.revision

    # -- encryption --------------------

    def encrypt(self, purpose: str, data: bytes, context: str) -> bytes:
        """Encrypt bytes.

        Args:
            purpose: Which data key; a short lower-case name ("raw", "backup").
            data: Any bytes.
            context: Where the result belongs (an object key, a row's key). Not stored; needed again to
                decrypt, so that sealed data moved elsewhere is refused.

        Returns:
            Sealed bytes: about 40 more than `data`.
        """
        envelope.check_purpose(purpose)
        version, key = self._ring.active(purpose)
        return envelope.seal(data, envelope.Header(envelope.BLOB, purpose, version), key, context)

    def decrypt(self, blob: bytes, context: str) -> bytes:
        """Decrypt what `encrypt` returned.

        Raises:
            TrialOpsError: A byte was altered, the context differs, or the key was destroyed.
        """
        return envelope.unseal(blob, self._ring.key, context)

    def opens(self, blob: bytes, context: str) -> bool:
        """Whether `decrypt` would succeed: nothing was altered and the key lives."""
        try:
            self.decrypt(blob, context)
        except TrialOpsError:
            return False
        return True

    def encrypt_file(
        self,
        source: Path,
        target: Path,
        *,
        purpose: str,
        context: str,
        progress: Callable[[str, float], None] | None = None,
    ) -> None:
        """Encrypt a file of any size in 4 MB frames; the target appears whole or not at all.

        Args:
            source: File in the clear.
            target: Sealed file; may replace an existing one.
            purpose: As in `encrypt`.
            context: As in `encrypt`.
            progress: Called with a message and the fraction done.
        """
        envelope.check_purpose(purpose)
        version, key = self._ring.active(purpose)
        header = envelope.Header(envelope.FILE, purpose, version)
        envelope.seal_file(Path(source), Path(target), header, key, context, progress)

    def decrypt_file(
        self,
        source: Path,
        target: Path,
        *,
        context: str,
        progress: Callable[[str, float], None] | None = None,
    ) -> None:
        """Decrypt what `encrypt_file` wrote; nothing appears at the target unless all of it is authentic.

        Raises:
            TrialOpsError: A frame was altered, dropped, moved or appended, the context differs, or the key
                was destroyed.
        """
        envelope.unseal_file(Path(source), Path(target), self._ring.key, context, progress)

    # -- keys --------------------

    def key_records(self) -> list[KeyRecord]:
        """All data keys ever made, without the keys: purpose, version, state, dates."""
        return self._ring.records()

    def destroyed(self) -> list[str]:
        """Keys destroyed so far, as "purpose/version": what they encrypted must be made again to be read."""
        return [f"{key.purpose}/{key.version}" for key in self.key_records() if key.state == "destroyed"]

    def rotate(self, purpose: str) -> int:
        """Make a new data key for a purpose and return its version; older data stays readable."""
        envelope.check_purpose(purpose)
        return self._ring.rotate(purpose)

    def rotate_master(self, new_key: bytes | None = None) -> None:
        """Wrap all keys by a new master key; nothing is encrypted again.

        A crash in the middle leaves either the old or the new one valid.

        Args:
            new_key: 32 bytes; None lets the embedded default make its own.
        """
        self._ring.rotate_master(new_key)

    def destroy(self, purpose: str, version: int, *, reason: str, actor: str, engine: Engine | None = None) -> None:
        """Destroy one data key for good (crypto-shredding). The keyring keeps a tombstone: when, who, why.

        Args:
            purpose: Of the key.
            version: Of the key; the active one may be destroyed, the next encryption then makes another.
            reason: Why; not empty.
            actor: Who; not empty.
            engine: Database whose audit trail records it too. The record is written first: an attempt that
                fails is on record, a destruction without a record cannot happen.

        Raises:
            TrialOpsError: There is no such key, or reason or actor is empty.
        """
        _require(reason=reason, actor=actor)
        if not any(key.purpose == purpose and key.version == version for key in self.key_records()):
            raise TrialOpsError(
                "There is no such key to destroy.",
                where=f"key {purpose} version {version}",
                fix="List the vault's keys first.",
            )
        if engine is not None:
            from trialops.governance.audit import AuditTrail

            AuditTrail(engine).append(
                actor=actor,
                action="key.destroy",
                object=f"vault/{purpose}",
                version=str(version),
                reason=reason,
            )
        self._ring.destroy(purpose, version, reason=reason, actor=actor)

    # -- pseudonyms --------------------

    def pseudonym(self, kind: str, value: str, *, study: str | None = None) -> str:
        """The pseudonym of one value.

        Args:
            kind: Domain it belongs to ("subject", "site"); the same value has unrelated pseudonyms in two
                kinds.
            value: The identifier.
            study: Instead of the vault's study.

        Returns:
            16 characters a-z2-7: 80 bits of HMAC-SHA-256 under the vault's pseudonym key. Key rotation does
            not change it. Among a million values two share one with probability 4e-13.
        """
        return _text(self._subkey("pseudonym", kind, study), value)

    def pseudonyms(self, kind: str, values: Sequence[str], *, study: str | None = None) -> list[str]:
        """Pseudonyms of many values, in their order; each distinct value is computed once."""
        key = self._subkey("pseudonym", kind, study)
        known = {value: _text(key, value) for value in set(values)}
        return [known[value] for value in values]

    def keyed_hash(self, kind: str, value: str) -> str:
        """HMAC-SHA-256 of a value under a key of the vault, hexadecimal: nobody without the vault can try values."""
        return hmac.digest(self._subkey("hash", kind, None), value.encode(), sha256).hex()

    def offset_days(self, subject: str, lo: int = -182, hi: int = 182, *, study: str | None = None) -> int:
        """By how many days all dates of a subject are shifted.

        Args:
            subject: The subject's identifier, always the same form of it.
            lo: Smallest offset.
            hi: Largest offset.
            study: Instead of the vault's study.

        Returns:
            A whole number of days in [lo, hi], never 0, uniform over subjects and fixed for each.

        Raises:
            TrialOpsError: The range holds no number but 0.
        """
        choices = hi - lo + 1 - (lo <= 0 <= hi)
        if choices < 1:
            raise TrialOpsError(
                "The range of date offsets is empty.",
                where="offset_days",
                fix="Use lo <= hi, and not 0 alone.",
            )
        drawn = int.from_bytes(hmac.digest(self._subkey("offset", "days", study), subject.encode(), sha256)[:16], "big")
        days = lo + drawn % choices  # bias below 2**-100
        return days + 1 if lo <= 0 <= days else days

    def _subkey(self, use: str, kind: str, study: str | None) -> bytes:
        study = self.study if study is None else study
        key = self._subkeys.get((use, study, kind))
        if key is None:
            # Lengths before the parts: ("ab", "c") and ("a", "bc") must not meet.
            parts = b"".join(len(part.encode()).to_bytes(4, "big") + part.encode() for part in (use, study, kind))
            key = self._subkeys[use, study, kind] = hmac.digest(self._ring.pseudonym_key(), parts, sha256)
        return key

    # -- the way back --------------------

    def remember(self, kind: str, links: Mapping[str, str], *, engine: Engine, study: str | None = None) -> int:
        """Keep which value stands behind a pseudonym, encrypted, in the database.

        Args:
            kind: As in `pseudonym`.
            links: Value to pseudonym.
            engine: Migrated database.
            study: Instead of the vault's study.

        Returns:
            Links that were new; known ones are left as they are.

        Raises:
            TrialOpsError: A pseudonym is already linked to another value. Nothing is stored.
        """
        import sqlalchemy as sa

        from trialops.stores.tables import pseudonym_links as table

        study = self.study if study is None else study
        wanted = {pseudonym: value for value, pseudonym in links.items()}
        if len(wanted) != len(links):
            raise _collision(kind)
        names = sorted(wanted)
        with writing(engine) as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(
                    sa.text("SELECT pg_advisory_xact_lock(hashtext(:name))"),
                    {"name": f"links/{study}/{kind}"},
                )
            known: set[str] = set()
            for start in range(0, len(names), _CHUNK):
                query = sa.select(table.c.pseudonym, table.c.sealed).where(
                    table.c.study == study,
                    table.c.kind == kind,
                    table.c.pseudonym.in_(names[start : start + _CHUNK]),
                )
                for row in connection.execute(query):
                    if self.decrypt(row.sealed, _link(study, kind, row.pseudonym)).decode() != wanted[row.pseudonym]:
                        raise _collision(kind)
                    known.add(row.pseudonym)
            at = utc_now()
            rows = [
                {
                    "study": study,
                    "kind": kind,
                    "pseudonym": name,
                    "at": at,
                    "sealed": self.encrypt(LINKS, wanted[name].encode(), _link(study, kind, name)),
                }
                for name in names
                if name not in known
            ]
            if rows:
                connection.execute(table.insert(), rows)
        return len(rows)

    def forget(self, pseudonyms: Mapping[str, Sequence[str]], *, reason: str, actor: str, engine: Engine) -> int:
        """Make some pseudonyms' identities unreadable for good, in copies of the database too.

        Their links are deleted; all others are sealed again under a new key, and the keys before it are destroyed: a
        link in an old copy then opens for nobody.

        Args:
            pseudonyms: Kind -> pseudonyms of the vault's study.
            reason: Why; not empty.
            actor: Who; not empty.
            engine: Database that holds the links and the audit trail.

        Returns:
            Links deleted.
        """
        import sqlalchemy as sa

        from trialops.stores.tables import pseudonym_links as table

        _require(reason=reason, actor=actor)
        before = [key.version for key in self.key_records() if key.purpose == LINKS and key.state != "destroyed"]
        self.rotate(LINKS)
        deleted = 0
        with writing(engine) as connection:
            for kind, names in sorted(pseudonyms.items()):
                for start in range(0, len(names), _CHUNK):
                    chosen = table.c.pseudonym.in_(list(names[start : start + _CHUNK]))
                    where = sa.and_(table.c.study == self.study, table.c.kind == kind, chosen)
                    deleted += connection.execute(table.delete().where(where)).rowcount
            for row in connection.execute(
                sa.select(table.c.study, table.c.kind, table.c.pseudonym, table.c.sealed)
            ).all():
                link = _link(row.study, row.kind, row.pseudonym)
                again = self.encrypt(LINKS, self.decrypt(row.sealed, link), link)
                where = sa.and_(
                    table.c.study == row.study, table.c.kind == row.kind, table.c.pseudonym == row.pseudonym
                )
                connection.execute(table.update().where(where).values(sealed=again))
        for version in before:
            self.destroy(LINKS, version, reason=reason, actor=actor, engine=engine)
        return deleted

    def reidentify(
        self,
        kind: str,
        pseudonym: str,
        *,
        reason: str,
        actor: str,
        engine: Engine,
        study: str | None = None,
        run_id: str = "",
    ) -> str:
        """The value behind a pseudonym; each attempt is in the audit trail before it is answered.

        Args:
            kind: As in `pseudonym`.
            pseudonym: From `pseudonym`.
            reason: Why it is needed; not empty.
            actor: Who asks; not empty.
            engine: Database that holds the links and the audit trail.
            study: Instead of the vault's study.
            run_id: The run it belongs to.

        Raises:
            TrialOpsError: Reason or actor is empty, no link is kept, or its key was destroyed.
        """
        import sqlalchemy as sa

        from trialops.governance.audit import AuditTrail
        from trialops.stores.tables import pseudonym_links as table

        _require(reason=reason, actor=actor)
        study = self.study if study is None else study
        query = sa.select(table.c.sealed).where(
            table.c.study == study, table.c.kind == kind, table.c.pseudonym == pseudonym
        )
        with reading(engine) as connection:
            sealed = connection.execute(query).scalar()
        value, failure = (
            "",
            TrialOpsError(
                "No identity is kept for this pseudonym.",
                where=f"pseudonym_links, kind {kind}",
                fix="Check study, kind and pseudonym.",
            ),
        )
        found = False
        if sealed is not None:
            try:
                value, found = self.decrypt(sealed, _link(study, kind, pseudonym)).decode(), True
            except TrialOpsError as error:
                failure = error
        AuditTrail(engine).append(
            actor=actor,
            action="reidentify",
            object=f"{kind}/{pseudonym}",
            reason=reason,
            run_id=run_id,
            detail={"study": study, "found": found},
        )
        if not found:
            raise failure
        return value


def _text(key: bytes, value: str) -> str:
    return base64.b32encode(hmac.digest(key, value.encode(), sha256)[:PSEUDONYM_BYTES]).decode("ascii").lower()


def _link(study: str, kind: str, pseudonym: str) -> str:
    return f"pseudonym_links/{study}/{kind}/{pseudonym}"


def _collision(kind: str) -> TrialOpsError:
    return TrialOpsError(
        "One pseudonym stands for two values.",
        where=f"pseudonym_links, kind {kind}",
        fix="Pass the pseudonyms that this vault made; check that the database belongs to it.",
    )


def _require(**fields: str) -> None:
    for name, value in fields.items():
        if not value.strip():
            raise TrialOpsError(
                f"This needs a {name}.", where="vault", fix=f"Say {'who asks' if name == 'actor' else 'why'}."
            )
