"""A home with a case register in which a safety physician has released cases, by signature."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from tests.support.e2b_messages import change, full
from trialops.governance.approval import APPROVED
from trialops.governance.signatures import Signatures
from trialops.safety.case import Case
from trialops.safety.e2b.mapping import case_of
from trialops.safety.register import CaseRegister
from trialops.safety.register_records import INITIAL, RELEASED, Version
from trialops.safety.release import KIND, PURPOSE, _unblinded_key
from trialops.stores.context import Step
from trialops.stores.digest import document_digest
from trialops.stores.study import bind_study

STUDY = "TRIALOPS01"
PASSPHRASE = "a long enough passphrase"


def told_case(case_id: str, **report: Any) -> Case:
    """A case as it may go out, under a case id."""
    told = case_of(change(full(), ("drop", "C.1.11.1", "C.1.11.2"), ("set", "FDA.C.5.5a", "999999")))
    fields = {"safety_report_id": case_id, "worldwide_id": case_id, **report}
    return replace(told, report=replace(told.report, **fields))


class Registered:
    """Cases of a home."""

    def __init__(self, run: Step) -> None:
        bind_study(run.objects, STUDY)
        self.run, self.register = run, CaseRegister(run.engine, STUDY)
        self.signing = Signatures(run.engine, run.vault, cost=2**4)
        self.signing.enrol("doc", "Dora Doc", PASSPHRASE)

    def version(
        self, event: str = "e1", aware: str = "2026-01-02T10:00:00.000000Z", digest: str = ""
    ) -> tuple[str, int]:
        """Open the case of an event where there is none, and enter a version due in 15 days."""
        case = self.register.open_case(event, country="US", sender="SPONSOR", subject="P1", actor="t")
        number = len(self.register.versions(case)[case]) + 1
        ruling = {
            "authority": "FDA",
            "rule": "SUSAR",
            "kind": "serious",
            "reason": "r",
            "citation": "c",
            "unblind": True,
        }
        self.register.add(
            Version(
                case, 0, INITIAL if number == 1 else "follow-up", digest or f"{event}{number}", "sealed", aware,
                "received", (), {}, {"FDA": ruling}, "policy", "delivery",
            ),
            actor="t",
        )  # fmt: skip
        return case, number

    def release(self, case: str, number: int, told: Case | None = None, authority: str = "FDA") -> str:
        """Release a version with a signature; returns the digest of the case that goes out."""
        told = told or told_case(case)
        digest = document_digest(told.to_dict())
        key = _unblinded_key(digest)
        data = json.dumps(told.to_dict(), sort_keys=True).encode()
        self.run.objects.put(key, self.run.vault.encrypt(PURPOSE, data, context=key))
        signature = self.signing.sign(
            user="doc", passphrase=PASSPHRASE, meaning=APPROVED, kind=KIND, record=f"{case}/{number}", digest=digest,
            reason="Reviewed and complete",
        )  # fmt: skip
        self.register.act(
            case, RELEASED, version=number, authority=authority, reason="To be reported", actor="doc",
            detail={"digest": digest, "signature": signature.id, "kind": "serious"},
        )  # fmt: skip
        return digest
