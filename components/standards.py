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


@component
def standardize(
    omop: Output[Dataset],
    outcomes: Output[Dataset],
    report: Output[HTML],
    clean: Input[Dataset] = None,
    clean_fhir: Input[Dataset] = None,
    coded: Input[Dataset] = None,
    vocabulary: str = "",
) -> int:
    """Map clean SDTM tables, clean FHIR resources, or both to OMOP CDM 5.4.

    Args:
        omop: The OMOP tables, with provenance and an index for the next, incremental load.
        outcomes: What was not loaded, one by one, with the reason.
        report: Dispositions, mapping rates, codes without a concept.
        clean: De-identified SDTM tables.
        clean_fhir: De-identified FHIR resources.
        coded: Result of coding: terms with their codes.
        vocabulary: Folder with an Athena vocabulary download; empty: every code is concept 0.

    Returns:
        Rows of the event tables without a standard concept.
    """
    from trialops.standards import omop_run
    from trialops.standards.omop_page import omop_page
    from trialops.standards.transformer import FHIRTransformerOperator
    from trialops.stores import step

    with step("standardize", vocabulary=vocabulary) as run:
        words = omop_run.vocabulary_of(run, vocabulary)
        fhir = run.read(clean_fhir) if clean_fhir else None
        sdtm = run.read(clean) if clean else None
        result = FHIRTransformerOperator(words, texts=True).run(
            fhir,
            sdtm,
            terms=run.read(coded)["terms"] if coded else None,
            previous=None if sdtm else omop_run.last(run),
            progress=run.progress,
        )
        omop_run.keep(run, omop, result)
        run.write_table(outcomes, result.made.outcomes, table="quarantine/omop")
        unmapped = result.made.unmapped_rows()
        run.metrics |= {"persons": result.made.tables["person"].height, "unmapped": unmapped, "changed": result.changed}
        run.show(report, omop_page(result, words))
    return unmapped


@component
def omop_to_fhir(omop: Input[Dataset], resources: Output[Dataset], report: Output[HTML]) -> int:
    """Turn OMOP tables back into FHIR R4 resources and check each.

    Args:
        omop: Tables of the standardize step.
        resources: The resources, one table per type.
        report: Resources by type, and what is invalid.

    Returns:
        Number of invalid resources.
    """
    from trialops.standards import omop_run
    from trialops.standards.omop_back import back_to_fhir
    from trialops.standards.omop_page import returned_page
    from trialops.stores import step

    with step("omop-to-fhir") as run:
        back = back_to_fhir(omop_run.kept(run, run.reference(omop)), progress=run.progress)
        run.write(resources, back.tables, zone="omop_fhir")
        run.metrics |= {"resources": sum(row[1] for row in back.counts), "invalid": back.invalid}
        run.show(report, returned_page(back))
    return back.invalid
