"""The step that shares with a partner: from validated, de-identified tables to a registered, encrypted package."""

from __future__ import annotations

import datetime as dt
import hashlib
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError
from trialops.privacy.sharing_agreement import Agreement, load_agreement, require_current
from trialops.privacy.sharing_package import archive, seal_package
from trialops.privacy.sharing_register import Share, ShareRegister
from trialops.privacy.sharing_release import Release, prepare
from trialops.privacy.sharing_trace import Trace, trace
from trialops.stores.refs import Snapshot

if TYPE_CHECKING:
    import polars as pl

    from trialops.pages import Page
    from trialops.stores.context import Step

SUFFIX = ".share"


@dataclass(frozen=True)
class Shared:
    """What a recipient gets: name of the package, its bytes, and a page."""

    share: str
    package: bytes
    page: Page
    new: bool


def register_of(run: Step) -> ShareRegister:
    """The register of this installation."""
    return ShareRegister(run.engine, run.vault, run.objects, run.settings.who)


def share(run: Step, agreement_file: Path, dataset: str, *, today: dt.date) -> Shared:
    """Make, encrypt and register a package under an agreement.

    The same data under the same agreement are one package: sharing again gives it out again.

    Args:
        run: The step.
        agreement_file: YAML of the agreement.
        dataset: Chain of validated versions to share from.
        today: Day on which the agreement must be valid.

    Raises:
        TrialOpsError: The agreement has faults or ended, k cannot be reached, there are no validated tables, or the
            package was revoked.
    """
    from trialops.privacy.sharing_page import sharing_page

    agreement = _agreement(agreement_file)
    require_current(agreement, today)
    register = register_of(run)
    register.expire(today)
    manifest = run.lake.last_validated(dataset)
    if manifest is None:
        raise TrialOpsError(
            "There are no validated tables to share",
            where=f"data set {dataset}",
            fix="Run pipeline data_pipeline first.",
        )
    wanted = {n: r for n, r in manifest.snapshot.tables.items() if n.upper() in agreement.tables}
    snapshot = Snapshot(wanted)
    release = prepare(run.read_snapshot(f"validated/{dataset}", snapshot), agreement, run.vault)
    run.decide("pass", numbers=release.coarse.judgement.numbers(), policy=release.policy)
    content = archive(contents(release, agreement, run.settings.study))
    digest = hashlib.sha256(content).hexdigest()
    name = f"{agreement.id}-{digest[:8]}"
    known = next((s for s in register.shares() if s.share == name), None)
    if known is not None:
        if known.state != "active":
            raise TrialOpsError(
                f"These data were shared under this agreement before, and the package is {known.state}",
                where=f"share {name}",
                fix="Conclude a new agreement under another id.",
            )
        return Shared(name, register.package(name), sharing_page(agreement, release, name, known), new=False)
    facts = {
        "format": "trialops-share/1",
        "agreement": agreement.id,
        "recipient": agreement.recipient,
        "purpose": agreement.purpose,
        "expires": agreement.expires.isoformat(),
    }
    package = seal_package(content, name, facts, run.vault)
    detail = {
        "content": digest,
        "package": hashlib.sha256(package.data).hexdigest(),
        "agreement_digest": agreement.digest,
        "agreement_text": agreement_file.read_text("utf-8"),
        "snapshot": snapshot.as_dict(),
        "k": release.policy["k"],
        "rows": {n: f.height for n, f in release.tables.items()},
    }
    register.issue(name, agreement, package.data, package.key, detail, run_id=run.run_id)
    issued = register.find(name)
    return Shared(name, package.data, sharing_page(agreement, release, name, issued), new=True)


def _agreement(path: Path) -> Agreement:
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        raise TrialOpsError(
            "The agreement cannot be read", where=str(path) or "agreement", fix="Give --set agreement=FILE."
        ) from None
    return load_agreement(text, path.name)


def contents(release: Release, agreement: Agreement, study: str) -> dict[str, bytes]:
    """Files of a package: tables as CSV, their manifest, the summary, and the terms the recipient agreed to."""
    files = {f"data/{name.lower()}.csv": _csv(frame) for name, frame in release.tables.items()}
    files["summary.csv"] = _csv(release.summary)
    tables = {
        name: {
            "file": f"data/{name.lower()}.csv",
            "rows": frame.height,
            "columns": [{"name": c, "type": str(kind)} for c, kind in frame.schema.items()],
            "sha256": hashlib.sha256(files[f"data/{name.lower()}.csv"]).hexdigest(),
        }
        for name, frame in release.tables.items()
    }
    document: dict[str, Any] = {
        "study": study,
        "agreement": agreement.id,
        "recipient": agreement.recipient,
        "contact": agreement.contact,
        "purpose": agreement.purpose,
        "legal_basis": agreement.legal_basis,
        "expires": agreement.expires.isoformat(),
        "k": release.policy["k"],
        "made_coarser": [list(step[:2]) for step in release.coarse.steps],
        "replaced_by_other": sorted(release.replaced),
        "tables": tables,
    }
    files["manifest.json"] = (json.dumps(document, indent=1, sort_keys=True) + "\n").encode()
    files["README.txt"] = _readme(agreement, document).encode()
    return files


def _csv(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.write_csv(buffer)
    return buffer.getvalue()


def _readme(agreement: Agreement, document: dict[str, Any]) -> str:
    coarser = "; ".join(f"{column}: {how}" for column, how in document["made_coarser"]) or "nothing"
    return "\n".join(
        [
            f"Data for {agreement.recipient} under agreement {agreement.id}.",
            f"Purpose: {agreement.purpose}",
            f"Legal basis: {agreement.legal_basis}",
            f"Last day of use: {agreement.expires.isoformat()}. Contact: {agreement.contact}",
            "",
            f"At least {document['k']} subjects share every combination of the quasi-identifiers.",
            f"Made coarser: {coarser}.",
            "Values of fewer subjects than that are OTHER in: "
            + (", ".join(document["replaced_by_other"]) or "no column"),
            "Empty counts in summary.csv are small cells.",
            "Identifiers and the order of rows are this recipient's alone: a copy can be traced to it.",
            "",
        ]
    )


def trace_copy(run: Step, leaked: pl.DataFrame, table: str) -> list[Trace]:
    """Compare a leaked table with every package ever issued, each made again from the data it was made of.

    Args:
        run: Gives lake, vault and register.
        leaked: The table as found.
        table: Which shared table it is (AE).

    Raises:
        TrialOpsError: No package holds that table.
    """
    releases = {}
    for item in register_of(run).shares():
        agreement = load_agreement(item.detail["agreement_text"], item.agreement)
        if table.upper() in agreement.tables:
            releases[item.share] = _again(run, item, agreement).tables[table.upper()]
    if not releases:
        raise TrialOpsError(f"No package holds a table {table.upper()}", where="register", fix="Name another table.")
    return trace(leaked, releases)


def _again(run: Step, item: Share, agreement: Agreement) -> Release:
    snapshot = Snapshot.from_dict(item.detail["snapshot"])
    return prepare(run.read_snapshot(f"share/{item.share}", snapshot), agreement, run.vault)
