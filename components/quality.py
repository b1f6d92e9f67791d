"""KFP components: quality."""

from kfp.dsl import HTML, Artifact, Dataset, Input, Output

from components.base import component


@component
def quality_gate(
    clean: Input[Dataset],
    validated: Output[Dataset],
    queries: Output[Dataset],
    report: Output[HTML],
    dataset: str = "clean",
) -> str:
    """Judge the clean tables; pass them on, or fall back to the last validated version.

    Args:
        clean: De-identified tables.
        validated: The tables later steps use: these, or on failure those of the last validated version.
        queries: Questions to the sites, one per row concerned.
        report: Score, rules and findings.
        dataset: Name of the chain of validated versions.

    Returns:
        "pass", or "fallback" when an earlier version is used instead.
    """
    from trialops.quality.engine import ClinicalDataValidatorOperator, no_queries
    from trialops.quality.gate import apply_gate, fall_back
    from trialops.quality.page import damaged_page, quality_page
    from trialops.stores import step
    from trialops.stores.lake import IntegrityError

    with step("quality-gate", dataset=dataset) as run:
        try:
            tables = run.read(clean)
        except IntegrityError as error:
            decision = fall_back(
                run, dataset, error.what, fix=error.fix, numbers={"damaged": error.where}, policy={"gate": "integrity"}
            )
            run.write_table(queries, no_queries(), table="quality/queries")
            run.show(report, damaged_page(error.what, error.where))
        else:
            result = ClinicalDataValidatorOperator().run(tables)
            run.write_table(queries, result.queries, table="quality/queries")
            run.metrics |= {"score": round(result.score, 2), "queries": result.queries.height}
            run.show(report, quality_page(result))
            decision = apply_gate(run, run.reference(clean), result, dataset)
        run.write_reference(validated, decision.snapshot)
    return decision.outcome


@component
def validate_data(
    raw: Input[Dataset],
    clean: Input[Dataset],
    results: Output[Dataset],
    findings: Output[Dataset],
    report: Output[HTML],
    mode: str = "report",
    dataset: str = "clean",
) -> float:
    """Judge everything the trial has: SDTM as received and clean, and the newest FHIR and OMOP tables.

    Args:
        raw: Sealed tables of the SDTM intake.
        clean: De-identified SDTM tables.
        results: One line per rule.
        findings: Questions to the sites, one per row, site or subject concerned; queries are opened and closed by them.
        report: The score and how it came about, rules, anomalies, queries.
        mode: What a failed gate does: report, block or fallback.
        dataset: Name of the chain of validated versions.

    Returns:
        The score, 0 to 100.
    """
    from functools import partial

    from trialops.quality.gate import apply_gate
    from trialops.quality.page import quality_page
    from trialops.quality.validation import keep_queries, latest_fhir, latest_omop, validate
    from trialops.stores import step
    from trialops.stores.study import bound_study

    with step("validate-data", mode=mode, dataset=dataset) as run:
        result = validate(
            run.read(clean),
            received=run.unseal(raw),
            omop=latest_omop(run),
            fhir=latest_fhir(run),
            pseudonyms=partial(run.vault.pseudonyms, "subject"),
            progress=run.progress,
        )
        run.write_table(results, result.results, table="quality/results")
        run.write_table(findings, result.queries, table="quality/findings")
        queries, note = keep_queries(run, result, bound_study(run.objects))
        run.metrics |= {"score": round(result.score, 2), "findings": result.queries.height}
        run.show(report, quality_page(result, queries, note))
        apply_gate(run, run.reference(clean), result, dataset, mode)
    return float(result.score)


@component
def propose_corrections(
    raw: Input[Dataset],
    proposal: Output[Artifact],
    rejected: Output[Dataset],
    report: Output[HTML],
    corrections: str,
) -> int:
    """Check a correction file against the records as they are, and show what it would change.

    Args:
        raw: Sealed tables of an intake, corrections applied so far among them.
        proposal: Names the accepted changes, which are kept encrypted.
        rejected: Lines set aside: reason, file, line.
        report: What would change, by domain and variable.
        corrections: CSV file, or folder of them: DOMAIN, USUBJID, RECORD, VARIABLE, OLD, NEW, REASON, BY, AT.

    Returns:
        Number of values that would change.
    """
    from datetime import UTC, datetime
    from pathlib import Path

    from trialops.quality.correction.file import read_corrections
    from trialops.quality.correction.page import proposal_page
    from trialops.quality.correction.propose import propose
    from trialops.quality.correction.register import keep_proposal
    from trialops.stores import step

    with step("propose-corrections") as run:
        received = read_corrections(Path(corrections))
        found = propose(run.unseal(raw), received, today=datetime.now(UTC).date())
        run.write_json(proposal, keep_proposal(found, run.vault, run.objects))
        run.write_table(rejected, found.rejected, table="quarantine/corrections")
        run.metrics |= {"lines": found.read, "changes": len(found.changes), "rejected": found.rejected.height}
        run.show(report, proposal_page(found))
    return len(found.changes)


@component
def decide_corrections(
    proposal: Input[Artifact], report: Output[HTML], apply: bool = False, dataset: str = "clean"
) -> str:
    """Decide whether the proposal may be applied: dry run, data lock, signatures.

    Args:
        proposal: The accepted changes.
        report: The decision with its numbers.
        apply: Whether to apply it, or only to show it.
        dataset: Name of the chain of validated versions, whose locks count.

    Returns:
        "apply", "hold", "dry run" or "nothing".
    """
    from trialops.governance.approval import approvals_and_objections
    from trialops.governance.signatures import Signatures
    from trialops.quality.correction.authorise import KIND, authorise
    from trialops.quality.correction.lock import Locks
    from trialops.quality.correction.page import decision_page
    from trialops.quality.correction.propose import policy
    from trialops.quality.correction.register import kept_proposal
    from trialops.stores import step

    with step("decide-corrections", apply=apply, dataset=dataset) as run:
        document = run.read_json(proposal)
        found = kept_proposal(document, run.vault, run.objects)
        standing = approvals_and_objections(Signatures(run.engine, run.vault), KIND, found.digest, found.digest)
        locked = Locks(run.objects, dataset).locked()
        made = authorise(found, apply=apply, locked=locked, standing=standing)
        rules = policy()
        run.decide(
            made.decision,
            numbers={**made.numbers, "rejected": document["rejected"], "already": document["already"]},
            policy={"corrections": rules["version"], "signatures": str(rules["signatures"]), "why": made.why},
        )
        run.metrics |= {"decision": made.decision, "proposal": found.digest}
        run.show(report, decision_page(made))
    return made.decision


@component
def apply_corrections(
    raw: Input[Dataset],
    proposal: Input[Artifact],
    corrected: Output[Dataset],
    validated: Output[Dataset],
    features: Output[Dataset],
    report: Output[HTML],
    decision: str,
    dataset: str = "clean",
) -> int:
    """Enter the corrections in the register and make anew what depends on the subjects concerned.

    Args:
        raw: Sealed tables of an intake that consent permits, before these corrections.
        proposal: The accepted changes.
        corrected: The sealed tables with them.
        validated: The clean tables in force afterwards.
        features: The feature views in force afterwards.
        report: What was made anew, and what is outdated.
        decision: What was decided; anything but "apply" leaves everything as it is.
        dataset: Name of the chain of validated versions.

    Returns:
        Number of subjects whose data were made anew.
    """
    from trialops.quality.correction.apply import apply_proposal, leave
    from trialops.stores import step

    with step("apply-corrections", decision=decision, dataset=dataset) as run:
        outputs = {"corrected": corrected, "validated": validated, "features": features, "report": report}
        if decision == "apply":
            apply_proposal(run, raw, run.read_json(proposal), dataset, outputs)
        else:
            leave(run, raw, decision, dataset, outputs)
    return int(run.metrics["subjects"])
