"""The step that makes a submission: from a sealed delivery to a folder outside the platform's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError
from trialops.governance.access import authorise
from trialops.pages import Facts, Figure, Page, Section, Table, Text, Verdict, plots
from trialops.regulatory.cut import make_cut
from trialops.regulatory.define_rules import RULES
from trialops.regulatory.metadata import Study
from trialops.regulatory.package import read_manifest
from trialops.regulatory.submission import Submission, write_submission
from trialops.stores.folders import outside_home

if TYPE_CHECKING:
    import polars as pl

    from trialops.stores.context import Artifact, Step


@dataclass(frozen=True)
class Submitted:
    """What was written: its manifest, as the audit trail has it, and a page without subject data."""

    manifest: dict[str, Any]
    digest: str
    findings: int
    page: Page


def submit(
    run: Step,
    raw: Artifact,
    quarantined: pl.DataFrame,
    *,
    target: str,
    purpose: str,
    stamp: str = "",
    study_metadata: str = "",
) -> Submitted:
    """Write a submission package from a sealed delivery.

    Args:
        run: The step.
        raw: The sealed delivery.
        quarantined: Rows the intake set aside: file, reason.
        target: Folder to write; not inside the platform's home, where nothing identifiable lies in the clear.
        purpose: Why, for the audit trail.
        stamp: Time stamped into the documents (ISO 8601); midnight UTC of today by default.
        study_metadata: YAML file with description, protocol and versions of the standards.

    Raises:
        TrialOpsError: The role or the target is not one that may be used, or the data do not fit the formats.
    """
    grant = authorise(run, "regulatory_submission", purpose)
    place = _place(target, run.settings.home.resolve())
    tables = run.unseal(raw)
    received = run.unseal_files(raw, reason=grant.purpose)
    cut = make_cut(tables, received)
    for reason, count in quarantined.group_by("reason").len().sort("reason").iter_rows():
        cut = type(cut)(cut.tables, cut.comments, (*cut.notes, f"Set aside at intake, {reason}: {count} record(s)."))
    study = _study(str(cut.tables["DM"]["STUDYID"][0]), stamp, study_metadata)
    digest = next((str(item["digest"]) for item in run.inputs if item.get("kind") == "sealed"), "")
    written = write_submission(place, cut, study, source=digest, progress=run.progress)
    run.audit(
        "export.write",
        f"submission/{study.name}",
        written.digest,
        reason=grant.purpose,
        role=grant.role,
        records=sum(d.frame.height for d in written.metadata.data_sets),
        findings=len(written.findings),
    )
    manifest, _ = read_manifest(place)
    return Submitted(manifest, written.digest, len(written.findings), submission_page(written, grant.purpose))


def _place(target: str, home: Path) -> Path:
    place = outside_home(target, home, what="A submission")
    if place.exists() and not (place / "manifest.json").exists() and any(place.iterdir()):
        raise TrialOpsError(
            "The target holds other files: it would be replaced",
            where="target",
            fix="Choose an empty or new folder, or one that holds an earlier package.",
        )
    return place


def _study(name: str, stamp: str, path: str) -> Study:
    """Names and versions: from the file where there is one, the standards' defaults otherwise."""
    import yaml

    given: Mapping[str, Any] = {}
    if path:
        try:
            given = yaml.safe_load(Path(path).read_text("utf-8")) or {}
        except (OSError, yaml.YAMLError, UnicodeDecodeError):
            raise TrialOpsError("The study metadata cannot be read", where=path, fix="Give a YAML file.") from None
    known = {f.name for f in fields(Study)} - {"name", "created"}
    strange = sorted(set(given) - known) if isinstance(given, Mapping) else ["(not a mapping)"]
    if strange:
        raise TrialOpsError(
            f"The study metadata hold what is not known: {', '.join(map(str, strange))}",
            where=path,
            fix=f"Use {', '.join(sorted(known))}.",
        )
    created = stamp or datetime.now(UTC).strftime("%Y-%m-%dT00:00:00")
    try:
        created = datetime.fromisoformat(created).replace(tzinfo=None).isoformat(timespec="seconds")
    except ValueError:
        raise TrialOpsError("The stamp is not an ISO 8601 time", where="stamp", fix="2026-01-31T00:00:00") from None
    return Study(name, created=created, **{k: str(v) for k, v in given.items()})


def submission_page(written: Submission, purpose: str) -> Page:
    """What was written, by data set; records and bytes, nothing of a subject."""
    sets = written.metadata.data_sets
    if written.findings:
        verdict = Verdict("findings", "warn", f"{len(written.findings)} finding(s) against {len(RULES)} rules")
    else:
        verdict = Verdict("conforms", "good", f"All {len(RULES)} rules on definitions and data hold")
    rows = [
        [d.name, d.label, d.observation_class, len(d.items), d.frame.height, written.sizes[d.name] / 1e6] for d in sets
    ]
    sections = [
        Section(
            "Package",
            [
                Facts(
                    {
                        "data sets": len(sets),
                        "records": sum(d.frame.height for d in sets),
                        "MB in transport files": sum(written.sizes.values()) / 1e6,
                        "code lists": len(written.metadata.code_lists),
                        "manifest": written.digest[:16],
                    }
                ),
                Text(f"Purpose: {purpose}"),
                Text("Real dates and USUBJID are in the package and nowhere on this page.", quiet=True),
            ],
        ),
        Section(
            "Data sets",
            [
                Table(["data set", "description", "class", "variables", "records", "MB"], rows),
                Figure(
                    plots.bars([d.name for d in sets], [d.frame.height for d in sets], xlabel="records"), "Records."
                ),
            ],
        ),
        Section(
            "Conformance",
            [Table(["rule", "where", "finding"], [[f.rule, f.where, f.text] for f in written.findings])],
        ),
    ]
    if written.split:
        parts = [list(part) for part in written.split]
        sections.append(Section("Split data sets", [Table(["data set", "part", "records"], parts)]))
    return Page("Submission package", sections, verdict=verdict)
