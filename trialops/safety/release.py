"""Looking into a case, deciding it, and releasing it to an authority: what only some roles may do, on record.

A release unblinds the one subject, judges the case once more with what the subject had, and is signed: the signature
binds a safety physician to exactly the content that goes out. Where the case is not to be expedited after all (the
subject had placebo), the clocks end by a decision whose grounds are sealed. A version is handed over only while a valid
approval of its digest stands.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError
from trialops.governance.access import authorise
from trialops.governance.approval import approvals_and_objections
from trialops.safety.blinding import treatment_of
from trialops.safety.case import Case
from trialops.safety.case_content import content_digest, read_content, seal_content
from trialops.safety.case_drugs import role_of, unblinded
from trialops.safety.case_versions import authorities_of
from trialops.safety.classification import Authority, Facts, Ruling, classify
from trialops.safety.register import CaseRegister
from trialops.safety.register_records import AMENDMENT, DECIDED, NULLIFICATION, RELEASED, Action, Version
from trialops.stores.digest import document_digest
from trialops.trial.tables import TrialTables

if TYPE_CHECKING:
    from trialops.governance.approval import Signed
    from trialops.stores.context import Step
    from trialops.trial.study_file import StudyFile

KIND = "safety case"
"""Kind of record in a signature."""

PURPOSE = "unblinded"
"""The vault's data key for cases that tell a treatment."""


@dataclass(frozen=True)
class Prepared:
    """A case ready to be signed: unblinded, judged, sealed.

    Attributes:
        case: Case id.
        version: Of the register.
        digest: SHA-256 of the case that goes out.
        rulings: By authority, with what the subject had.
        told: The case itself; unblinded.
    """

    case: str
    version: int
    digest: str
    rulings: Mapping[str, Ruling]
    told: Case

    @property
    def record(self) -> str:
        """What is signed."""
        return f"{self.case}/{self.version}"

    @property
    def expedited(self) -> tuple[str, ...]:
        """Authorities that must be told."""
        return tuple(a for a, ruling in self.rulings.items() if ruling.expedited)


@dataclass(frozen=True)
class ReleasedCase:
    """A version that a safety physician has released to an authority, its signature checked just now."""

    case: str
    version: int
    authority: str
    kind: str
    digest: str
    told: Case


def look(run: Step, register: CaseRegister, case: str, *, purpose: str) -> tuple[list[Version], dict[str, Any]]:
    """All versions of a case and the content of the newest; blinded.

    Raises:
        TrialOpsError: The role may not, no purpose is stated, or there is no such case.
    """
    authorise(run, "safety_cases", purpose, subject=case)
    made = register.versions(case)[case]
    if not made:
        raise TrialOpsError("The case has no version yet", where=case, fix="Run adverse_event_monitoring again.")
    return made, read_content(run, made[-1].sealed)


def amend_narrative(run: Step, register: CaseRegister, case: str, text: str, *, purpose: str) -> Version:
    """Enter a version with a narrative that a person wrote; later versions keep it and say what is further.

    Raises:
        TrialOpsError: The role may not, the text is empty or the same, or the case is nullified.
    """
    authorise(run, "safety_assessment", purpose, subject=case)
    last = register.versions(case)[case][-1]
    written = text.strip()
    if not written or last.kind == NULLIFICATION:
        raise TrialOpsError("There is no narrative to enter", where=case, fix="Give a text, for a case that stands.")
    content = read_content(run, last.sealed)
    content["edited"] = content["case"]["narrative"]["text"] = written
    digest = content_digest(content["case"], content["facts"], written)
    changed = replace(
        last,
        kind=AMENDMENT,
        digest=digest,
        sealed=seal_content(run, content),
        changed=("narrative",),
        basis="amendment",
    )
    entered = register.add(changed, actor=run.settings.who, run_id=run.run_id)
    if entered is None:
        raise TrialOpsError("The narrative says this already", where=case)
    run.audit("case.version", case, digest, reason=purpose, number=entered.version, kind=entered.kind)
    return entered


def prepare(run: Step, register: CaseRegister, study: StudyFile, case: str, *, purpose: str) -> Prepared:
    """Unblind one case's subject, judge the newest version with what they had, and seal the case that would go out.

    Args:
        run: The step; its role must be one that may unblind and report.
        register: Of the study.
        study: The study file.
        case: Case id.
        purpose: Why, in a sentence.

    Raises:
        TrialOpsError: The role may not, no purpose is stated, or the delivery the case was made of is gone.
    """
    authorise(run, "safety_reporting", purpose, subject=case)
    made = register.versions(case)[case]
    last, content = made[-1], read_content(run, made[-1].sealed)
    treatment = treatment_of(
        run, delivered(run, register.study, last.delivery), content["subject"], purpose=purpose, case=case
    )
    facts = replace(Facts(**content["facts"]), role=role_of(treatment, study))
    actions = register.actions(case).get(case, [])
    told = unblinded(Case.from_dict(content["case"]), treatment, study)
    rulings = {}
    for authority in authorities_of(study):
        reported = _reported(made, actions, authority)
        if last.kind == NULLIFICATION:
            facts = replace(facts, serious="not serious")
        rulings[str(authority)] = classify(replace(facts, reported=reported), authority)
    digest = document_digest(told.to_dict())
    key = _unblinded_key(digest)
    run.objects.put(key, run.vault.encrypt(PURPOSE, json.dumps(told.to_dict(), sort_keys=True).encode(), context=key))
    return Prepared(case, last.version, digest, rulings, told)


def settle(run: Step, register: CaseRegister, prepared: Prepared, *, signature: str, reason: str) -> dict[str, Action]:
    """Record what a signed case comes to: released to the authorities that must be told, decided for the others.

    Args:
        run: The step.
        register: Of the study.
        prepared: What was signed.
        signature: Id of the signature on its digest.
        reason: Why; nothing that tells a treatment.

    Returns:
        The action by authority.
    """
    done = {}
    for authority, ruling in prepared.rulings.items():
        detail = {"digest": prepared.digest, "signature": signature, "kind": ruling.kind}
        done[authority] = register.act(
            prepared.case,
            RELEASED if ruling.expedited else DECIDED,
            version=prepared.version,
            authority=authority,
            # The grounds may be what the subject had: they are in the sealed case, not here.
            reason=reason if ruling.expedited else "Decided by the safety physician after unblinding; grounds sealed",
            detail=detail,
            actor=run.settings.who,
            role=run.settings.role,
            run_id=run.run_id,
        )
    run.audit("case.settle", prepared.case, prepared.digest, reason=reason, signature=signature)
    return done


def released_cases(run: Step, register: CaseRegister, signatures: Signed, *, purpose: str) -> list[ReleasedCase]:
    """What waits to be handed over: released, not taken back, not sent, and signed by an approval that still holds.

    Args:
        run: The step; its role must be one that may send reports.
        register: Of the study.
        signatures: Of the database.
        purpose: Why, in a sentence.

    Raises:
        TrialOpsError: The role may not, or a release is not covered by a valid approval of exactly its content.
    """
    authorise(run, "safety_reporting", purpose)
    found = []
    for action in register.released():
        digest = str(action.detail["digest"])
        if not approvals_and_objections(signatures, KIND, f"{action.case}/{action.version}", digest).approved:
            raise TrialOpsError(
                "A release is not covered by an approval that holds: nothing is sent",
                where=f"{action.case}/{action.version}",
                fix="Release the case again; if it was signed, have the audit trail verified.",
            )
        key = _unblinded_key(digest)
        told = Case.from_dict(json.loads(run.vault.decrypt(run.objects.get(key), context=key)))
        if document_digest(told.to_dict()) != digest:
            raise TrialOpsError("A sealed case is not what was signed", where=f"{action.case}/{action.version}")
        kind = str(action.detail["kind"])
        found.append(ReleasedCase(action.case, action.version, action.authority, kind, digest, told))
    return found


def delivered(run: Step, study: str, source: str) -> TrialTables:
    """The delivery that a version was made of.

    Raises:
        TrialOpsError: It is not kept any more.
    """
    from trialops.regulatory.cut import make_cut
    from trialops.safety.case_run import delivery_key
    from trialops.stores.sealed import unseal, unseal_file

    try:
        document = json.loads(run.objects.get(delivery_key(source)))
    except KeyError:
        raise TrialOpsError(
            "The delivery this case was made of is not kept", where=source[:16], fix="Run adverse_event_monitoring."
        ) from None
    files = {
        label: unseal_file(digest, vault=run.vault, objects=run.objects)
        for label, digest in sorted(document.get("files", {}).items())
    }
    run.audit("data.unseal", "delivery", source, reason="The treatment of one subject")
    cut = make_cut(unseal(document, vault=run.vault, objects=run.objects), files)
    return TrialTables(study, cut.tables, source)


def _reported(versions: list[Version], actions: list[Action], authority: Authority) -> Any:
    """The gravest kind that a report to the authority has told; empty for none."""
    told = max((a.version for a in actions if a.action == "sent" and a.authority == authority), default=0)
    kinds = [str(v.rulings[authority]["kind"]) for v in versions if v.version <= told and v.rulings.get(authority)]
    return "grave" if "grave" in kinds else "serious" if "serious" in kinds else ""


def _unblinded_key(digest: str) -> str:
    return f"safety/unblinded/{digest}"
