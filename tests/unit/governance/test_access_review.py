"""The review of access: grants against use, decisions, signature."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.support.homes import leave, live_in
from trialops.errors import TrialOpsError
from trialops.governance.access_review import (
    grants,
    keep,
    kept,
    period_of,
    read_decisions,
    review,
    sign,
    signed_reviews,
)
from trialops.governance.signatures import Signatures
from trialops.security.events import nothing
from trialops.security.roster import Account
from trialops.settings import settings
from trialops.stores.context import Step

FIRST, UNTIL = dt.date(2026, 3, 1), dt.date(2026, 4, 1)
RBAC = """
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reader, namespace: trialops}
rules:
- {apiGroups: [""], resources: [pods, secrets], verbs: [get, list]}
- {apiGroups: ["*"], resources: ["*"], verbs: ["*"]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: reader, namespace: trialops}
roleRef: {kind: Role, name: reader, apiGroup: rbac.authorization.k8s.io}
subjects: [{kind: ServiceAccount, name: runner, namespace: trialops}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: strange}
roleRef: {kind: ClusterRole, name: cluster-admin, apiGroup: rbac.authorization.k8s.io}
subjects: [{kind: ServiceAccount, name: runner, namespace: trialops}]
"""
ACCOUNTS = {
    "ana": Account("ana", "person", ("safety physician",)),
    "bo": Account("bo", "person", ("monitor", "auditor")),
    "gone": Account("gone", "person", ("monitor",), None, dt.date(2026, 1, 1)),
}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Step]:
    live_in(tmp_path / "home", monkeypatch)
    yield Step("look", {}, settings())
    leave()


def _activity() -> pl.DataFrame:
    plain: dict[str, Any] = {
        "source": "trail",
        "service": False,
        "hour": 9,
        "outcome": "allowed",
        "class": "unblind",
        "events": 3,
    }
    ana = {**plain, "actor": "ana", "role": "safety physician"}
    rows = [
        {**ana, "day": dt.date(2026, 3, 9), "kind": "treatment of a subject"},
        {**ana, "day": dt.date(2026, 2, 9), "kind": "safety cases"},  # before
        {**plain, "source": "kubernetes", "actor": "system:serviceaccount:trialops:runner", "service": True,
         "day": dt.date(2026, 3, 10), "class": "read", "kind": "pods"},
    ]  # fmt: skip
    return pl.DataFrame(rows, schema=nothing().activity.schema)


def _review(folder: Path) -> dict[str, Any]:
    (folder / "rbac.yaml").write_text(RBAC)
    return review(_activity(), ACCOUNTS, str(folder), FIRST, UNTIL, lambda _, names: list(names))


def test_use_is_set_against_grants(tmp_path: Path) -> None:
    items = {(i["kind"], i["who"], i["what"]): i for i in _review(tmp_path)["items"]}
    used = items["use", "safety physician", "unblinding"]
    assert (used["used"], used["last"], used["mark"], used["holders"]) == (3, "2026-03-09", "", 1)
    assert items["use", "safety physician", "safety_cases"]["mark"] == "not used"
    assert items["use", "statistician (unblinded)", "unblinded_documents"]["mark"] == "nobody has the role"
    runner = "trialops:runner"
    assert items["rbac", runner, "pods (get,list)"]["mark"] == ""
    assert items["rbac", runner, "secrets (get,list)"]["mark"] == "not used"
    assert items["rbac", runner, "* (*)"]["mark"] == "wildcard"
    assert ("rbac", runner, "role cluster-admin (not in the manifests)") in items
    assert items["account", "bo", "monitor, auditor"]["mark"] == "several roles"
    assert ("account", "gone", "monitor") not in items
    with pytest.raises(TrialOpsError):
        grants(str(tmp_path / "nowhere"))


def _decisions(path: Path, document: dict[str, Any], left_out: int = 0) -> Path:
    marked = [i for i in document["items"] if i["mark"]]
    rows = "".join(f"{i['item']},revoke,{i['mark']}\n" for i in marked[left_out:])
    path.write_text(f"item,decision,reason\n{rows}")
    return path


def test_every_marked_item_needs_a_decision(tmp_path: Path) -> None:
    document, path = _review(tmp_path), tmp_path / "d.csv"
    assert len(read_decisions(_decisions(path, document), document)) == sum(bool(i["mark"]) for i in document["items"])
    with pytest.raises(TrialOpsError, match="without a decision: 1"):
        read_decisions(_decisions(path, document, 1), document)
    path.write_text("item,decision,reason\nffffffffffff,keep,x\n")
    with pytest.raises(TrialOpsError, match="does not have"):
        read_decisions(path, document)
    path.write_text(f"item,decision,reason\n{document['items'][0]['item']},perhaps,x\n")
    with pytest.raises(TrialOpsError, match="neither keep nor revoke"):
        read_decisions(path, document)


def test_unused_grants_are_marked_and_signed_for(run: Step, tmp_path: Path) -> None:
    document = _review(tmp_path)
    digest = keep(run, "2026-03", document)
    assert kept(run.objects, "2026-03") == (digest, document)
    Signatures(run.engine, run.vault, cost=2**10).enrol("officer", "Olga Officer", "a long passphrase 1")
    ruled = read_decisions(_decisions(tmp_path / "d.csv", document), document)
    with pytest.raises(TrialOpsError):
        sign(run, "2026-03", ruled, user="officer", passphrase="wrong passphrase 1")
    sign(run, "2026-03", ruled, user="officer", passphrase="a long passphrase 1")
    (signed,) = signed_reviews(run, "2026-03")
    assert signed["holds"] and signed["review"] == digest and signed["decisions"] == {"keep": 0, "revoke": len(ruled)}
    # What was decided cannot be changed behind the signature.
    key = next(k for k in run.objects.list("governance/access-reviews/2026-03") if "decisions" in k)
    run.objects.put(key, run.objects.get(key).replace(b"revoke", b"keep", 1))
    assert not signed_reviews(run, "2026-03")[0]["holds"]
    key = f"governance/access-reviews/2026-03/{digest}.json"
    run.objects.put(key, run.objects.get(key).replace(b"not used", b"in use", 1))
    with pytest.raises(TrialOpsError):
        kept(run.objects, "2026-03")


def test_months() -> None:
    assert period_of("", dt.datetime(2026, 3, 1, tzinfo=dt.UTC)) == (
        "2026-02",
        dt.date(2026, 2, 1),
        dt.date(2026, 3, 1),
    )
    assert period_of("2025-12", dt.datetime(2026, 3, 1))[2] == dt.date(2026, 1, 1)
    with pytest.raises(TrialOpsError):
        period_of("March", dt.datetime(2026, 3, 1))
