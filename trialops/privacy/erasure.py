"""Requests for erasure: decided by policy, refused with reasons where the record must stay, carried out elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError
from trialops.privacy import certificate, requests, subject_store
from trialops.privacy.erasure_reach import (
    Found,
    erase_feature_files,
    erase_published,
    erase_rows,
    models_trained_on,
    versions_with,
)
from trialops.privacy.holds import active

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from trialops.stores.lake import Lake
    from trialops.stores.objects import ObjectStore
    from trialops.stores.vault import Vault


@dataclass(frozen=True)
class Stores:
    """Where a subject's data can lie.

    Attributes:
        lake: Tables.
        objects: Objects.
        engine: Database.
        vault: Keys.
        work: Folders of the feature store's own files; none on a cluster, where they end with the pod.
        online: URL of the online feature store; "" where there is none.
    """

    lake: Lake
    objects: ObjectStore
    engine: Engine
    vault: Vault
    work: tuple[Path, ...] = ()
    online: str = ""


@dataclass(frozen=True)
class Erasure:
    """What became of one request.

    Attributes:
        request: Its id.
        outcome: "executed", or "held" by a legal hold.
        in_trial: Whether the subject is part of the trial record, which stays.
        places: Place, action and reason, as decided.
        rows: Table versions deleted.
        objects: Objects shredded.
        keys: Keys destroyed.
        links: Pseudonym links destroyed.
        features: Feature-store files and rows cleaned.
        models: Models trained on the subject.
        certificate: Digest of the certificate; empty where held.
    """

    request: str
    outcome: str
    in_trial: bool
    places: tuple[tuple[str, str, str], ...] = ()
    rows: tuple[str, ...] = ()
    objects: int = 0
    keys: tuple[str, ...] = ()
    links: int = 0
    features: Mapping[str, int] | None = None
    models: tuple[Mapping[str, str], ...] = ()
    certificate: str = ""


@cache
def default_erasure_policy() -> Mapping[str, Any]:
    """The policy that ships with the platform."""
    import yaml

    policy: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("erasure.yaml").read_text("utf-8"))
    for item in (*policy["in_trial"], *policy["outside_trial"]):
        if item["action"] not in ("refuse", "erase", "shred", "report") or not str(item["why"]).strip():
            raise TrialOpsError(
                "A line of the erasure policy is not usable.",
                where=f"erasure.yaml, {item.get('place')}",
                fix="Use refuse, erase, shred or report, and say why.",
            )
    return policy


def carry_out(
    event: requests.Event,
    stores: Stores,
    *,
    actor: str,
    run_id: str = "",
    rotate_master: bool = False,
    policy: Mapping[str, Any] | None = None,
) -> Erasure:
    """Decide one erasure request and do what was decided.

    The decision is written to the register before anything is destroyed. Done again after a crash it goes on where it
    stopped: rows, keys and objects that are gone stay gone.

    Args:
        event: The request's last event.
        stores: Where the subject's data can lie.
        actor: Who carries it out.
        run_id: The run it belongs to.
        rotate_master: Also replace the master key, so that copies of the keyring open nothing destroyed. The old one
            must then be discarded wherever it is kept.
        policy: The platform's own by default.
    """
    policy = policy or default_erasure_policy()
    subject, request = event.subject, event.request
    if any(hold.covers("subject", f"subject/{subject}") for hold in active(stores.engine)):
        return Erasure(request, "held", False)
    in_trial = bool(versions_with(stores.lake, policy["trial_record"], subject))
    lines = policy["in_trial" if in_trial else "outside_trial"]
    places = tuple((str(i["place"]), str(i["action"]), " ".join(str(i["why"]).split())) for i in lines)
    actions = {place: action for place, action, _ in places}

    def note(action: str, detail: Mapping[str, Any] | None = None) -> None:
        requests.append(
            stores.engine,
            request,
            action,
            event.kind,
            event.study,
            subject,
            actor=actor,
            reason=f"erasure policy {policy['version']}",
            detail=detail,
        )

    if event.action == "received":
        note("decided", {"in_trial": in_trial, "places": [list(place) for place in places]})
        if in_trial:
            note("restricted")
    found = versions_with(stores.lake, [t for i in lines if i["action"] == "erase" for t in i["tables"]], subject)
    models = models_trained_on(stores.objects, [f for f in found if f.table.startswith("training/")])
    why = f"erasure request {request}"
    rows = erase_rows(stores.lake, found, subject, {"reason": why, "actor": actor}, run_id=run_id)
    features = {"offline": 0, "online": 0}
    for folder in stores.work:
        features = {k: features[k] + n for k, n in erase_feature_files(folder, subject).items()}
    features["offline"] += erase_published(stores.objects, subject)
    if stores.online:
        from trialops.features.materialize import all_services
        from trialops.stores.online.forget import forget

        features["online"] += forget(stores.online, all_services(), [subject])
    shredded, keys = subject_store.shred(
        subject, vault=stores.vault, objects=stores.objects, engine=stores.engine, reason=why, actor=actor
    )
    links = 0
    if actions.get("identity behind the pseudonym") == "shred":
        links = stores.vault.forget({"subject": [subject]}, reason=why, actor=actor, engine=stores.engine)
    if rotate_master:
        stores.vault.rotate_master()
    body = {
        "request": request,
        "subject": subject,
        "study": event.study,
        "received": event.at,
        "in_trial": in_trial,
        "places": [list(place) for place in places],
        "rows": rows,
        "objects": shredded,
        "keys": keys,
        "links": links,
        "features": features,
        "models": models,
        "master_key": "replaced" if rotate_master else "in use; copies of the keyring open until it is replaced",
        "policy": str(policy["version"]),
        "actor": actor,
        "run": run_id,
    }
    signed = certificate.issue("erasure", body, vault=stores.vault, objects=stores.objects)
    note("executed", {"certificate": signed["digest"], "public_key": signed["key"]})
    return Erasure(
        request,
        "executed",
        in_trial,
        places,
        tuple(rows),
        shredded,
        tuple(keys),
        links,
        features,
        tuple(models),
        signed["digest"],
    )


def still_there(stores: Stores, subject: str, policy: Mapping[str, Any] | None = None) -> list[Found]:
    """Table versions outside the trial record that still hold a subject: what an auditor asks after an erasure."""
    policy = policy or default_erasure_policy()
    patterns = [t for i in policy["in_trial"] if i["action"] == "erase" for t in i["tables"]]
    return versions_with(stores.lake, patterns, subject)
