"""The register of data subjects' requests and of restrictions of processing: events that are only ever added.

A request is received, its subject verified, decided and carried out; each is a further row with who, when and why. The
subject stands in it by pseudonym alone.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError
from trialops.stores.database import canonical, reading, utc_now, writing

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from trialops.stores.vault import Vault

KINDS = ("erasure", "restriction")
ACTIONS = ("received", "decided", "executed", "restricted", "lifted")
_NEXT = {
    "": ("received",),
    "received": ("decided", "restricted"),
    "decided": ("executed", "restricted"),
    "executed": ("restricted",),
    "restricted": ("executed", "decided", "lifted"),
    "lifted": ("restricted",),
}


@dataclass(frozen=True)
class Event:
    """One row of the register. `subject` is a pseudonym; `detail` is JSON."""

    id: int
    at: str
    request: str
    action: str
    kind: str
    study: str
    subject: str
    actor: str
    reason: str
    detail: dict[str, Any]


def receive(engine: Engine, vault: Vault, *, kind: str, subject_key: str, actor: str, reason: str) -> Event:
    """Enter a request, after checking that the key names a subject this installation knows.

    The key itself is not stored, printed or logged: it is turned into its pseudonym, and the pseudonym must be linked.

    Args:
        engine: Database, migrated.
        vault: Keys of the study.
        kind: "erasure" or "restriction".
        subject_key: USUBJID of the requester, or Patient/<id>; given by whoever verified the identity.
        actor: Who enters it, and answers for the verification.
        reason: How the identity was verified and what was asked.

    Raises:
        TrialOpsError: Unknown kind, an empty field, a key that names nobody, or an open request of the kind.
    """
    import sqlalchemy as sa

    from trialops.stores.tables import pseudonym_links

    if kind not in KINDS:
        raise TrialOpsError(f"There is no request of kind {kind!r}.", where="request", fix=f"Use {' or '.join(KINDS)}.")
    pseudonym = vault.pseudonym("subject", subject_key.strip())
    link = sa.select(pseudonym_links.c.pseudonym).where(
        pseudonym_links.c.study == vault.study,
        pseudonym_links.c.kind == "subject",
        pseudonym_links.c.pseudonym == pseudonym,
    )
    with reading(engine) as connection:
        known = connection.execute(link).first() is not None
    if not known:
        raise TrialOpsError(
            "The subject key names nobody whose data were de-identified here.",
            where="request",
            fix="Give the USUBJID as in the trial's data, or Patient/<id>; check TRIALOPS_STUDY.",
        )
    if any(e.kind == kind and e.action not in ("executed", "lifted") for e in open_requests(engine, pseudonym)):
        raise TrialOpsError(
            "The subject has an open request of this kind.",
            where="request",
            fix="See it with: trialops privacy requests",
        )
    return append(engine, str(uuid.uuid4()), "received", kind, vault.study, pseudonym, actor=actor, reason=reason)


def append(
    engine: Engine,
    request: str,
    action: str,
    kind: str,
    study: str,
    subject: str,
    *,
    actor: str,
    reason: str,
    detail: Mapping[str, Any] | None = None,
) -> Event:
    """Add an event, in the register and in the audit trail, in one transaction.

    Raises:
        TrialOpsError: Actor or reason is empty, or the event cannot follow the request's last one.
    """
    import sqlalchemy as sa

    from trialops.governance.audit import AuditTrail
    from trialops.stores.tables import privacy_requests as table

    for name, value in (("actor", actor), ("reason", reason)):
        if not value.strip():
            raise TrialOpsError(f"A request needs a{'n' if name == 'actor' else ''} {name}.", where="request")
    values = {
        "at": utc_now(),
        "request": request,
        "action": action,
        "kind": kind,
        "study": study,
        "subject": subject,
        "actor": actor,
        "reason": reason,
        "detail": canonical(dict(detail or {})),
    }
    with writing(engine) as connection:
        last = connection.execute(
            sa.select(table.c.action).where(table.c.request == request).order_by(table.c.id.desc()).limit(1)
        ).scalar()
        if action not in _NEXT.get(str(last or ""), ()):
            raise TrialOpsError(
                f"A request that is {last or 'not received'} cannot be {action}.",
                where=f"request {request}",
                fix="See its events with: trialops privacy requests",
            )
        AuditTrail(engine).append(
            actor=actor,
            action=f"privacy.{action}",
            object=f"{kind}/{request}",
            reason=reason,
            detail={"subject": subject, "study": study},
            connection=connection,
        )
        row = connection.execute(table.insert().values(**values).returning(table)).one()
    return _event(row)


def events(engine: Engine, request: str = "") -> list[Event]:
    """The register, oldest first, of one request or of all."""
    import sqlalchemy as sa

    from trialops.stores.tables import privacy_requests as table

    query = sa.select(table).order_by(table.c.id)
    if request:
        query = query.where(table.c.request == request)
    with reading(engine) as connection:
        return [_event(row) for row in connection.execute(query)]


def last_events(engine: Engine) -> list[Event]:
    """The last event of every request, in order of receipt."""
    last: dict[str, Event] = {}
    for event in events(engine):
        last[event.request] = event
    return list(last.values())


def open_requests(engine: Engine, subject: str = "") -> list[Event]:
    """Last events of requests that wait to be decided or carried out, of one subject or of all."""
    done = ("executed", "lifted")
    found = [e for e in last_events(engine) if e.action not in done and (not subject or e.subject == subject)]
    return [e for e in found if not (e.action == "restricted" and e.kind == "restriction")]


def restricted(engine: Engine, study: str) -> frozenset[str]:
    """Pseudonyms of subjects whose data may be stored and used for the trial's legal duties alone (Art. 18 GDPR)."""
    state: dict[str, bool] = {}
    for event in events(engine):
        if event.study == study and event.action in ("restricted", "lifted"):
            state[event.subject] = event.action == "restricted"
    return frozenset(subject for subject, on in state.items() if on)


def _event(row: Any) -> Event:
    fields = dict(row._mapping)
    return Event(**(fields | {"detail": json.loads(fields["detail"])}))
