"""KFP components: standards."""

from kfp.dsl import HTML, Dataset, Input, Output

from components.base import component


@component
def code_terms(
    clean: Input[Dataset],
    coded: Output[Dataset],
    review: Output[Dataset],
    report: Output[HTML],
    vocabulary: str = "",
) -> int:
    """Code conditions, laboratory tests, adverse events and medications; give findings their standard units.

    Args:
        clean: De-identified tables: SDTM domains, FHIR resources, or both.
        coded: ``terms`` (one row per distinct text: status, code, candidates, reason), and LB and VS with standard
            results.
        review: Items that wait for a person.
        report: What was coded, what waits, what stays uncoded and why.
        vocabulary: Folder with LOINC, ICD-10-CM order files, MedDRA, WHODrug; by default what was imported with
            ``trialops coding import-...``, and without that what ships with the project.

    Returns:
        Number of items waiting for a person.
    """
    from trialops.standards.coding_run import code_tables, waiting_table
    from trialops.stores import step

    with step("code-terms", vocabulary=vocabulary) as run:
        result = code_tables(run, run.read(clean), vocabulary)
        run.write(coded, {"terms": result.coded.table(), **result.units}, zone="coded")
        run.write_table(review, waiting_table(result.waiting), table="coded/review")
        run.metrics |= {"waiting": len(result.waiting), "texts": len(result.coded.codings)}
        run.show(report, result.page)
    return len(result.waiting)
