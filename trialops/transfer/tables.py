"""Steps of our own between the provider jobs: validation of what was landed, fallback, cleansing.

Each may die anywhere and be done again: what it writes is addressed by content, or appended to a chain unless it is
there already.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError
from trialops.stores.chain_log import ChainLog, Link
from trialops.stores.digest import document_digest
from trialops.stores.objects import ObjectStore
from trialops.transfer.config import TransferConfig
from trialops.transfer.failures import TransferFailure
from trialops.transfer.landed import damaged, read_landed
from trialops.transfer.policy import Policy

if TYPE_CHECKING:
    import polars as pl

    from trialops.stores.context import Step

PURPOSE = "TRIAL"


def chain(objects: ObjectStore, trial: str) -> ChainLog:
    """The chain of validated versions of what a trial's sites delivered."""
    return ChainLog(objects, f"transfer/validated/{trial}", "validated deliveries")


def validate_landed(
    run: Step, config: TransferConfig, policy: Policy, landing: ObjectStore, extracted: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Judge what was landed as it was received; mark it validated, or stop the run's own data here.

    Args:
        run: The step.
        config: The trial's jobs.
        policy: What counts.
        landing: The landing zone.
        extracted: By flow, the evidence of its extract.

    Returns:
        version, digest, score, rows, files, and the columns that are new or gone since the version before.

    Raises:
        TransferFailure: Of kind integrity: rows are missing, files cannot be read, or the quality gate fails.
    """
    from trialops.quality.contracts import contract
    from trialops.quality.engine import ClinicalDataValidatorOperator
    from trialops.stores.sealed import seal
    from trialops.stores.study import bind_study

    landed = read_landed(
        landing,
        config.flows,
        extracted,
        config.landed,
        equal_processed=bool(policy.evidence["landed_equal_processed"]),
        progress=run.progress,
    )
    tables = landed.intake.tables
    bind_study(run.objects, landed.intake.study)
    report = ClinicalDataValidatorOperator().run(tables, contract("sdtm", tables))
    numbers = {"score": round(report.score, 4), "threshold": report.threshold, **report.findings}
    numbers |= {"quarantined": landed.intake.quarantine.height}
    run.decide("pass" if report.passed else "fail", numbers=numbers, policy={"rules": report.rules_version})
    run.metrics |= {"score": round(report.score, 2), "quarantined": landed.intake.quarantine.height}
    if not report.passed:
        raise TransferFailure(
            "integrity",
            f"The quality of what was landed is {report.score:.2f}, below the gate of {report.threshold:g}",
            code="quality",
            where=f"trial {config.trial}",
        )
    sealed = seal(tables, vault=run.vault, objects=run.objects)
    run.audit("data.seal", "landing zone", sealed["digest"])
    schema = {name: sorted(column for column in frame.columns if column[0] != "_") for name, frame in tables.items()}
    log = chain(run.objects, config.trial)
    before = log.links()
    body = {
        "run_id": run.run_id,
        "trial": config.trial,
        "files": landed.manifest(),
        "sealed": sealed,
        "schema": schema,
        "schema_digest": document_digest(schema),
        "evidence": {**numbers, "rules": report.rules_version, "policy": policy.digest},
    }

    def newest_is_this(links: Iterable[Link]) -> Link | None:
        last = list(links)[-1:]
        return last[0] if last and last[0].body["sealed"]["digest"] == sealed["digest"] else None

    link = log.append(body, unless=newest_is_this)
    return {
        "version": link.sequence,
        "digest": sealed["digest"],
        "score": numbers["score"],
        "rows": sum(item["rows"] for item in sealed["tables"].values()),
        "files": len(landed.files),
        "bytes": sum(file.bytes for file in landed.files),
        "quarantined": numbers["quarantined"],
        **_schema_change(before[-1].body["schema"] if before else None, schema),
    }


def _schema_change(before: Mapping[str, list[str]] | None, now: Mapping[str, list[str]]) -> dict[str, list[str]]:
    if before is None:
        return {"columns_new": [], "columns_gone": []}
    old = {f"{table}.{column}" for table, columns in before.items() for column in columns}
    new = {f"{table}.{column}" for table, columns in now.items() for column in columns}
    return {"columns_new": sorted(new - old), "columns_gone": sorted(old - new)}


def fall_back(run: Step, config: TransferConfig, landing: ObjectStore, why: str) -> dict[str, Any]:
    """Choose the newest validated version whose own tables still verify.

    Args:
        run: The step.
        config: The trial's jobs.
        landing: The landing zone.
        why: Code of the integrity error.

    Raises:
        TransferFailure: There is none.
    """
    from trialops.stores.sealed import unseal

    skipped = 0
    for link in reversed(chain(run.objects, config.trial).links()):
        try:
            unseal(link.body["sealed"], vault=run.vault, objects=run.objects)
        except TrialOpsError:
            skipped += 1
            continue
        run.decide("fallback", numbers={"version": link.sequence, "skipped": skipped}, policy={"why": why})
        return {
            "version": link.sequence,
            "digest": link.body["sealed"]["digest"],
            "of_run": link.body["run_id"],
            "why": why,
            "skipped": skipped,
            "landed_files_damaged": len(damaged(landing, link.body["files"])),
            "alert": True,
        }
    raise TransferFailure(
        "permanent",
        "There is no validated version to fall back to",
        code="no validated version",
        where=f"trial {config.trial}",
        fix="Have the delivery corrected and run the transfer under a new run id.",
    )


def cleanse(
    run: Step, config: TransferConfig, policy: Policy, target: ObjectStore, version: int, digest: str
) -> dict[str, Any]:
    """De-identify a validated version as far as consent covers it, and lay out the tables that QuickSight reads.

    Args:
        run: The step.
        config: The trial's jobs.
        policy: Blinded columns.
        target: Where the cleansed tables go.
        version: Number of the validated version.
        digest: Digest of its sealed tables.

    Returns:
        By data set key, rows and SHA-256 of its file; digest and version of the cleansed tables in the lake.
    """
    import datetime as dt

    from trialops.privacy.consent_check import check
    from trialops.privacy.deidentify import HIPAAComplianceOperator
    from trialops.privacy.permission import unrestricted
    from trialops.stores.refs import Snapshot
    from trialops.stores.sealed import unseal

    link = next((one for one in chain(run.objects, config.trial).links() if one.sequence == version), None)
    if link is None or link.body["sealed"]["digest"] != digest:
        raise TransferFailure("integrity", "The validated version is not the one chosen", where=f"version {version}")
    run.audit("data.unseal", f"validated delivery {version}", digest)
    tables = unseal(link.body["sealed"], vault=run.vault, objects=run.objects)
    permitted = check(tables, purpose=PURPOSE, at=dt.datetime.now(dt.UTC).date())
    mode = run.settings.hipaa_compliance_mode
    result = HIPAAComplianceOperator().run(
        permitted.tables, mode, run.vault, synthetic=mode == "off", progress=run.progress
    )
    for kind, links in result.links.items():
        run.vault.remember(kind, dict(links.select("raw", "pseudonym").iter_rows()), engine=run.engine)
    clean = unrestricted(result.tables, run)
    snapshot = Snapshot({name: run.write_named(f"cleansed/{name.lower()}", frame) for name, frame in clean.items()})
    run.audit("privacy.deidentify", "cleansed", mode, policy=result.report.policy_version)
    exports = {}
    for dataset in config.datasets:
        if dataset.table not in clean:
            raise TransferFailure(
                "permanent",
                f"There is no table {dataset.table} for data set {dataset.id}",
                code="no table",
                where=f"data set {dataset.id}",
            )
        exports[dataset.id] = _export(
            clean[dataset.table], () if dataset.unblinded else policy.blinded, target, config.trial, dataset.id
        )
    run.metrics |= {"rows": snapshot.rows, "withheld": result.quarantine.height}
    return {
        "digest": snapshot.digest,
        "rows": snapshot.rows,
        "of_version": version,
        "denied": permitted.denied,
        "withheld": result.quarantine.height,
        "exports": exports,
    }


def _export(
    frame: pl.DataFrame, blinded: tuple[str, ...], target: ObjectStore, trial: str, name: str
) -> dict[str, Any]:
    """One table as CSV under its content's name; QuickSight's manifest is pointed to it in one write."""
    import hashlib

    buffer = io.BytesIO()
    shown = frame.drop([column for column in blinded if column in frame.columns])
    shown.write_csv(buffer)
    data = buffer.getvalue()
    sha256 = hashlib.sha256(data).hexdigest()
    key = f"{trial}/{name}/{sha256[:32]}.csv"
    target.put(key, data)
    manifest = {
        "fileLocations": [{"URIs": [f"{target.url.rstrip('/')}/{key}"]}],
        "globalUploadSettings": {"format": "CSV", "containsHeader": "true"},
    }
    target.put(f"{trial}/{name}/manifest.json", json.dumps(manifest, indent=1).encode())
    return {"rows": frame.height, "sha256": sha256, "key": key, "columns": len(shown.columns)}
