"""The release of a model: decide, register, conclude; every call may be repeated and leaves the same state.

A decision that waits only for a person is a state of its own: the approver signs exactly the evidence (model,
evaluation, fairness, comparison) by its digest, and the next run, which recomputes none of it, goes on. A person
who rejects the evidence keeps the model out, whatever the policy and other signatures say.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError
from trialops.models.bundle import Bundle
from trialops.models.comparison import Comparison, Decision, compare, decide
from trialops.models.evaluation import Evaluation
from trialops.models.evidence import check_evidence
from trialops.models.fairness import FairnessReport
from trialops.models.policy import PromotionPolicy, load_promotion_policy
from trialops.models.record import restore
from trialops.stores.digest import document_digest
from trialops.stores.promotion import Kept

if TYPE_CHECKING:
    import polars as pl

    from trialops.models.task import Task
    from trialops.stores.context import Step
    from trialops.stores.objects import ObjectStore
    from trialops.stores.refs import Snapshot
    from trialops.stores.registry import Decided, Registered

RECORD_KIND = "model release"
DECIDING_STEP = "compare-with-champion"
KEPT: dict[str, Kept] = {"hold": "hold", "reject": "reject", "unchanged": "unchanged"}
STATES = {
    "promote": "promoted",
    "rollback": "rolled back",
    "hold": "held",
    "reject": "rejected",
    "unchanged": "unchanged",
}


@dataclass(frozen=True)
class Release:
    """A decision on a model with all it was made from.

    Attributes:
        comparison: The model against the champion, or the baseline while there is none.
        decision: The action by the policy alone, with every rule.
        action: What happens: the policy's action; ``promote`` where the only rule not met waits for a signature
            and an approver has signed; ``hold`` instead of ``promote`` where a person has rejected the evidence.
        waits: Whether a signature is all that is missing.
        to_sign: SHA-256 of the evidence an approver signs.
        approvals: Approving signatures that hold on that digest.
        objections: Rejecting signatures that hold on that digest.
        champion: The model in use it was compared with, as "version:digest", or "none".
        training: Digest of the training set.
    """

    comparison: Comparison
    decision: Decision
    action: str
    waits: bool
    to_sign: str
    approvals: tuple[dict[str, Any], ...]
    objections: tuple[dict[str, Any], ...]
    champion: str
    training: str
    promotion_policy: PromotionPolicy

    def as_dict(self) -> dict[str, Any]:
        """The release as JSON values."""
        return {
            "comparison": self.comparison.as_dict(),
            "decision": {**self.decision.as_dict(), "action": self.action, "by_policy": self.decision.action},
            "to_sign": self.to_sign,
            "approvals": list(self.approvals),
            "objections": list(self.objections),
            "champion": self.champion,
            "training": self.training,
            "signature_suffices": self.waits,
        }

    def numbers(self) -> dict[str, Any]:
        """The figures behind the decision, flat."""
        gap = self.comparison.difference
        return {
            "auroc": self.comparison.auroc,
            f"auroc_{self.comparison.role}": self.comparison.comparator_auroc,
            "difference": gap.value,
            "difference_low": gap.low,
            "difference_high": gap.high,
            "not_met": "; ".join(reason.rule for reason in self.decision.reasons if not reason.met),
            "approvals": len(self.approvals),
            "objections": len(self.objections),
            "waits_for_signature": self.waits,
            "to_sign": self.to_sign,
        }

    def policy(self) -> dict[str, str]:
        """Name and digest of the policy."""
        return {"name": self.decision.policy, "digest": self.decision.policy_digest}


def champion_folder(run: Step, task: str, champion: str) -> Path | None:
    """Bundle folder of the champion named ``version:digest``; None for ``none``."""
    version, digest = _version(champion), champion.partition(":")[2]
    if version is None:
        return None
    folder = run.registry.fetch(task, version, run.workdir / "champion")
    found = Bundle.load(folder).digest
    if found != digest:
        raise TrialOpsError(
            "The champion in the registry is not the one the run started with",
            where=f"model {task}, version {version}",
            fix="Start a new run: the registry has changed, or its files have.",
        )
    return folder


def champion_bundle(run: Step, task: str, champion: str) -> Bundle | None:
    """The champion's bundle, or None."""
    folder = champion_folder(run, task, champion)
    return Bundle.load(folder) if folder else None


def decide_release(
    run: Step,
    task: Task,
    held_out: pl.DataFrame,
    model: Bundle,
    other: Bundle,
    *,
    training: Snapshot,
    evaluation: Mapping[str, Any],
    fairness: Mapping[str, Any],
    champion: str,
) -> Release:
    """Compare on the same subjects, apply the policy, look for signatures.

    Args:
        run: The step.
        task: Prediction task.
        held_out: Held-out part of the training set.
        model: The new model.
        other: The champion, or the baseline.
        training: The training set the held-out part belongs to.
        evaluation: Document of the evaluation step.
        fairness: Document of the fairness step.
        champion: "version:digest" or "none".

    Raises:
        TrialOpsError: Evaluation and fairness audit are not of this model and training set.
    """
    check_evidence(model, training, evaluation=evaluation, fairness=fairness)
    policy = load_promotion_policy()
    role = "baseline" if champion == "none" else "champion"
    comparison = compare(model, other, held_out, role=role, thresholds=task.decision_thresholds)
    audit = restore(FairnessReport, fairness)
    decision = decide(restore(Evaluation, evaluation["model"]), comparison, audit, policy)
    to_sign = document_digest(
        {
            "task": task.name,
            "model": model.digest,
            "evaluation": dict(evaluation),
            "fairness": dict(fairness),
            "comparison": comparison.as_dict(),
            "policy": policy.digest,
        }
    )
    approvals, objections = _signed(run, task.name, to_sign)
    by_signature = (
        decision.action == "hold"
        and policy.fairness_insufficient == "hold_for_signature"
        and {reason.rule for reason in decision.reasons if not reason.met} == {"fair"}
    )
    action = "promote" if by_signature and approvals else decision.action
    if action == "promote" and objections:
        action = "hold"
    return Release(
        comparison=comparison,
        decision=decision,
        action=action,
        waits=by_signature and not approvals and not objections,
        to_sign=to_sign,
        approvals=approvals,
        objections=objections,
        champion=champion,
        training=training.digest,
        promotion_policy=policy,
    )


def _signed(run: Step, task: str, digest: str) -> tuple[tuple[dict[str, Any], ...], tuple[dict[str, Any], ...]]:
    """Who approves and who rejects exactly this evidence, each signature verified."""
    from trialops.governance.approval import approvals_and_objections
    from trialops.governance.signatures import Signatures

    standing = approvals_and_objections(Signatures(run.engine, run.vault), RECORD_KIND, task, digest)
    approvals, objections = (
        tuple({key: value for key, value in asdict(signature).items() if key != "signature"} for signature in part)
        for part in standing
    )
    return approvals, objections


def evidence_to_sign(objects: ObjectStore, run_id: str) -> tuple[str, str]:
    """Task and digest of the evidence a run's decision waits to have signed.

    Raises:
        TrialOpsError: The run made no decision, or none that waits for a signature.
    """
    try:
        record = json.loads(objects.get(f"runs/{run_id}/steps/{DECIDING_STEP}/record.json"))
    except KeyError:
        raise TrialOpsError(
            "The run made no release decision of its own",
            where=f"run {run_id}",
            fix="Give the run that compared the models: trialops runs",
        ) from None
    numbers = (record.get("decision") or {}).get("numbers", {})
    if not numbers.get("waits_for_signature"):
        raise TrialOpsError(
            "The run's decision does not wait for a signature",
            where=f"run {run_id}, step {DECIDING_STEP}",
            fix="Its page says which rules were not met.",
        )
    return str(record["parameters"]["task"]), str(numbers["to_sign"])


def register(
    run: Step,
    task: str,
    bundle: Path,
    baseline: Path,
    *,
    training: Snapshot,
    search: Mapping[str, Any],
    evaluation: Mapping[str, Any],
    fairness: Mapping[str, Any],
    comparison: Mapping[str, Any],
) -> Registered:
    """Put a model that has been judged into the registry, with all its evidence; challenger when it passed.

    Raises:
        TrialOpsError: The documents are not of this model and training set.
    """
    from trialops.models.registration import judged_metrics, judged_tags, keep_judgement, register_trained

    loaded = Bundle.load(bundle)
    check_evidence(loaded, training, evaluation=evaluation, fairness=fairness, comparison=comparison, search=search)
    registered = register_trained(
        run,
        task,
        bundle,
        baseline,
        training=training,
        search=search,
        metrics=judged_metrics(evaluation),
        tags=judged_tags(evaluation, fairness, comparison),
    )
    keep_judgement(run, task, registered, evaluation=evaluation, fairness=fairness, comparison=comparison)
    return registered


def conclude(run: Step, task: str, version: str, outcome: str, comparison: Mapping[str, Any]) -> dict[str, Any]:
    """Move or keep the champion alias, and append to the promotion log.

    Returns:
        state ("promoted", "rolled back", "held", "rejected", "unchanged"), version, champion in service and reason.

    Raises:
        TrialOpsError: To promote, but another model than the one compared with is in use by now; nothing has
            changed then.
    """
    decision, registry = comparison["decision"], run.registry
    decided: Decided = {
        "reason": _reason(outcome, comparison),
        "decision": decision,
        "actor": run.settings.who,
        "run_id": run.run_id,
        "engine": run.engine,
    }
    if outcome == "promote":
        registry.promote(task, version, expected_from=_version(comparison["champion"]), **decided)
    elif outcome == "rollback":
        registry.rollback(task, version, **decided)
    elif outcome in KEPT:
        registry.keep(task, version, KEPT[outcome], **decided)
    else:
        raise TrialOpsError(
            f"{outcome!r} is not an outcome of a release",
            where=f"model {task}",
            fix=f"Pass one of {', '.join(STATES)}.",
        )
    champion = registry.by_alias(task, "champion")
    return {
        "state": STATES[outcome],
        "model": task,
        "version": version,
        "champion": str(champion.version) if champion else "none",
        "champion_digest": champion.digest if champion else "",
        "reason": decided["reason"],
    }


def _version(champion: str) -> str | None:
    """The version in "version:digest"; None for "none"."""
    version, _, digest = champion.partition(":")
    return version if digest else None


def _reason(outcome: str, comparison: Mapping[str, Any]) -> str:
    """Why the release ended so, in words."""
    not_met = [reason["text"] for reason in comparison["decision"]["reasons"] if not reason["met"]]
    if outcome == "promote":
        return "approved by signature; the canary passed" if not_met else "every rule met and the canary passed"
    if outcome == "rollback":
        return "the canary failed"
    objected = [f"rejected by signature of {signature['printed_name']}" for signature in comparison["objections"]]
    return "; ".join([*objected, *not_met]) or "the model in use stays"
