"""KFP components: privacy."""

from kfp.dsl import HTML, Artifact, Dataset, Input, Output

from components.base import component


@component
def deidentify(raw: Input[Dataset], clean: Output[Dataset], withheld: Output[Dataset], report: Output[HTML]) -> int:
    """De-identify under HIPAA_COMPLIANCE_MODE; fails closed.

    Args:
        raw: Sealed tables of an intake.
        clean: De-identified tables with study days.
        withheld: Rows that could not be de-identified: reason, file, row.
        report: What was done to which column, and the residual check.

    Returns:
        Number of withheld rows.
    """
    from trialops.privacy.deidentify import HIPAAComplianceOperator
    from trialops.privacy.page import privacy_page
    from trialops.stores import step

    with step("deidentify") as run:
        mode = run.settings.hipaa_compliance_mode
        result = HIPAAComplianceOperator().run(
            run.unseal(raw), mode, run.vault, synthetic=mode == "off", progress=run.progress
        )
        for kind, link in result.links.items():
            # Who stands behind a pseudonym, encrypted: a safety physician must be able to reach the subject.
            run.vault.remember(kind, dict(link.select("raw", "pseudonym").iter_rows()), engine=run.engine)
        run.write(clean, result.tables, zone="clean")
        run.write_table(withheld, result.quarantine, table="quarantine/privacy")
        run.metrics |= {"subjects": result.report.subjects, "withheld": result.quarantine.height}
        run.audit("privacy.deidentify", "clean", mode, policy=result.report.policy_version)
        run.show(report, privacy_page(result.report))
    return result.quarantine.height


@component
def deidentify_fhir(
    raw: Input[Dataset],
    clean: Output[Dataset],
    withheld: Output[Dataset],
    report: Output[HTML],
    purpose: str = "HRESCH",
) -> int:
    """De-identify FHIR resources under HIPAA_COMPLIANCE_MODE, of subjects whose consent permits the purpose.

    Args:
        raw: Sealed FHIR tables of an intake.
        clean: De-identified resources, one table per type.
        withheld: Resources that were not released: reason, type, line.
        report: What was done to which element, and the residual search.
        purpose: What the data will be used for, a v3-ActReason code; consent is checked for it, deny by default.

    Returns:
        Number of withheld resources.
    """
    from trialops.privacy.deidentify import HIPAAComplianceOperator
    from trialops.privacy.fhir_page import fhir_privacy_page
    from trialops.privacy.permission import not_permitted
    from trialops.stores import step

    with step("deidentify-fhir", purpose=purpose) as run:
        mode = run.settings.hipaa_compliance_mode
        tables = run.unseal(raw)
        denied = not_permitted(tables, run, purpose=purpose)
        result = HIPAAComplianceOperator().run_fhir(
            tables, mode, run.vault, synthetic=mode == "off", denied=denied, progress=run.progress
        )
        for kind, link in result.links.items():
            run.vault.remember(kind, dict(link.select("raw", "pseudonym").iter_rows()), engine=run.engine)
        run.write(clean, result.tables, zone="clean_fhir")
        run.write_table(withheld, result.quarantine, table="quarantine/privacy_fhir")
        run.metrics |= {"subjects": result.report.subjects, "withheld": result.quarantine.height}
        run.audit("privacy.deidentify", "clean_fhir", mode, policy=result.report.policy_version, purpose=purpose)
        run.show(report, fhir_privacy_page(result.report))
    return result.quarantine.height


@component
def assess_risk(
    assessment: Output[Artifact],
    report: Output[HTML],
    clean: Input[Dataset] = None,
    data_set: str = "dm",
    release: str = "partner",
    dataset: str = "clean",
) -> str:
    """Measure the residual risk of re-identification of a table and judge it for a release.

    Args:
        assessment: Measures, thresholds, verdict, and what would make the table pass.
        report: The same for people.
        clean: De-identified tables; without them the validated version in force is judged.
        data_set: Table, with quasi-identifiers declared in risk.yaml.
        release: Kind of release, with thresholds in risk.yaml.
        dataset: Name of the chain of validated versions.

    Returns:
        pass, fail or insufficient.
    """
    from trialops.privacy.risk_page import nothing_page, risk_page
    from trialops.privacy.risk_release import judge_release, tables_in_force
    from trialops.stores import step

    with step("assess-risk", data_set=data_set, release=release, dataset=dataset) as run:
        tables = run.read(clean) if clean else tables_in_force(run, dataset)
        if tables is None:
            run.write_json(assessment, {"data_set": data_set, "verdict": "insufficient"})
            run.show(report, nothing_page(dataset))
            return run.decide("insufficient", numbers={"subjects": 0}, policy={"release": release})
        found = judge_release(tables, data_set, release)
        run.write_json(assessment, found.as_dict())
        run.metrics |= {"k": found.risk.k, "prosecutor": found.risk.prosecutor}
        run.show(report, risk_page(found))
        return run.decide(found.judged.verdict, numbers=found.judged.numbers(), policy=found.policy())


@component
def check_consent(
    raw: Input[Dataset],
    permitted: Output[Dataset],
    decisions: Output[Dataset],
    report: Output[HTML],
    purpose: str = "HRESCH",
    at: str = "",
    actor: str = "",
) -> int:
    """Let through what consent permits, at the moment of reading; deny by default.

    Args:
        raw: Sealed tables of an intake, SDTM or FHIR.
        permitted: The rows the use may see, sealed.
        decisions: Subject by subject: decision, reason, consent; pseudonyms alone.
        report: How many subjects and rows, and why not the others.
        purpose: Purpose of use: HRESCH and others need a FHIR Consent; TRIAL, for SDTM, rests on informed consent.
        at: Day of the use, YYYY-MM-DD; empty is today.
        actor: FHIR reference of who uses the data; empty where it is not said.

    Returns:
        Number of subjects that are denied.
    """
    from trialops.privacy.consent import consent_policy
    from trialops.privacy.consent_check import check, day, decision_table
    from trialops.privacy.consent_page import consent_page
    from trialops.stores import step

    with step("check-consent", purpose=purpose, at=at, actor=actor) as run:
        tables, when, version = run.unseal(raw), day(at), consent_policy().version
        result = check(tables, purpose=purpose, at=when, actor=actor)
        run.seal(permitted, result.tables)
        run.write_table(decisions, decision_table(result, tables, run.vault), table=f"consent/{purpose.lower()}")
        denied, rows = result.denied, result.rows_withheld
        run.metrics |= {"subjects": result.decisions.height, "denied": denied, "rows_withheld": rows}
        # Counts alone; who was denied is in the decision table, under pseudonyms.
        run.audit(
            "privacy.consent", purpose, version, at=when.isoformat(), actor=actor, denied=denied, rows_withheld=rows
        )
        run.show(report, consent_page(result, purpose=purpose, at=when, policy=version))
    return result.denied


@component
def apply_retention(
    certificate: Output[Artifact],
    report: Output[HTML],
    dry_run: bool = True,
    today: str = "",
) -> int:
    """Find the records whose retention has ended, and dispose of them unless it is a dry run.

    Args:
        certificate: What was disposed of and what is due, signed where something went.
        report: By class: kept, held, in use, due; holds and milestones.
        dry_run: Look only.
        today: Day to judge by, ISO 8601; empty is today.

    Returns:
        Records that are due, or were disposed of.
    """
    from trialops.privacy.retention_run import run_retention
    from trialops.stores import step

    with step("apply-retention", dry_run=dry_run, today=today) as run:
        done = run_retention(run, dry_run=dry_run, today=today)
        run.write_json(certificate, done.document)
        run.metrics |= {"due": done.due, "disposed": done.disposed}
        run.show(report, done.page)
    return int(done.due)


@component
def erase_subjects(certificates: Output[Artifact], report: Output[HTML], rotate_master: bool = False) -> int:
    """Carry out the open requests for erasure and restriction.

    Args:
        certificates: Certificate of each request carried out.
        report: Decision by place, what was destroyed, models trained on the subjects.
        rotate_master: Replace the master key afterwards, so that old copies of the keyring open nothing destroyed.

    Returns:
        Requests carried out.
    """
    from trialops.privacy.erasure_run import run_erasures
    from trialops.stores import step

    with step("erase-subjects", rotate_master=rotate_master) as run:
        done = run_erasures(run, rotate_master=rotate_master)
        run.write_json(certificates, done.document)
        run.metrics |= {"executed": done.executed, "open": done.open}
        run.show(report, done.page)
    return int(done.executed)


@component
def deidentify_labs(
    trial: Input[Dataset],
    labs: Input[Dataset],
    clean: Output[Dataset],
    withheld: Output[Dataset],
    report: Output[HTML],
) -> int:
    """De-identify laboratory messages with the study days of their subjects; consent is checked for each result.

    Args:
        trial: Sealed SDTM tables the trial may see: they tell day 1, and until when a subject's consent held.
        labs: Sealed results of ingest_hl7.
        clean: De-identified results, shaped like SDTM LB.
        withheld: Results that could not be de-identified: reason, file, row.
        report: What was done to which column, and the residual check.

    Returns:
        Number of results withheld, for consent or because they could not be de-identified.
    """
    from trialops.privacy.consent import consent_policy
    from trialops.privacy.consent_check import check, day
    from trialops.privacy.deidentify import HIPAAComplianceOperator
    from trialops.privacy.page import privacy_page
    from trialops.stores import step

    with step("deidentify-labs") as run:
        mode, purpose = run.settings.hipaa_compliance_mode, consent_policy().content["trial"]["purpose"]
        tables = {**run.unseal(trial), "LB": run.unseal(labs)["LB"]}
        results = tables["LB"].height
        seen = check(tables, purpose=purpose, at=day(""))
        result = HIPAAComplianceOperator().run(
            seen.tables, mode, run.vault, synthetic=mode == "off", progress=run.progress
        )
        for kind, link in result.links.items():
            run.vault.remember(kind, dict(link.select("raw", "pseudonym").iter_rows()), engine=run.engine)
        own = result.quarantine.filter(result.quarantine["domain"] == "LB")
        refused = results - seen.tables["LB"].height
        run.write(clean, {"LB": result.tables["LB"]}, zone="clean_labs")
        run.write_table(withheld, own, table="quarantine/privacy_labs")
        run.metrics |= {"results": results, "without_consent": refused, "withheld": own.height}
        policy = result.report.policy_version
        run.audit("privacy.deidentify", "clean_labs", mode, policy=policy, without_consent=refused)
        run.show(report, privacy_page(result.report))
    return refused + own.height


@component
def discover_pii(findings: Output[Dataset], report: Output[HTML], scope: str = "*", mask: bool = False) -> int:
    """Look for personal data in the tables of the lake and the database.

    Args:
        findings: Table, column, kind, evidence and counts; never a value.
        report: The same for people.
        scope: Pattern of table names; database tables are "database/<name>".
        mask: Write masked copies of lake tables with findings, each looked at again.

    Returns:
        Columns with personal data where they should not be.
    """
    from trialops.privacy.discovery_run import run_discovery
    from trialops.stores import step

    with step("discover-pii", scope=scope, mask=mask) as run:
        done = run_discovery(run, scope=scope, apply=mask)
        run.write_table(findings, done.frame(), table="privacy/findings")
        run.metrics |= {"tables": done.tables, "columns": done.columns, "findings": len(done.findings)}
        run.audit("privacy.discover", scope, findings=len(done.findings), masked=list(done.masked))
        run.show(report, done.page)
    return len(done.findings)


@component
def maintain_audit_log(summary: Output[Artifact], report: Output[HTML]) -> str:
    """Verify the audit trail, anchor its head, and keep a summary of the day.

    Args:
        summary: Records by action and actor since the last summary, the head, the anchors compared.
        report: The same for people.

    Returns:
        "pass" or "fail".
    """
    from trialops.privacy.audit_maintenance import maintain
    from trialops.stores import step

    with step("maintain-audit-log") as run:
        done = maintain(run)
        run.write_json(summary, done.document)
        run.metrics |= {"records": done.document["records"], "anchors": done.document["anchors"]}
        run.show(report, done.page)
        return run.decide(done.verdict, numbers={"records": done.document["records"]}, policy="every record and anchor")
