"""KFP components: intake."""

from kfp.dsl import HTML, Dataset, Output

from components.base import component


@component
def ingest_sdtm(source: str, raw: Output[Dataset], quarantine: Output[Dataset], report: Output[HTML]) -> int:
    """Read a delivery of SDTM XPORT files; keep it encrypted and count every row.

    Args:
        source: Folder with the .xpt files; corrections below corrections/<YYYY-MM-DD>.
        raw: The tables as received, sealed by the vault.
        quarantine: Rows that cannot be used: reason, file, row; never their values.
        report: What was read, loaded, quarantined and ignored, file by file.

    Returns:
        Number of quarantined rows.
    """
    from pathlib import Path

    from trialops.intake.page import intake_page
    from trialops.intake.sdtm import delivery_digest, read_folder
    from trialops.stores import step
    from trialops.stores.memo import recall, remember
    from trialops.stores.study import bind_study

    with step("ingest-sdtm", source=source) as run:
        outputs = {"raw": raw, "quarantine": quarantine, "report": report}
        digest = delivery_digest(Path(source))
        if not recall(run, digest, outputs):
            intake = read_folder(Path(source), progress=run.progress)
            bind_study(run.objects, intake.study)
            files = [Path(source) / name for name in intake.dispositions["file"]]
            run.seal(raw, intake.tables, files=files)
            run.write_table(quarantine, intake.quarantine, table="quarantine/intake")
            rows = int(intake.dispositions["read"].sum())
            run.metrics |= {"rows_read": rows, "quarantined": intake.quarantine.height}
            run.show(report, intake_page(intake))
            remember(run, digest, outputs)
    return int(run.metrics["quarantined"])
