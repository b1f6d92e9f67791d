"""The clinical study data reviewer's guide (cSDRG), filled from the data: what a reviewer cannot see in define.xml."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from trialops.pages import Facts, Figure, Page, Section, Table, Text, Verdict, plots
from trialops.regulatory.define_rules import RULES, Finding
from trialops.regulatory.metadata import Metadata

if TYPE_CHECKING:
    import polars as pl


def reviewers_guide(
    metadata: Metadata,
    findings: Sequence[Finding],
    notes: Sequence[str],
    split: Sequence[tuple[str, str, int]] = (),
) -> Page:
    """The guide as a page of the package.

    Args:
        metadata: Of the submission.
        findings: Rules of define.xml that do not hold.
        notes: Sentences about the data cut.
        split: Data set, file name and records of each part of a data set that was too large.
    """
    study = metadata.study
    by_name = {d.name: d for d in metadata.data_sets}
    dm = by_name["DM"].frame if "DM" in by_name else None
    sections = [
        Section(
            "1. Introduction",
            [
                Text(f"{study.description}. Protocol {study.protocol}."),
                Facts(
                    {
                        "SDTMIG": study.sdtmig,
                        "CDISC CT": study.ct,
                        "MedDRA": study.meddra,
                        "WHODrug": study.whodrug,
                        "data sets": len(metadata.data_sets),
                        "records": sum(d.frame.height for d in metadata.data_sets),
                    }
                ),
            ],
        ),
        Section("2. Protocol and subjects", _subjects(dm)),
        Section(
            "3. Subject data",
            [
                Table(
                    ["data set", "description", "class", "records", "subjects", "supplemental"],
                    [
                        [
                            d.name,
                            d.label,
                            d.observation_class,
                            d.frame.height,
                            d.frame["USUBJID"].n_unique() if "USUBJID" in d.frame.columns else None,
                            "yes" if f"SUPP{d.name}" in by_name else "",
                        ]
                        for d in metadata.data_sets
                    ],
                ),
                Figure(
                    plots.bars(
                        [d.name for d in metadata.data_sets],
                        [d.frame.height for d in metadata.data_sets],
                        xlabel="records",
                    ),
                    "Records by data set.",
                ),
                *[Text(note) for note in notes],
            ],
        ),
        Section("4. Conformance", _conformance(metadata, findings)),
    ]
    if split:
        sections.append(
            Section(
                "5. Split data sets",
                [
                    Text("These are submitted whole and, because of their size, in parts of whole subjects as well."),
                    Table(["data set", "part", "records"], [list(part) for part in split]),
                ],
            )
        )
    return Page(f"Study data reviewer's guide, study {study.name}", sections)


def _subjects(dm: pl.DataFrame | None) -> list[Text | Table]:
    if dm is None or "ARM" not in dm.columns:
        return [Text("The data hold no arms.")]
    counts = dm.group_by("ARMCD", "ARM").len().sort("ARMCD", "ARM", nulls_last=True)
    rows = [[code or "", arm or "not assigned", n] for code, arm, n in counts.iter_rows()]
    return [Table(["ARMCD", "arm", "subjects"], rows)]


def _conformance(metadata: Metadata, findings: Sequence[Finding]) -> list[Verdict | Text | Table]:
    if findings:
        first: Verdict = Verdict("findings", "warn", f"{len(findings)} finding(s) against {len(RULES)} rules")
    else:
        first = Verdict("conforms", "good", f"All {len(RULES)} rules on definitions and data hold")
    parts: list[Verdict | Text | Table] = [first]
    if findings:
        parts.append(Table(["rule", "where", "finding"], [[f.rule, f.where, f.text] for f in findings]))
    parts.append(Table(["what to know about the data"], [[text] for text in metadata.findings], caption="Observations"))
    return parts
