"""KFP components: intake."""

from kfp.dsl import HTML, Dataset, Output

from components.base import component


@component
def ingest_sdtm(source: str, raw: Output[Dataset], quarantine: Output[Dataset], report: Output[HTML]) -> int:
    """Read a delivery of SDTM XPORT files, with the corrections applied to it; keep it encrypted, count every row.

    Args:
        source: Folder with the .xpt files, or with sdtm/ below it; corrections below corrections/<YYYY-MM-DD>.
        raw: The tables as received, sealed by the vault.
        quarantine: Rows that cannot be used: reason, file, row; never their values.
        report: What was read, loaded, quarantined and ignored, file by file.

    Returns:
        Number of quarantined rows.
    """
    from pathlib import Path

    from trialops.intake.delivery import own_folder
    from trialops.intake.domains import file_labels
    from trialops.intake.page import intake_page
    from trialops.intake.sdtm import delivery_digest, read_folder
    from trialops.quality.correction.register import Register, is_applied, reading_digest, with_corrections
    from trialops.stores import step
    from trialops.stores.memo import recall, remember
    from trialops.stores.study import bind_study

    with step("ingest-sdtm", source=source) as run:
        outputs = {"raw": raw, "quarantine": quarantine, "report": report}
        register, folder = Register(run.vault, run.objects), own_folder(Path(source), "sdtm")
        digest = reading_digest(delivery_digest(folder), register.head())
        if not recall(run, digest, outputs):
            intake = with_corrections(read_folder(folder, progress=run.progress), register.entries())
            bind_study(run.objects, intake.study)
            received = [name for name in intake.dispositions["file"] if not is_applied(name)]
            labels = file_labels(received)
            run.seal(raw, intake.tables, files={labels[name]: folder / name for name in received})
            run.write_table(quarantine, intake.quarantine, table="quarantine/intake")
            rows = int(intake.dispositions["read"].sum())
            run.metrics |= {"rows_read": rows, "quarantined": intake.quarantine.height}
            run.show(report, intake_page(intake))
            remember(run, digest, outputs)
    return int(run.metrics["quarantined"])


@component
def ingest_hl7(
    source: str,
    raw: Output[Dataset],
    quarantine: Output[Dataset],
    unmatched: Output[Dataset],
    report: Output[HTML],
) -> int:
    """Read laboratory messages (HL7 v2 ORU^R01): files of a delivery, and what came over MLLP.

    Args:
        source: Folder with hl7/ below it (or the files themselves); subjects.csv and requisitions.csv may lie beside.
        raw: Results that count, shaped like SDTM LB, and who could not be matched; sealed by the vault.
        quarantine: Records that cannot be used: reason, file, message and segment; never their values.
        unmatched: Queue of identifiers that are no known subject's, under pseudonyms.
        report: What was read, loaded, quarantined and ignored, file by file.

    Returns:
        Number of quarantined records.
    """
    from pathlib import Path

    from trialops.intake import external, hl7_intake, lab_history
    from trialops.intake.hl7_orders import REQUISITIONS, read_requisitions
    from trialops.intake.hl7_page import lab_page
    from trialops.intake.lab_inbox import LabInbox
    from trialops.intake.subjects import known_subjects, remember_waiting
    from trialops.stores import step
    from trialops.stores.memo import recall, remember
    from trialops.stores.study import bound_study

    with step("ingest-hl7", source=source) as run:
        outputs = {"raw": raw, "quarantine": quarantine, "unmatched": unmatched, "report": report}
        folder = external.kind_folder(Path(source), "hl7")
        files = external.find_files(folder, "hl7", hl7_intake.SUFFIXES)
        inbox, subjects = LabInbox(run.vault, run.objects), known_subjects(run, folder)
        before, history = lab_history.earlier(run)
        study = bound_study(run.objects)
        facts = (subjects, external.delivery_digest(files, study))
        arrived = inbox.keys()
        if not recall(run, lab_history.made_from(*facts, history, arrived, folder / REQUISITIONS), outputs):
            intake = hl7_intake.ingest(
                files,
                inbox.messages(),
                subjects,
                study=study,
                before=before,
                requisitions=read_requisitions(folder / REQUISITIONS),
                progress=run.progress,
            )
            lab_history.release(run, intake, outputs, [f.path for f in files])
            remember_waiting(run, subjects)
            run.show(report, lab_page(intake))
            # Under the history as it is now: the same delivery again finds it so.
            history = lab_history.keep(run, intake.statements)
            remember(run, lab_history.made_from(*facts, history, arrived, folder / REQUISITIONS), outputs)
    return int(run.metrics["quarantined"])


@component
def ingest_fhir(
    source: str,
    raw: Output[Dataset],
    quarantine: Output[Dataset],
    report: Output[HTML],
    since: str = "",
    server: str = "",
) -> int:
    """Read FHIR R4 bundles, NDJSON and a server; merge with what is held, encrypted, and count every item.

    Args:
        source: Folder with bundles, NDJSON files or a bulk export, or with fhir/ below it; or the URL of a server.
        raw: Everything held now: current resources by type, sealed by the vault.
        quarantine: Items that cannot be used: reason, file, item; never their values.
        report: What was read, loaded, quarantined and ignored, document by document.
        since: For a server: FHIR instant to ask from; empty: where the last complete pull began; "all": everything.
        server: Base URL of a FHIR server that is asked too, with /$export at its end for a bulk export; a folder, which
            is then read instead; empty: FHIR_ENDPOINT where that is set; "none": no server.

    Returns:
        Number of quarantined items.
    """
    from trialops.intake.fhir_intake import ingest, made_from, open_zone, sources
    from trialops.intake.fhir_page import fhir_page
    from trialops.stores import step
    from trialops.stores.memo import recall, remember

    with step("ingest-fhir", source=source, since=since, server=server) as run:
        outputs = {"raw": raw, "quarantine": quarantine, "report": report}
        folder, url = sources(run, source, server)
        # A server is always asked; a folder is read only where it, or what is held, is other than the last time.
        alone = None if url else folder
        if alone is None or not recall(run, made_from(alone, open_zone(run).held()), outputs):
            done = ingest(run, folder, url, since)
            run.write_json(raw, done.held.document())
            run.audit("data.seal", "raw", done.held.digest, state=done.held.seq)
            run.write_table(quarantine, done.intake.quarantine, table="quarantine/fhir")
            counts = {name: done.intake.total(name) for name in ("read", "loaded", "quarantined", "ignored")}
            run.metrics |= {**counts, "deletions": done.intake.total("deletions"), "state": done.held.seq}
            run.show(report, fhir_page(done.intake, done.held, source=done.source, notes=done.notes))
            if alone is not None:
                # Under the state it led to: the same folder, looked at again, changes nothing.
                remember(run, made_from(alone, done.held), outputs)
    return int(run.metrics["quarantined"])


@component
def ingest_dicom(
    source: str,
    instances: Output[Dataset],
    quarantine: Output[Dataset],
    unmatched: Output[Dataset],
    report: Output[HTML],
    options: str = "",
) -> int:
    """Read images (DICOM), de-identify them by PS3.15 Annex E, and land them encrypted.

    Args:
        source: Folder with dicom/ below it (or the files themselves); subjects.csv may lie beside them.
        instances: One row per object: subject (pseudonym), study, series, modality, size, digest, where it lies.
        quarantine: Objects that cannot be used: reason and attribute; never a value.
        unmatched: Queue of identifiers that are no known subject's, under pseudonyms.
        report: What was read, de-identified, set aside and ignored.
        options: Options of the profile, comma-separated: clean_descriptors, patient_characteristics; where
            HIPAA_COMPLIANCE_MODE is limited also device_identity, institution_identity.

    Returns:
        Number of objects set aside.
    """
    from pathlib import Path

    from trialops.intake import dicom_intake, external
    from trialops.intake.dicom_page import dicom_page
    from trialops.intake.subjects import known_subjects, remember_waiting
    from trialops.privacy.dicom_deidentify import Treatment
    from trialops.stores import step
    from trialops.stores.memo import recall, remember

    with step("ingest-dicom", source=source, options=options) as run:
        outputs = {"instances": instances, "quarantine": quarantine, "unmatched": unmatched, "report": report}
        folder = external.kind_folder(Path(source), "dicom")
        files = external.find_files(folder, "dicom", skip=external.TABLES)
        mode = "limited" if run.settings.hipaa_compliance_mode == "limited" else "strict"
        treatment = Treatment(mode, frozenset(name.strip() for name in options.split(",") if name.strip()))
        subjects, before = known_subjects(run, folder), run.read_latest("imaging/instances")
        facts = (subjects.fingerprint(), dicom_intake.fingerprint(treatment))
        held = dicom_intake.digest_of(before)
        if not recall(run, external.delivery_digest(files, *facts, held), outputs):
            intake = dicom_intake.ingest(
                files, subjects, run.vault, run.objects, treatment, before=before, progress=run.progress
            )
            external.keep_files(run, files)
            remember_waiting(run, subjects)
            run.write_table(instances, intake.instances, table="imaging/instances")
            run.write_table(quarantine, intake.quarantine, table="quarantine/imaging")
            run.write_table(unmatched, intake.unmatched, table="imaging/unmatched")
            run.metrics |= {
                "files_read": len(files),
                "landed": intake.landed.height,
                "quarantined": intake.quarantine.height,
            }
            run.show(report, dicom_page(intake, treatment))
            # Under what is held now: the same delivery again finds it so.
            held = dicom_intake.digest_of(intake.instances)
            remember(run, external.delivery_digest(files, *facts, held), outputs)
    return int(run.metrics["quarantined"])


@component
def ingest_vcf(
    source: str,
    variants: Output[Dataset],
    quarantine: Output[Dataset],
    unmatched: Output[Dataset],
    report: Output[HTML],
    build: str = "GRCh38",
    split_alleles: bool = False,
) -> int:
    """Read genomes (VCF 4.1 to 4.4), check them, and land them encrypted in the controlled tier.

    Args:
        source: Folder with vcf/ below it (or the files themselves); subjects.csv may lie beside them.
        variants: Files and samples that landed, under pseudonyms; the genotypes lie encrypted in the object store.
        quarantine: Lines and files that cannot be used: reason, file, line; never a value.
        unmatched: Queue of sample names that are no known subject's, under pseudonyms.
        report: What was read, changed, set aside, and whether genomes fit their subjects.
        build: GRCh37 or GRCh38; a file of another build is refused.
        split_alleles: Whether a row with several alternate alleles becomes one row for each.

    Returns:
        Number of records set aside.
    """
    from pathlib import Path

    from trialops.intake import external, vcf_intake
    from trialops.intake.subjects import known_subjects, remember_waiting
    from trialops.intake.vcf_page import vcf_page
    from trialops.stores import step
    from trialops.stores.memo import recall, remember

    with step("ingest-vcf", source=source, build=build, split_alleles=split_alleles) as run:
        outputs = {"variants": variants, "quarantine": quarantine, "unmatched": unmatched, "report": report}
        folder = external.kind_folder(Path(source), "vcf")
        files = external.find_files(folder, "vcf", vcf_intake.SUFFIXES)
        subjects = known_subjects(run, folder)
        before = (run.read_latest("controlled/files"), run.read_latest("controlled/samples"))
        facts = (subjects.fingerprint(), build, str(split_alleles))
        held = vcf_intake.digest_of(before[0])
        if not recall(run, external.delivery_digest(files, *facts, held), outputs):
            intake = vcf_intake.ingest(
                files,
                subjects,
                run.vault,
                run.objects,
                run.workdir,
                build=build,
                one_allele=split_alleles,
                before=before,
                progress=run.progress,
            )
            for file in files:
                vcf_intake.store(file.path, run.vault, run.objects, f"raw/{run.vault.id}/vcf", "raw")
            remember_waiting(run, subjects)
            run.write(variants, {"files": intake.files, "samples": intake.samples}, zone="controlled")
            run.write_table(quarantine, intake.quarantine, table="quarantine/genomes")
            run.write_table(unmatched, intake.unmatched, table="controlled/unmatched")
            run.metrics |= {
                "files_read": len(files),
                "variants": int(intake.files["WRITTEN"].sum()),
                "quarantined": int(intake.dispositions["quarantined"].sum()),
            }
            run.show(report, vcf_page(intake, build))
            # Under what is held now: the same delivery again finds it so.
            held = vcf_intake.digest_of(intake.files)
            remember(run, external.delivery_digest(files, *facts, held), outputs)
    return int(run.metrics["quarantined"])


@component
def find_delivery(source: str, kind: str, server: str = "") -> str:
    """Whether a delivery holds a kind of data.

    Args:
        source: Folder of the delivery.
        kind: sdtm, fhir or hl7.
        server: For fhir: base URL of a server, or a folder named apart; empty: FHIR_ENDPOINT where that is set; "none":
            no server.

    Returns:
        "yes" or "no".
    """
    from pathlib import Path

    from trialops.intake.delivery import find_kind
    from trialops.stores import step

    with step(f"find-{kind}", source=source, server=server) as run:
        there = find_kind(Path(source), kind) is not None
        if kind == "fhir" and server != "none":
            there = there or bool(server or run.settings.fhir_endpoint)
        run.metrics |= {"found": there}
    return "yes" if there else "no"
