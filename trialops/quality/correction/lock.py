"""Data lock: from a database lock on, a correction of a locked domain needs a signature."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trialops.errors import TrialOpsError
from trialops.intake.domains import catalog
from trialops.stores.chain_log import ChainLog
from trialops.stores.database import utc_now

if TYPE_CHECKING:
    from trialops.stores.objects import ObjectStore

ACTIONS = ("lock", "unlock")


@dataclass(frozen=True)
class LockEvent:
    """One locking or unlocking: when, by whom, why, and of which domains."""

    action: str
    at: str
    actor: str
    reason: str
    domains: tuple[str, ...]


class Locks:
    """The locks of one data set, kept as an append-only chain.

    Args:
        objects: Where they are kept.
        dataset: Name of the data set.
    """

    def __init__(self, objects: ObjectStore, dataset: str) -> None:
        self._chain = ChainLog(objects, f"locks/{dataset}", "data locks")

    def history(self) -> list[LockEvent]:
        """All events, oldest first.

        Raises:
            IntegrityError: One was altered or removed.
        """
        return [
            LockEvent(b["action"], b["at"], b["actor"], b["reason"], tuple(b["domains"]))
            for b in (link.body for link in self._chain.links())
        ]

    def locked(self) -> frozenset[str]:
        """Domains that are locked now."""
        now: set[str] = set()
        for event in self.history():
            now = now | set(event.domains) if event.action == "lock" else now - set(event.domains)
        return frozenset(now)

    def change(self, action: str, domains: Collection[str], *, actor: str, reason: str) -> LockEvent:
        """Lock or unlock domains.

        Args:
            action: "lock" or "unlock".
            domains: Domain codes; empty means all.
            actor: Who.
            reason: Why; not empty.

        Raises:
            TrialOpsError: The action or a domain does not exist, or there is no reason.
        """
        chosen = tuple(sorted({d.upper() for d in domains} or set(catalog().domains)))
        unknown = [d for d in chosen if d not in catalog().domains]
        if action not in ACTIONS or unknown or not reason.strip():
            raise TrialOpsError(
                f"The data cannot be {action}ed: "
                + ("a reason is needed" if not reason.strip() else f"{', '.join(unknown) or action} is not known"),
                where="data lock",
                fix=f"Give a reason, and domains among {', '.join(catalog().domains)}.",
            )
        body = {"action": action, "at": utc_now(), "actor": actor, "reason": reason, "domains": list(chosen)}
        self._chain.append(body)
        return LockEvent(action, body["at"], actor, reason, chosen)  # type: ignore[arg-type]
