"""KFP components: regulatory."""

from kfp.dsl import HTML, Artifact, Dataset, Input, Output

from components.base import component


@component
def admit_export(what: str, purpose: str) -> str:
    """Refuse an export before anything is read: kind, role and purpose.

    Args:
        what: submission, research or partner.
        purpose: Why, in a sentence; it goes into the audit trail. The role in TRIALOPS_ROLE must be one that may.

    Returns:
        What is exported.
    """
    from trialops.regulatory.access import admit
    from trialops.stores import step

    with step("admit-export", what=what, purpose=purpose) as run:
        admit(run, what, purpose)
    return what


@component
def export_submission(
    raw: Input[Dataset],
    quarantine: Input[Dataset],
    manifest: Output[Artifact],
    report: Output[HTML],
    target: str,
    purpose: str,
    stamp: str = "",
    study_metadata: str = "",
) -> str:
    """Write a submission package: XPORT v5, Define-XML 2.1, Dataset-JSON 1.1, reviewer's guide, checksums.

    Args:
        raw: Sealed delivery: the package carries real dates and USUBJID.
        quarantine: Rows the intake set aside, for the reviewer's guide.
        manifest: Files of the package with their digests; no subject data.
        report: What was written, and the rules that do not hold.
        target: Folder to write, outside the platform's home.
        purpose: Why, in a sentence; it goes into the audit trail. The role in TRIALOPS_ROLE must be one that may.
        stamp: Time stamped into the documents, ISO 8601; midnight UTC of today by default.
        study_metadata: YAML file with description, protocol and versions of the standards.

    Returns:
        SHA-256 of the manifest.
    """
    from trialops.regulatory.submit import submit
    from trialops.stores import step

    with step("export-submission", target=target, purpose=purpose, stamp=stamp) as run:
        done = submit(
            run,
            raw,
            run.read_table(quarantine),
            target=target,
            purpose=purpose,
            stamp=stamp,
            study_metadata=study_metadata,
        )
        run.write_json(manifest, done.manifest)
        run.metrics |= {"files": len(done.manifest["files"]), "findings": done.findings, "manifest": done.digest}
        run.show(report, done.page)
    return done.digest


@component
def export_research_database(
    evidence: Output[Artifact],
    report: Output[HTML],
    target: str,
    purpose: str,
    schema: str = "",
    replace: bool = False,
) -> int:
    """Load the newest kept OMOP tables into a database over SQLAlchemy, all or nothing, and compare what arrived.

    Args:
        evidence: Rows and digests sent and found, by table.
        report: The same for a person.
        target: SQLAlchemy URL of SQLite, DuckDB or PostgreSQL, without a password.
        purpose: Why, in a sentence; it goes into the audit trail. The role in TRIALOPS_ROLE must be one that may.
        schema: Schema for PostgreSQL and DuckDB.
        replace: Replace CDM tables that are there.

    Returns:
        Number of rows loaded.
    """
    from dataclasses import asdict

    from trialops.governance.access import authorise
    from trialops.regulatory.research_database import check_target, export_cdm, newest_cdm, research_page
    from trialops.stores import step

    with step("export-research-database", purpose=purpose, schema=schema, replace=replace) as run:
        authorise(run, "research_database", purpose)
        check_target(target)
        tables = newest_cdm(run)
        done = export_cdm(target, tables, schema=schema, replace=replace, progress=run.progress)
        rows = sum(item.sent for item in done)
        run.write_json(evidence, {"tables": [asdict(item) for item in done]})
        run.audit("export.write", "research_database", "", reason=purpose, tables=len(done), rows=rows)
        run.metrics |= {"tables": len(done), "rows": rows}
        run.show(report, research_page(done, target, purpose))
    return rows


@component
def share_with_partner(
    package: Output[Artifact],
    report: Output[HTML],
    agreement: str,
    purpose: str,
    dataset: str = "clean",
    target: str = "",
) -> str:
    """Share de-identified tables under a data-use agreement, as an encrypted package that can be revoked.

    Args:
        package: Folder with the package.
        report: Terms, risk, what was made coarser.
        agreement: YAML file of the agreement.
        purpose: Why, in a sentence; it goes into the audit trail. The role in TRIALOPS_ROLE must be one that may.
        dataset: Chain of validated versions to share from.
        target: Folder to put a copy of the package in; none by default.

    Returns:
        Name of the package in the register.
    """
    from datetime import UTC, datetime
    from pathlib import Path

    from trialops.governance.access import authorise
    from trialops.privacy.sharing_run import SUFFIX, share
    from trialops.stores import step

    with step("share-with-partner", agreement=agreement, purpose=purpose, dataset=dataset) as run:
        authorise(run, "partner_sharing", purpose)
        done = share(run, Path(agreement), dataset, today=datetime.now(UTC).date())
        folder = run.workdir / "package"
        folder.mkdir(exist_ok=True)
        (folder / f"{done.share}{SUFFIX}").write_bytes(done.package)
        run.write_folder(package, folder)
        if target:
            Path(target).mkdir(parents=True, exist_ok=True)
            (Path(target) / f"{done.share}{SUFFIX}").write_bytes(done.package)
        run.metrics |= {"package": done.share, "new": done.new, "bytes": len(done.package)}
        run.show(report, done.page)
    return done.share


@component
def generate_reports(
    raw: Input[Dataset],
    documents: Output[Artifact],
    report: Output[HTML],
    study: str = "",
    kinds: str = "due",
    audience: str = "blinded",
    cut: str = "",
    as_of: str = "",
    stamp: str = "",
    purpose: str = "",
) -> int:
    """Make the periodic reports of the trial as HTML and PDF, and register them: encrypted, numbered, to be signed.

    Args:
        raw: Sealed delivery.
        documents: Versions of the documents with their digests; no subject data.
        report: What was made, for which period, by when it is filed.
        study: Study file; the demonstration trial's by default.
        kinds: Reports, comma-separated: due (those whose period ended last month), all, or names.
        audience: blinded, or unblinded for the role that may and with a purpose.
        cut: Data cut, ISO 8601 date; the end of the last period that the data reach by default.
        as_of: Day of the run, ISO 8601; today (UTC) by default.
        stamp: Time stamped into the documents, ISO 8601; midnight UTC of the day of the run by default.
        purpose: Why, for an unblinded report; it goes into the audit trail.

    Returns:
        Number of new document versions.
    """
    from trialops.regulatory.reports.generate import generate
    from trialops.stores import step

    with step("generate-reports", study=study, kinds=kinds, audience=audience, cut=cut, as_of=as_of) as run:
        done = generate(
            run, raw, study=study, kinds=kinds, audience=audience, cut=cut, as_of=as_of, stamp=stamp, purpose=purpose
        )
        run.write_json(documents, done.manifest)
        run.metrics |= done.metrics
        run.show(report, done.page)
    return int(done.metrics["new"])
