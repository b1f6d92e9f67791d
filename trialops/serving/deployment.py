"""A version on its way into production: evidence, a person's signature, rollout, alias; and the way back.

Nothing goes into production that nobody has signed for. What is signed is the digest of the evidence as it is stored
(model, evaluation, fairness, comparison) and of the champion it takes the place of; new evidence needs a new signature.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError
from trialops.governance.approval import approvals_and_objections
from trialops.governance.signatures import Signatures
from trialops.models.evidence_store import evidence_index, get_evidence
from trialops.models.registration import NOT_PASSED, passed
from trialops.serving.policy import load_policy
from trialops.stores.digest import document_digest

if TYPE_CHECKING:
    from trialops.stores.context import Step
    from trialops.stores.objects import ObjectStore

RECORD_KIND = "model deployment"
GATE_STEP = "approve-deployment"
NEEDED = ("evaluation", "fairness", "comparison")
APPROVED, WAITS, REJECTED, UNFIT, UNCHANGED = "approved", "waits", "rejected", "unfit", "unchanged"
STATES = {
    "promote": "promoted",
    "rollback": "rolled back",
    WAITS: "waits for a signature",
    REJECTED: "rejected",
    UNFIT: "not fit for production",
    UNCHANGED: "unchanged",
}


@dataclass(frozen=True)
class Gate:
    """Whether a version may be rolled out.

    Attributes:
        state: "approved", "waits" (for a signature), "rejected" (by signature), "unfit" or "unchanged".
        reasons: Why, in words.
        task: Prediction task, and name of the registered model.
        version: The version.
        model: Digest of its bundle.
        champion: "version:digest" of the model in use, or "none".
        documents: Digest of each stored document.
        figures: What a signer is shown.
        to_sign: SHA-256 of the evidence.
        approvals: Approving signatures that hold on it.
        objections: Rejecting signatures that hold on it.
    """

    state: str
    reasons: tuple[str, ...]
    task: str
    version: str
    model: str
    champion: str
    documents: Mapping[str, str]
    figures: Mapping[str, Any]
    to_sign: str
    approvals: tuple[dict[str, Any], ...] = ()
    objections: tuple[dict[str, Any], ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The gate as JSON values."""
        record = asdict(self)
        for key in ("reasons", "approvals", "objections"):
            record[key] = list(record[key])
        return record


def deployment_gate(run: Step, task: str, version: str, champion: str) -> Gate:
    """Read the evidence and look for signatures on it.

    Args:
        run: The step.
        task: Prediction task, and name of the registered model.
        version: The version to put into production.
        champion: "version:digest" of the model in use, or "none".
    """
    registered = run.registry.version(task, version)
    found = get_evidence(run, task, version)
    index = evidence_index(run, task, version)
    documents = {name: index[name]["digest"] for name in sorted(found)}
    to_sign = document_digest(
        {
            "task": task,
            "version": version,
            "model": registered.digest,
            "champion": champion,
            "documents": {name: documents.get(name, "") for name in NEEDED},
            "policy": load_policy().digest,
        }
    )

    def gate(state: str, *reasons: str, **signed: Any) -> Gate:
        return Gate(
            state,
            reasons,
            task,
            version,
            registered.digest,
            champion,
            documents,
            _figures(found),
            to_sign,
            **signed,
        )

    if champion.partition(":")[0] == version:
        return gate(UNCHANGED, "the version is the champion")
    missing = [name for name in NEEDED if name not in found]
    if missing:
        return gate(UNFIT, f"no {', '.join(missing)} is stored: run model_evaluation")
    comparison = found["comparison"]
    if comparison["champion"] != champion:
        return gate(UNFIT, "it was compared with another model than the one in use: run model_evaluation")
    if passed(comparison) == NOT_PASSED:
        unmet = [reason["text"] for reason in comparison["decision"]["reasons"] if not reason["met"]]
        return gate(UNFIT, *(unmet or ["its evaluation did not pass"]))
    standing = approvals_and_objections(Signatures(run.engine, run.vault), RECORD_KIND, task, to_sign)
    approvals, objections = (
        tuple({key: value for key, value in asdict(one).items() if key != "signature"} for one in part)
        for part in standing
    )
    signed = {"approvals": approvals, "objections": objections}
    if objections:
        names = ", ".join(str(one["printed_name"]) for one in objections)
        return gate(REJECTED, f"rejected by signature of {names}", **signed)
    if not approvals:
        return gate(WAITS, "nobody has signed for it yet: trialops approve RUN", **signed)
    return gate(APPROVED, f"approved by signature of {', '.join(str(a['printed_name']) for a in approvals)}", **signed)


def _figures(found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The figures a signer is shown; those that are stored."""
    figures: dict[str, Any] = {}
    if "evaluation" in found:
        auroc = found["evaluation"]["model"]["auroc"]
        figures["auroc"] = [auroc["value"], auroc["low"], auroc["high"]]
    if "fairness" in found:
        figures["fairness"] = found["fairness"]["verdict"]
    if "comparison" in found:
        gap = found["comparison"]["comparison"]["difference"]
        figures["difference"] = [gap["value"], gap["low"], gap["high"]]
        figures["role"] = found["comparison"]["comparison"]["role"]
        figures["not_met"] = [r["rule"] for r in found["comparison"]["decision"]["reasons"] if not r["met"]]
    return figures


def deployment_to_sign(objects: ObjectStore, run_id: str) -> dict[str, Any] | None:
    """The gate's document of a run that waits for a signature before production.

    Returns:
        None where the run has no such gate.

    Raises:
        TrialOpsError: It has one, and it does not wait.
    """
    try:
        record = json.loads(objects.get(f"runs/{run_id}/steps/{GATE_STEP}/record.json"))
        gate: dict[str, Any] = json.loads(objects.get(f"runs/{run_id}/steps/{GATE_STEP}/gate.json"))
    except KeyError:
        return None
    if record["decision"]["decision"] not in (WAITS, REJECTED):
        raise TrialOpsError(
            "The run's deployment does not wait for a signature",
            where=f"run {run_id}, step {GATE_STEP}",
            fix="Its page says what it was decided on.",
        )
    return gate


def shown_gate(gate: Mapping[str, Any]) -> str:
    """What a signer reads before the passphrase is asked for, one line for each fact."""
    figures = gate["figures"]

    def interval(name: str) -> str:
        value, low, high = figures[name]
        return f"{value:.3f} (95 % CI {low:.3f} to {high:.3f})"

    lines = [
        f"Model:          {gate['task']}, version {gate['version']}, into production",
        f"Model, SHA-256: {gate['model']}",
        f"In use now:     {gate['champion']}",
        f"AUROC:          {interval('auroc')}",
        f"Difference:     {interval('difference')} to the {figures['role']}",
        f"Fairness:       {figures['fairness']}",
        f"Rules not met:  {', '.join(figures['not_met']) or 'none'}",
        f"Evidence:       {gate['to_sign']}",
    ]
    return "\n".join(lines)


def conclude_deployment(run: Step, gate: Mapping[str, Any], outcome: str) -> dict[str, Any]:
    """Move the alias, or leave it, and append to the promotion log.

    A version that waits for a signature stays the challenger; nothing has been decided about it.

    Args:
        run: The step.
        gate: The gate's document.
        outcome: "promote" or "rollback" from the rollout, else the gate's state.

    Returns:
        state, version, champion in service and reason.

    Raises:
        TrialOpsError: To promote, but another model is in use by now; nothing has changed then.
    """
    task, version = str(gate["task"]), str(gate["version"])
    before = str(gate["champion"]).partition(":")[0] if gate["champion"] != "none" else None
    reason = "; ".join(gate["reasons"])
    if outcome in ("promote", "rollback"):
        reason = f"{reason}; the rollout {'passed' if outcome == 'promote' else 'failed'}"
    decided: Any = {
        "reason": reason,
        "decision": {key: gate[key] for key in ("to_sign", "documents", "figures", "model")} | {"outcome": outcome},
        "actor": run.settings.who,
        "run_id": run.run_id,
        "engine": run.engine,
    }
    if outcome == "promote":
        run.registry.promote(task, version, expected_from=before, **decided)
    elif outcome == "rollback":
        run.registry.rollback(task, version, **decided)
    elif outcome in (REJECTED, UNFIT):
        run.registry.keep(task, version, "reject" if outcome == REJECTED else "hold", **decided)
    champion = run.registry.by_alias(task, "champion")
    return {
        "state": STATES[outcome],
        "model": task,
        "version": version,
        "champion": str(champion.version) if champion else "none",
        "champion_digest": champion.digest if champion else "",
        "reason": reason,
    }


def rollout_documents(run: Step, gate: Mapping[str, Any]) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """The journal of the run's rollout, and the documents it would be on a cluster.

    Args:
        run: The step.
        gate: The gate's document.

    Returns:
        Rows of the journal, empty where there was no rollout, and YAML by file name.
    """
    from trialops.serving.kserve import Endpoint, Served, StandardCanary, plan_documents
    from trialops.stores.rollouts import rollout_events

    task, version, champion = str(gate["task"]), str(gate["version"]), str(gate["champion"])
    events = [asdict(event) for event in rollout_events(run.engine, f"{task}/{version}/{run.run_id}")]
    before, _, digest = champion.partition(":")
    if not events or not digest:
        return events, {}

    def served(number: str, bundle: str) -> Served:
        return Served(number, bundle, f"{run.settings.objects}/models/{task}/{number}/bundle")

    endpoint = Endpoint(task.replace("_", "-"), run.settings.study, task)
    documents = plan_documents(
        StandardCanary(endpoint),
        served(before, digest),
        served(version, str(gate["model"])),
        load_policy().steps_percent,
    )
    return events, documents
