"""KFP components: quality."""

from kfp.dsl import HTML, Dataset, Input, Output

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
