"""Apply a proposal: register, corrected tables, what depends on them, quality gate."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError
from trialops.quality.correction.authorise import KIND
from trialops.quality.correction.page import reprocessed_page, unchanged_page
from trialops.quality.correction.register import Register, corrected, kept_proposal
from trialops.quality.correction.reprocess import reprocess
from trialops.stores.refs import Snapshot

if TYPE_CHECKING:
    import polars as pl

    from trialops.privacy.report import Deidentified
    from trialops.stores.context import Artifact, Step


def apply_proposal(
    run: Step, raw: Artifact, document: Mapping[str, Any], dataset: str, outputs: Mapping[str, Artifact]
) -> None:
    """Apply what was decided to be applied; running it again leaves what one run leaves.

    Args:
        run: The step.
        raw: Sealed tables before the corrections.
        document: Names the proposal.
        dataset: Name of the chain of validated versions.
        outputs: corrected, validated, features, report.

    Raises:
        TrialOpsError: The data set has no validated version yet, or the gate fails and none can be fallen back to.
    """
    from trialops.governance.approval import approvals_and_objections
    from trialops.governance.signatures import Signatures
    from trialops.privacy.consent import consent_policy
    from trialops.privacy.consent_check import check, day
    from trialops.privacy.deidentify import HIPAAComplianceOperator
    from trialops.quality.engine import ClinicalDataValidatorOperator
    from trialops.quality.gate import apply_gate

    base = run.lake.last_validated(dataset)
    if base is None:
        raise TrialOpsError(
            "There is nothing to correct yet: the data set has no validated version",
            where=f"data set {dataset}",
            fix="Run data_pipeline on the delivery first.",
        )
    proposal = kept_proposal(document, run.vault, run.objects)
    standing = approvals_and_objections(Signatures(run.engine, run.vault), KIND, proposal.digest, proposal.digest)
    tables = run.unseal(raw)
    made_from = str(run.inputs[-1]["digest"])
    signatures = [s.id for s in standing.approvals]
    entry = Register(run.vault, run.objects).apply(proposal, actor=run.settings.who, signatures=signatures)
    run.audit(
        "data.correct",
        dataset,
        proposal.digest,
        reason=f"{len(proposal.changes)} values, entry {entry.sequence} of the register",
        signatures=signatures,
        domains=", ".join(proposal.domains),
    )
    after, _ = corrected(tables, [entry])
    # The evidence of consent may be what was corrected.
    after = dict(check(after, purpose=consent_policy().content["trial"]["purpose"], at=day("")).tables)
    run.seal(outputs["corrected"], after)
    mode = run.settings.hipaa_compliance_mode

    def deidentified(only: Collection[str] | None, before: Mapping[str, pl.DataFrame] | None) -> Deidentified:
        result = HIPAAComplianceOperator().run(
            after,
            mode,
            run.vault,
            synthetic=mode == "off",
            only=only,
            before=None if before is None else dict(before),
        )
        for kind, link in result.links.items():
            run.vault.remember(kind, dict(link.select("raw", "pseudonym").iter_rows()), engine=run.engine)
        return result

    done = reprocess(run, after, proposal.subjects, base, made_from, deidentified)
    run.progress("judging the quality", 0.8)
    report = ClinicalDataValidatorOperator().run(dict(done.clean_tables))
    run.write_named("quality/queries", report.queries)
    gate = apply_gate(run, done.clean, report, dataset)
    run.write_reference(outputs["validated"], gate.snapshot)
    run.write_reference(outputs["features"], done.features or Snapshot({}))
    for run_id, name, _ in done.outdated:
        run.audit("alert.outdated", f"{run_id}/{name}", proposal.digest, reason="made from data corrected since")
    run.metrics |= {
        "subjects": len(done.subjects) if not done.full else done.of,
        "of": done.of,
        "tables_changed": sum(t.changed for t in done.tables),
        "tables": len(done.tables),
        "outdated": len(done.outdated),
    }
    run.show(outputs["report"], reprocessed_page(done, gate.outcome))


def leave(run: Step, raw: Artifact, decision: str, dataset: str, outputs: Mapping[str, Artifact]) -> None:
    """Change nothing; the outputs name what is in force."""
    base = run.lake.last_validated(dataset)
    for name in ("validated", "features"):
        run.write_reference(outputs[name], base.snapshot if base and name == "validated" else Snapshot({}))
    Path(outputs["corrected"].path).parent.mkdir(parents=True, exist_ok=True)
    Path(outputs["corrected"].path).write_bytes(Path(raw.path).read_bytes())
    outputs["corrected"].metadata.update(raw.metadata)
    run.metrics |= {"subjects": 0}
    run.show(outputs["report"], unchanged_page(decision))
