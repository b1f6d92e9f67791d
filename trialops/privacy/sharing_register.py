"""The register of packages given to partners: what was issued, opened, revoked, and what has expired.

Every change is an event in the database and in the audit trail. Revocation and expiry destroy the package's key.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError
from trialops.governance.audit import AuditTrail
from trialops.privacy.sharing_agreement import Agreement
from trialops.privacy.sharing_package import header_of, open_package, purpose_of, release_of
from trialops.stores.database import canonical, reading, utc_now, writing

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

    from trialops.stores.objects import ObjectStore
    from trialops.stores.vault import Vault

ENDS = {"revoke": "revoked", "expire": "expired"}


@dataclass(frozen=True)
class Share:
    """One package as the register knows it.

    Attributes:
        share: Its name.
        agreement: Id of the agreement.
        recipient: Who has it.
        expires: Last day on which it may be opened.
        state: "active", "revoked" or "expired".
        opened: How often it was opened or released here.
        at: When it was issued.
        detail: Digests, table versions, k, rows.
    """

    share: str
    agreement: str
    recipient: str
    expires: dt.date
    state: str
    opened: int
    at: str
    detail: dict[str, Any]


class ShareRegister:
    """The register.

    Args:
        engine: Migrated database.
        vault: Holds the packages' keys.
        objects: Holds the packages.
        actor: Who acts, for the trail.
    """

    def __init__(self, engine: Engine, vault: Vault, objects: ObjectStore, actor: str) -> None:
        """See the class."""
        self._engine, self._vault, self._objects, self._actor = engine, vault, objects, actor
        self._trail = AuditTrail(engine)

    def shares(self) -> list[Share]:
        """All packages, oldest first."""
        import sqlalchemy as sa

        from trialops.stores.tables import share_events as table

        found: dict[str, Share] = {}
        with reading(self._engine) as connection:
            for row in connection.execute(sa.select(table).order_by(table.c.id)):
                known = found.get(row.share)
                if row.action == "issue" and known is None:
                    expires = dt.date.fromisoformat(row.expires)
                    detail = json.loads(row.detail)
                    found[row.share] = Share(
                        row.share, row.agreement, row.recipient, expires, "active", 0, row.at, detail
                    )
                elif known is not None:
                    state = ENDS.get(row.action, known.state) if known.state == "active" else known.state
                    opened = known.opened + (row.action in ("open", "release"))
                    found[row.share] = Share(**{**vars(known), "state": state, "opened": opened})
        return list(found.values())

    def find(self, share: str) -> Share:
        """One package.

        Raises:
            TrialOpsError: It is not in the register.
        """
        for item in self.shares():
            if item.share == share:
                return item
        raise TrialOpsError(
            "There is no such package in the register", where=f"share {share}", fix="See: trialops export shares"
        )

    def issue(
        self, share: str, agreement: Agreement, package: bytes, key: str, detail: Mapping[str, Any], *, run_id: str = ""
    ) -> None:
        """Register a new package, and keep it and the recipient's key, the key encrypted.

        Raises:
            TrialOpsError: The name is taken.
        """
        # What is kept first is harmless without the event; the event without what is kept would not be.
        sealed = self._vault.encrypt(purpose_of(share), key.encode(), context=f"shares/{share}/key")
        self._objects.put(f"shares/{share}/package", package)
        self._objects.put(f"shares/{share}/key", sealed)
        with writing(self._engine) as connection:
            if any(s.share == share for s in self.shares()):
                raise TrialOpsError("The package is registered already", where=f"share {share}")
            values = (agreement.id, agreement.recipient, agreement.expires.isoformat())
            self._event(connection, share, "issue", values, agreement.purpose, detail, run_id)
        digests = {k: v for k, v in detail.items() if k not in ("agreement_text", "snapshot")}
        self._audit("share.issue", share, agreement.purpose, {"recipient": agreement.recipient, **digests}, run_id)

    def package(self, share: str) -> bytes:
        """The package as it was issued."""
        try:
            return self._objects.get(f"shares/{share}/package")
        except KeyError:
            raise TrialOpsError("The package itself is not kept here", where=f"share {share}") from None

    def recipient_key(self, share: str, *, reason: str) -> str:
        """The recipient's key, to be handed over by another way than the package.

        Raises:
            TrialOpsError: The package is not active, or no reason is given.
        """
        found = self._require_active(share, reason)
        sealed = self._objects.get(f"shares/{share}/key")
        key = self._vault.decrypt(sealed, context=f"shares/{share}/key").decode()
        self._record(found, "key", reason)
        return key

    def release(self, package: bytes, *, reason: str, today: dt.date) -> bytes:
        """The sponsor's part of opening a package, for a recipient who opens it elsewhere.

        Raises:
            TrialOpsError: The package is not registered, not active, or has expired.
        """
        self.expire(today)
        found = self._require_active(header_of(package)["share"], reason)
        released = release_of(package, self._vault)
        self._record(found, "release", reason)
        return released

    def open(self, package: bytes, key: str, *, reason: str, today: dt.date) -> bytes:
        """Open a package here.

        Raises:
            TrialOpsError: As `release`, or the key is not the package's.
        """
        self.expire(today)
        found = self._require_active(header_of(package)["share"], reason)
        content = open_package(package, key, release_of(package, self._vault))
        self._record(found, "open", reason)
        return content

    def revoke(self, share: str, *, reason: str) -> None:
        """Take a package back: its key is destroyed, no copy of it can be opened any more.

        Raises:
            TrialOpsError: It is not in the register, has ended already, or no reason is given.
        """
        found = self._require_active(share, reason)
        self._end(found, "revoke", reason)

    def expire(self, today: dt.date) -> list[str]:
        """End every package whose last day has passed; returns their names."""
        due = [s for s in self.shares() if s.state == "active" and s.expires < today]
        for share in due:
            self._end(share, "expire", f"the agreement ended on {share.expires}")
        # A key can outlive its package's end where the process died between the two.
        for share in self.shares():
            if share.state != "active":
                self._destroy(share, f"the package is {share.state}")
        return [share.share for share in due]

    def _end(self, share: Share, action: str, reason: str) -> None:
        self._record(share, action, reason)
        self._destroy(share, reason)

    def _destroy(self, share: Share, reason: str) -> None:
        purpose = purpose_of(share.share)
        for record in self._vault.key_records():
            if record.purpose == purpose and record.state != "destroyed":
                self._vault.destroy(purpose, record.version, reason=reason, actor=self._actor, engine=self._engine)

    def _require_active(self, share: str, reason: str) -> Share:
        found = self.find(share)
        problem = "" if reason.strip() else "This needs a reason"
        if found.state != "active":
            problem = f"The package is {found.state}"
        if problem:
            self._audit("share.refuse", share, reason or "none given", {"state": found.state}, "")
            fix = "Say why." if not reason.strip() else "Issue a new one under a current agreement."
            raise TrialOpsError(problem, where=f"share {share}", fix=fix)
        return found

    def _record(self, share: Share, action: str, reason: str) -> None:
        with writing(self._engine) as connection:
            values = (share.agreement, share.recipient, share.expires.isoformat())
            self._event(connection, share.share, action, values, reason, {}, "")
        self._audit(f"share.{action}", share.share, reason, {"recipient": share.recipient}, "")

    def _event(
        self,
        connection: Connection,
        share: str,
        action: str,
        values: tuple[str, str, str],
        reason: str,
        detail: Mapping[str, Any],
        run_id: str,
    ) -> None:
        from trialops.stores.tables import share_events as table

        agreement, recipient, expires = values
        connection.execute(
            table.insert().values(
                at=utc_now(),
                share=share,
                action=action,
                agreement=agreement,
                recipient=recipient,
                expires=expires,
                actor=self._actor,
                reason=reason,
                run_id=run_id,
                detail=canonical(dict(detail)),
            )
        )

    def _audit(self, action: str, share: str, reason: str, detail: Mapping[str, Any], run_id: str) -> None:
        self._trail.append(
            actor=self._actor, action=action, object=f"share/{share}", reason=reason, run_id=run_id, detail=dict(detail)
        )
