"""The review of access: who may what, who used it, what nobody uses, and a reviewer's decisions and signature.

Grants are the uses of access.yaml by role, and the rules of Kubernetes RBAC by service account. What was used comes
from the activity that security monitoring keeps. The review of a period is a document; a reviewer decides about every
grant and account that is marked, and signs document and decisions together.
"""

from __future__ import annotations

import csv
import datetime as dt
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError
from trialops.stores.digest import document_digest

if TYPE_CHECKING:
    import polars as pl

    from trialops.governance.signatures import Signature
    from trialops.security.roster import Account
    from trialops.stores.context import Step
    from trialops.stores.objects import ObjectStore

PREFIX = "governance/access-reviews"
RECORD_KIND = "access review"
DECISIONS = ("keep", "revoke")


@dataclass(frozen=True)
class Item:
    """One grant or account.

    Attributes:
        item: Twelve hexadecimal digits of what it is.
        kind: use, rbac or account.
        who: Role, service account, or pseudonym of an account.
        what: Use, resource with verbs, or roles.
        holders: Accounts that have the role; None where the list of accounts is missing or it does not apply.
        used: Events in the period.
        last: Last day, ISO 8601, or empty.
        mark: Why it needs a decision, or empty.
    """

    item: str
    kind: str
    who: str
    what: str
    holders: int | None
    used: int
    last: str
    mark: str


def period_of(month: str, as_of: dt.datetime) -> tuple[str, dt.date, dt.date]:
    """A month's name, its first day and the one after its last; the last whole month before `as_of` where it is empty.

    Raises:
        TrialOpsError: It is not a month.
    """
    if not month:
        month = (as_of.date().replace(day=1) - dt.timedelta(1)).strftime("%Y-%m")
    try:
        first = dt.date.fromisoformat(f"{month}-01")
    except ValueError:
        raise TrialOpsError("This is not a month", where="month", fix="Write 2026-03.") from None
    return month, first, (first + dt.timedelta(32)).replace(day=1)


def review(
    activity: pl.DataFrame,
    accounts: Mapping[str, Account],
    rbac: str,
    first: dt.date,
    until: dt.date,
    pseudonyms: Any,
) -> dict[str, Any]:
    """The document of a period.

    Args:
        activity: As security monitoring keeps it.
        accounts: The list of accounts by pseudonym; may be empty.
        rbac: Folder of manifests with RBAC objects; may be empty.
        first: First day.
        until: Day after the last.
        pseudonyms: Pseudonyms of actors, as a function of a list.
    """
    import polars as pl

    from trialops.governance.access import uses
    from trialops.security.collect_run import KIND

    rows = activity.filter(pl.col("day").is_between(first, until, closed="left") & (pl.col("class") != "system"))
    items = [
        *_uses(rows, accounts),
        *_rbac(rows, grants(rbac), lambda names: pseudonyms(KIND, names)),
        *_accounts(rows, accounts, first),
    ]
    items.sort(key=lambda i: (i.kind, i.who, i.what))
    return {
        "first": first.isoformat(),
        "until": until.isoformat(),
        "access": document_digest({name: dict(rule) for name, rule in uses().items()}),
        "days": sorted({day.isoformat() for day in rows["day"].unique()}),
        "accounts_listed": bool(accounts),
        "rbac": bool(rbac),
        "items": [asdict(item) for item in items],
    }


def _item(kind: str, who: str, what: str, holders: int | None, used: int, last: Any, mark: str) -> Item:
    key = document_digest([kind, who, what])[:12]
    return Item(key, kind, who, what, holders, used, last.isoformat() if last else "", mark)


def _used(rows: pl.DataFrame, **equal: str) -> tuple[int, Any]:
    for column, value in equal.items():
        rows = rows.filter(rows[column] == value)
    return int(rows["events"].sum()), rows["day"].max()


def _uses(rows: pl.DataFrame, accounts: Mapping[str, Account]) -> list[Item]:
    from trialops.governance.access import uses
    from trialops.security.events import classify

    made = []
    allowed = rows.filter((rows["source"] == "trail") & (rows["outcome"] == "allowed") & rows["role"].is_not_null())
    for use, rule in uses().items():
        kind = classify("trail", "access.allow", use)[1]
        for role in rule["roles"]:
            used, last = _used(allowed, kind=kind, role=role)
            holders = sum(role in account.roles for account in accounts.values()) if accounts else None
            mark = "" if used else "not used"
            if holders == 0:
                mark = "nobody has the role"
            made.append(_item("use", role, use, holders, used, last, mark))
    return made


def grants(folder: str) -> list[tuple[str, str, str]]:
    """What service accounts may by RBAC manifests: service account (namespace:name), resource, verbs.

    Raises:
        TrialOpsError: The folder does not exist.
    """
    import yaml

    if not folder:
        return []
    root = Path(folder)
    if not root.is_dir():
        raise TrialOpsError("There are no manifests here", where=folder, fix="Give the folder of the RBAC manifests.")
    documents: list[dict[str, Any]] = []
    for path in sorted([*root.rglob("*.yaml"), *root.rglob("*.yml")]):
        try:
            loaded = list(yaml.safe_load_all(path.read_text("utf-8")))
        except (yaml.YAMLError, UnicodeDecodeError):
            continue  # templates and patches of other tools
        documents += [
            d for d in loaded if isinstance(d, dict) and "rbac.authorization.k8s.io" in str(d.get("apiVersion"))
        ]
    roles: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for document in documents:
        if document.get("kind") in ("Role", "ClusterRole"):
            roles[str(document["kind"]), str(document["metadata"]["name"])] = document.get("rules") or []
    found = set()
    for document in documents:
        if document.get("kind") not in ("RoleBinding", "ClusterRoleBinding"):
            continue
        given = roles.get((str(document["roleRef"]["kind"]), str(document["roleRef"]["name"])))
        for subject in document.get("subjects") or []:
            space = subject.get("namespace") or document["metadata"].get("namespace") or "default"
            who = f"{space}:{subject['name']}" if subject.get("kind") == "ServiceAccount" else str(subject["name"])
            if given is None:
                found.add((who, f"role {document['roleRef']['name']}", "not in the manifests"))
                continue
            for rule in given:
                names = [*(rule.get("resources") or []), *(rule.get("nonResourceURLs") or [])]
                found |= {(who, str(name), ",".join(sorted(map(str, rule.get("verbs") or [])))) for name in names}
    return sorted(found)


def _rbac(rows: pl.DataFrame, given: Sequence[tuple[str, str, str]], pseudonyms: Any) -> list[Item]:
    who = sorted({g[0] for g in given})
    names = dict(zip(who, pseudonyms([f"system:serviceaccount:{w}" for w in who]), strict=True))
    cluster = rows.filter(rows["source"] == "kubernetes")
    made = []
    for account, resource, verbs in given:
        mine = cluster.filter(
            (cluster["actor"] == names[account]) & cluster["kind"].str.contains(f"^{_escaped(resource)}([.]|$)")
        )
        used, last = _used(mine)
        wild = "*" in resource or "*" in verbs.split(",")
        mark = "wildcard" if wild else "" if used else "not used"
        made.append(_item("rbac", account, f"{resource} ({verbs})", None, used, last, mark))
    return made


def _escaped(resource: str) -> str:
    import re

    return ".*" if resource == "*" else re.escape(resource)


def _accounts(rows: pl.DataFrame, accounts: Mapping[str, Account], first: dt.date) -> list[Item]:
    made = []
    for actor, account in sorted(accounts.items()):
        if account.left and account.left < first:
            continue
        used, last = _used(rows, actor=actor)
        mark = "" if used else "not used"
        if account.kind == "person" and len(account.roles) > 1:
            mark = "several roles"
        made.append(_item("account", actor, ", ".join(account.roles) or account.kind, None, used, last, mark))
    return made


def keep(run: Step, period: str, document: Mapping[str, Any]) -> str:
    """Keep a review's document; returns its digest. The same one is kept once."""
    digest = document_digest(document)
    body = {"period": period, "digest": digest, "document": document, "at": run.run_id}
    run.objects.put(f"{PREFIX}/{period}/{digest}.json", json.dumps(body, sort_keys=True).encode(), if_absent=True)
    run.objects.put(f"{PREFIX}/{period}/newest.json", json.dumps({"digest": digest}).encode())
    return digest


def kept(objects: ObjectStore, period: str) -> tuple[str, dict[str, Any]]:
    """The newest review of a period, checked against its digest.

    Raises:
        TrialOpsError: There is none, or it is not what was kept.
    """
    try:
        digest = str(json.loads(objects.get(f"{PREFIX}/{period}/newest.json"))["digest"])
        document = json.loads(objects.get(f"{PREFIX}/{period}/{digest}.json"))["document"]
    except (KeyError, ValueError):
        raise TrialOpsError(
            "There is no review of this month", where=period, fix="Run security_monitoring, or give another --month."
        ) from None
    if document_digest(document) != digest:
        raise TrialOpsError("The review is not what was kept", where=period, fix="Call the auditor.")
    return digest, document


def read_decisions(path: Path, document: Mapping[str, Any]) -> list[dict[str, str]]:
    """A reviewer's decisions from CSV with the columns item, decision (keep, revoke), reason.

    Raises:
        TrialOpsError: A marked item has no decision, a decision is none, or an item is not of this review.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [{k: (r.get(k) or "").strip() for k in ("item", "decision", "reason")} for r in csv.DictReader(file)]
    except (OSError, UnicodeDecodeError, csv.Error):
        raise TrialOpsError("The decisions cannot be read", where=str(path), fix="Give a CSV file.") from None
    items = {item["item"]: item for item in document["items"]}
    strange = [r["item"] for r in rows if r["item"] not in items]
    wrong = [r["item"] for r in rows if r["decision"] not in DECISIONS or not r["reason"]]
    decided = {r["item"] for r in rows}
    missing = [key for key, item in items.items() if item["mark"] and key not in decided]
    for problem, these in (
        ("Decisions about items that this review does not have", strange),
        ("Decisions that are neither keep nor revoke, or have no reason", wrong),
        ("Marked items without a decision", missing),
    ):
        if these:
            some = ", ".join(sorted(these)[:5])
            raise TrialOpsError(
                f"{problem}: {len(these)} ({some})", where=str(path), fix="Columns: item,decision,reason."
            )
    return sorted(rows, key=lambda r: r["item"])


def sign(
    run: Step, period: str, decisions: Sequence[Mapping[str, str]], *, user: str, passphrase: str, reason: str = ""
) -> Signature:
    """Sign the newest review of a period together with the decisions.

    Raises:
        TrialOpsError: There is no review, or the signer may not sign.
    """
    from trialops.governance.signatures import Signatures

    digest, _ = kept(run.objects, period)
    body = {"review": digest, "decisions": [dict(d) for d in decisions]}
    signed = document_digest(body)
    run.objects.put(
        f"{PREFIX}/{period}/decisions-{signed}.json", json.dumps(body, sort_keys=True).encode(), if_absent=True
    )
    return Signatures(run.engine, run.vault).sign(
        user=user, passphrase=passphrase, meaning="reviewed", kind=RECORD_KIND, record=period, digest=signed,
        reason=reason, run_id=run.run_id,
    )  # fmt: skip


def signed_reviews(run: Step, period: str) -> list[dict[str, Any]]:
    """Signatures on a period's reviews with what was decided, and whether each holds."""
    from trialops.governance.signatures import Signatures

    signatures, made = Signatures(run.engine, run.vault), []
    for signature in signatures.of(RECORD_KIND, period):
        try:
            body = json.loads(run.objects.get(f"{PREFIX}/{period}/decisions-{signature.digest}.json"))
        except KeyError:
            body = {}
        holds = bool(signatures.verify(signature, document_digest(body)))
        counts = {d: sum(row["decision"] == d for row in body.get("decisions", ())) for d in DECISIONS}
        made.append({"at": signature.at, "by": signature.printed_name, "meaning": signature.meaning,
                     "review": body.get("review", ""), "decisions": counts, "holds": holds})  # fmt: skip
    return made
