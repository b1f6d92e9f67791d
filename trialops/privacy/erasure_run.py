"""The open requests of data subjects as a step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError
from trialops.privacy import certificate, requests
from trialops.privacy.erasure import Erasure, Stores, carry_out
from trialops.privacy.operations_page import erasure_page

if TYPE_CHECKING:
    from trialops.pages import Page
    from trialops.stores.context import Step


@dataclass(frozen=True)
class ErasureRun:
    """Counts, the certificates, and the page."""

    executed: int
    open: int
    document: dict[str, Any]
    page: Page


def _online(run: Step) -> str:
    """URL of the online feature store; "" where the settings name none that materialisation would write to."""
    try:
        return run.settings.online
    except TrialOpsError:
        return ""


def run_erasures(run: Step, *, rotate_master: bool = False) -> ErasureRun:
    """Carry out every open request, oldest first; one that a legal hold keeps stays open."""
    home = run.settings.home.resolve()
    stores = Stores(run.lake, run.objects, run.engine, run.vault, (home / "work", home / "features"), _online(run))
    waiting = [e for e in requests.open_requests(run.engine) if e.study == run.vault.study]
    done: list[Erasure] = []
    for i, event in enumerate(waiting):
        run.progress(f"request {i + 1} of {len(waiting)}", i / len(waiting))
        who = run.settings.who
        if event.kind == "restriction":
            requests.append(
                run.engine,
                event.request,
                "restricted",
                event.kind,
                event.study,
                event.subject,
                actor=who,
                reason="restriction requested, Art. 18 GDPR",
            )
            continue
        done.append(
            carry_out(
                event, stores, actor=who, run_id=run.run_id, rotate_master=rotate_master and i == len(waiting) - 1
            )
        )
    executed = [one for one in done if one.outcome == "executed"]
    digests = {one.certificate for one in executed}
    signed = [c for c in certificate.stored(run.objects) if c["digest"] in digests]
    left = len(requests.open_requests(run.engine))
    return ErasureRun(len(executed), left, {"certificates": signed}, erasure_page(done, left))
