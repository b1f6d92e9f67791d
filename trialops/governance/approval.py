"""Approval of a decision: what a person is shown before signing, and what the signatures come to."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from trialops.errors import TrialOpsError
from trialops.governance.signatures import Check, Signature
from trialops.stores.objects import ObjectStore

APPROVED, REJECTED = "approved", "rejected"


class Signed(Protocol):
    """What is needed of the signatures of a database."""

    def of(self, kind: str, record: str) -> list[Signature]:
        """The signatures on a record, oldest first."""
        ...

    def verify(self, signature: Signature, digest: str) -> Check:
        """Whether a signature holds for a digest."""
        ...


class Standing(NamedTuple):
    """Each signer's last word on one piece of evidence; any objection blocks.

    Attributes:
        approvals: Signatures that approve, oldest first.
        objections: Signatures that reject, oldest first.
    """

    approvals: tuple[Signature, ...]
    objections: tuple[Signature, ...]

    @property
    def approved(self) -> bool:
        """Somebody approves and nobody objects."""
        return bool(self.approvals) and not self.objections


def approvals_and_objections(signatures: Signed, kind: str, record: str, digest: str) -> Standing:
    """Who approves and who rejects exactly this evidence.

    Only signatures that hold count, and of each signer the last one: a rejection is withdrawn by its own signer's
    approval and by nobody else's.

    Args:
        signatures: Of the database.
        kind: Kind of record that is signed.
        record: Its id.
        digest: SHA-256 of the evidence as it is now.
    """
    last: dict[str, Signature] = {}
    for signature in signatures.of(kind, record):
        decides = signature.meaning in (APPROVED, REJECTED) and signature.digest == digest
        if decides and signatures.verify(signature, digest):
            last[signature.user_id] = signature
    standing = sorted(last.values(), key=lambda signature: signature.audit_seq)
    return Standing(
        tuple(signature for signature in standing if signature.meaning == APPROVED),
        tuple(signature for signature in standing if signature.meaning == REJECTED),
    )


@dataclass(frozen=True)
class Shown:
    """What a signer is shown before the passphrase is asked for.

    Attributes:
        task: Prediction task, the record that is signed.
        model: SHA-256 of the model's files.
        auroc: Area under the ROC curve on the held-out sites, with its 95 % interval.
        difference: Against the champion or the baseline, with its interval.
        fairness: Verdict, and the reason for each attribute.
        not_met: Rules of the policy that were not met.
        action: What the policy alone does.
        page: Where all of it can be read.
        digest: SHA-256 of the evidence that is signed.
    """

    task: str
    model: str
    auroc: str
    difference: str
    fairness: tuple[str, ...]
    not_met: tuple[str, ...]
    action: str
    page: str
    digest: str

    def as_text(self) -> str:
        """One line for each fact."""
        first, *more = self.fairness
        lines = [
            f"Task:           {self.task}",
            f"Model, SHA-256: {self.model}",
            f"AUROC:          {self.auroc}",
            f"Difference:     {self.difference}",
            f"Fairness:       {first}",
            *(f"                {line}" for line in more),
            f"Rules not met:  {', '.join(self.not_met) or 'none'}",
            f"Decision:       {self.action}",
            f"Evidence:       {self.digest}",
            f"Page:           {self.page}",
        ]
        return "\n".join(lines)


def shown(objects: ObjectStore, run_id: str, step: str) -> Shown:
    """What a run's decision rests on, read from the records of its steps.

    Args:
        objects: Run records.
        run_id: Run.
        step: Step that decided.

    Raises:
        TrialOpsError: A record is missing or lacks a figure; nobody signs what cannot be shown.
    """
    key = f"runs/{run_id}/steps/{step}/record.json"
    try:
        record = _record(objects, key)
        inputs: Sequence[Mapping[str, Any]] = record["inputs"]
        used = {item["artifact"]: item for item in inputs}
        judged = _record(objects, used["evaluation"]["record"])["metrics"]
        audited = _record(objects, used["fairness"]["record"])["decision"]
        decision = record["decision"]
        numbers = decision["numbers"]
        role = next(name.removeprefix("auroc_") for name in numbers if name.startswith("auroc_"))
        return Shown(
            task=record["parameters"]["task"],
            model=used["model"]["digest"],
            auroc=_interval(judged["auroc"], judged["auroc_low"], judged["auroc_high"]),
            difference=f"{_interval(*(numbers[f'difference{end}'] for end in ('', '_low', '_high')))} to the {role}",
            fairness=(audited["decision"], *(f"{name}: {why}" for name, why in audited["numbers"].items())),
            not_met=tuple(filter(None, numbers["not_met"].split("; "))),
            action=decision["decision"],
            page=f"{objects.url}/runs/{run_id}/index.html",
            digest=numbers["to_sign"],
        )
    except (KeyError, TypeError, StopIteration):
        raise TrialOpsError(
            "The evidence cannot be shown, so it cannot be signed: a record is missing or incomplete",
            where=key,
            fix="Run the job again; its records name what the decision was made from.",
        ) from None


def _record(objects: ObjectStore, key: str) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(objects.get(key))
    return record


def _interval(value: float, low: float, high: float) -> str:
    return f"{value:.3f} (95 % CI {low:.3f} to {high:.3f})"
