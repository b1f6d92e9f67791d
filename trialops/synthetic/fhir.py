"""FHIR R4 transaction bundles, one per subject and line, with the same values as the SDTM files.

Bundles are newline-delimited in blocks: one file per subject would make 100,000 small files. Treatment stays
blinded here, as it is at the sites: no arm and no dose.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from trialops.synthetic.fhir_people import personal_entries
from trialops.synthetic.fhir_templates import (
    ADMINISTRATION,
    BASE,
    CONDITION,
    ENCOUNTER,
    EVENT,
    LAB_MORE,
    OBSERVATION,
)
from trialops.synthetic.notes import span_lines, write_notes
from trialops.synthetic.people import people
from trialops.synthetic.population import Population
from trialops.synthetic.protocol import Sites
from trialops.synthetic.text_rows import fill

if TYPE_CHECKING:
    import polars as pl

CHUNK = 200


def _entries(frame: pl.DataFrame, kind: str, key: str, template: str) -> pl.DataFrame:
    """Bundle entries of one resource type: columns P (subject number) and text."""
    import polars as pl

    frame = frame.with_columns(pl.format(f"{{}}-{key}", "P", "N").alias("ID"))
    request = f'{{"method":"PUT","url":"{kind}/<ID>"}}'
    entry = f'{{"fullUrl":"{BASE}/{kind}/<ID>","resource":{template},"request":{request}}}'
    return pl.DataFrame({"P": frame["P"], "text": fill(frame, entry)})


def _tables(frames: dict[str, pl.DataFrame], received: pl.Expr | None = None) -> list[pl.DataFrame]:
    """Entries made from SDTM rows; `received` turns them into corrections of that date."""
    import polars as pl

    from trialops.synthetic.analytes import UCUM

    number = pl.col("USUBJID").str.slice(-6)
    if received is None:
        status, meta = pl.lit("final"), pl.lit("")
    else:
        status = pl.lit("corrected")
        meta = pl.concat_str(pl.lit('"meta":{"versionId":"2","lastUpdated":"'), received, pl.lit('T00:00:00Z"},'))
    visit = (pl.col("VISITNUM") * 10).cast(pl.Int64)
    made = []
    for code, name, category in (("LB", "lab", "laboratory"), ("VS", "vital", "vital-signs")):
        if code in frames:
            frame = frames[code].with_columns(
                P=number,
                N=pl.col(f"{code}SEQ"),
                STATUS=status,
                META=meta,
                CATEGORY=pl.lit(category),
                V=visit,
                NAME=pl.col(f"{code}TEST"),
                CODE=pl.col(f"{code}TESTCD"),
                VALUE=pl.col(f"{code}ORRES"),
                UNIT=pl.col(f"{code}ORRESU"),
                UCUM=pl.col(f"{code}ORRESU").replace_strict(UCUM),
                MORE=pl.lit(""),
                WHEN=pl.col(f"{code}DTC") + (":00Z" if code == "LB" else ""),
            )
            if code == "LB":
                frame = frame.with_columns(FLAG=pl.col("LBNRIND").str.slice(0, 1))
                frame = frame.with_columns(MORE=fill(frame, LAB_MORE))
            made.append(_entries(frame, "Observation", f"{name}-{{}}", OBSERVATION))
    if "AE" in frames:
        made.append(
            _entries(
                frames["AE"].with_columns(
                    P=number,
                    N=pl.col("AESEQ"),
                    META=meta,
                    SEVERITY=pl.col("AESEV").str.to_lowercase(),
                    SERIOUS=pl.when(pl.col("AESER") == "Y").then(pl.lit("Serious")).otherwise(pl.lit("Non-serious")),
                    OUTCOME=pl.col("AEOUT").replace_strict(
                        {
                            "FATAL": "fatal",
                            "RECOVERED/RESOLVED": "resolved",
                            "NOT RECOVERED/NOT RESOLVED": "ongoing",
                        }
                    ),
                ),
                "AdverseEvent",
                "event-{}",
                EVENT,
            )
        )
    if "SV" in frames:
        made.append(
            _entries(
                frames["SV"].with_columns(P=number, N=visit, SITE=pl.col("USUBJID").str.split("-").list.get(1)),
                "Encounter",
                "visit-{}",
                ENCOUNTER,
            )
        )
    if "EX" in frames:
        made.append(
            _entries(
                frames["EX"].with_columns(P=number, N=pl.col("EXSEQ")),
                "MedicationAdministration",
                "dose-{}",
                ADMINISTRATION,
            )
        )
    if "MH" in frames:
        made.append(
            _entries(
                frames["MH"].with_columns(
                    P=number,
                    N=pl.col("MHSEQ"),
                    CLINICAL=pl.when(pl.col("MHCAT") == "HISTORICAL DIAGNOSIS")
                    .then(pl.lit("inactive"))
                    .otherwise(pl.lit("active")),
                ),
                "Condition",
                "history-{}",
                CONDITION,
            )
        )
    return made


def _bundles(made: list[pl.DataFrame]) -> pl.DataFrame:
    """Join entries to one bundle per subject, in subject order of first appearance."""
    import polars as pl

    return (
        pl.concat(made)
        .group_by("P", maintain_order=True)
        .agg(pl.col("text").str.join(","))
        .select(
            "P",
            text=pl.lit('{"resourceType":"Bundle","type":"transaction","entry":[') + pl.col("text") + "]}",
        )
    )


def write_block(
    folder: Path,
    block: int,
    p: Population,
    sites: Sites,
    seed: int,
    frames: dict[str, pl.DataFrame],
    corrections: dict[str, pl.DataFrame],
) -> int:
    """Write the bundles, corrections and identifier positions of a block.

    Args:
        folder: The fhir folder.
        block: Block number, from 0; it names the files.
        p: The block.
        sites: Site layout.
        seed: Seed of the trial.
        frames: SDTM frames of the block (LB and VS with LOINC, MH with ICD10).
        corrections: LB and AE rows as corrected, with column RECEIVED (date text).

    Returns:
        Resources written.
    """
    import polars as pl

    persons = people(p, seed)
    notes = write_notes(p, persons)
    personal = personal_entries(p, sites, persons, notes)
    numbers = [str(n) for n in p.subject_numbers]
    # In pieces of some subjects, so that the text of a whole block is never held at once.
    position = {name: _positions(frames[name], numbers) for name in ("LB", "VS", "AE", "SV", "EX", "MH")}
    written = sum(len(part) for part in personal)
    with (folder / f"bundle-{block:04d}.ndjson").open("wb") as file:
        for start in range(0, len(numbers), CHUNK):
            stop = min(start + CHUNK, len(numbers))
            first = pl.DataFrame({"P": numbers[start:stop], "text": [",".join(part) for part in personal[start:stop]]})
            piece = {name: frames[name][int(at[start]) : int(at[stop])] for name, at in position.items()}
            written += sum(f.height for f in piece.values())
            bundles = _bundles([first, *_tables(piece)])
            file.write(bundles["text"].str.join("\n").item().encode() + b"\n")
    with (folder / f"phi_spans-{block:04d}.ndjson").open("w") as out:
        out.write(span_lines(p, notes).str.join("\n").item() + "\n")
    changed = {name: frame for name, frame in corrections.items() if frame.height}
    if changed:
        fixed = _bundles(_tables(changed, received=pl.col("RECEIVED"))).sort("P")
        written += sum(f.height for f in changed.values())
        (folder / f"corrections-{block:04d}.ndjson").write_text("\n".join(fixed["text"].to_list()) + "\n")
    return written


def _positions(frame: pl.DataFrame, numbers: list[str]) -> list[int]:
    """First row of each subject in a frame sorted like `numbers`, and the number of rows at the end."""
    import numpy as np
    import polars as pl

    order = pl.DataFrame({"P": numbers, "i": np.arange(len(numbers))})
    index = frame.select(P=pl.col("USUBJID").str.slice(-6)).join(order, on="P", how="left", maintain_order="left")["i"]
    found = np.searchsorted(index.to_numpy(), np.arange(len(numbers) + 1))
    return [int(i) for i in found]
