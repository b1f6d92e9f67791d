"""HL7 v2.5.1 laboratory results: one ORU^R01 message per visit in a batch file per block.

Segments end in a carriage return, as the standard asks; FHS and BHS open the file, BTS (with the number of
messages) and FTS close it. Corrected results follow in their own messages, with status C.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from trialops.synthetic.analytes import UCUM
from trialops.synthetic.dates import iso
from trialops.synthetic.people import people
from trialops.synthetic.population import Population
from trialops.synthetic.protocol import STUDY, Sites
from trialops.synthetic.text_rows import fill

if TYPE_CHECKING:
    import polars as pl

HEADER = (
    r"MSH|^~\&|LIS|CENTRALLAB|TRIALOPS|<SITE>|<SENT>||ORU^R01^ORU_R01|<MESSAGE>|P|2.5.1"
    "\r"
    rf"PID|1||<MRN>^^^SITE<SITE>^MR~<USUBJID>^^^{STUDY}^PI||<LAST>^<FIRST>||<BIRTH>|<SEX>|||"
    r"<STREET>^^<CITY>^<STATE>^<POSTAL>^USA||^PRN^PH^^1^<AREA>^<LOCAL>"
    "\r"
    r"OBR|1|<MESSAGE>-R|<ACCESSION>^LIS|SAFETY^Safety laboratory panel^L|||<TAKEN>|||||||||"
    r"^<CLINICIAN>||||||<SENT>|||<STATUS>"
    "\r"
)
RESULT = (
    r"OBX|<LINE>|NM|<LOINC>^<LBTEST>^LN|1|<LBORRES>|<UCUM>^^UCUM|<LBORNRLO>-<LBORNRHI>|<FLAG>|||<STATUS>|||<TAKEN>"
    "\r"
)


def _messages(rows: pl.DataFrame, identity: pl.DataFrame) -> pl.Series:
    """Group LB rows (with STATUS, SENT and MARK) to messages per subject, visit and sending time."""
    import polars as pl

    rows = rows.with_columns(
        UCUM=pl.col("LBORRESU").replace_strict(UCUM),
        FLAG=pl.col("LBNRIND").str.slice(0, 1),
        TAKEN=pl.col("LBDTC").str.replace_all("[-T:]", ""),
        LINE=pl.int_range(pl.len()).over("USUBJID", "VISITNUM", "SENT") + 1,
    )
    rows = rows.with_columns(SENT=pl.when(pl.col("SENT") == "").then(pl.col("TAKEN")).otherwise(pl.col("SENT")))
    heads = (
        rows.with_columns(RESULTS=fill(rows, RESULT))
        .group_by("USUBJID", "VISITNUM", "SENT", maintain_order=True)
        .agg(pl.first("STATUS", "TAKEN", "MARK"), pl.col("RESULTS").str.join(""))
        .join(identity, on="USUBJID", how="left", maintain_order="left")
        .with_columns(
            ACCESSION=pl.format(
                "A{}{}",
                pl.col("USUBJID").str.slice(-6),
                (pl.col("VISITNUM") * 10).cast(pl.Int64).cast(pl.String).str.zfill(4),
            )
        )
        .with_columns(MESSAGE=pl.format("{}{}", "ACCESSION", "MARK"))
    )
    return fill(heads, HEADER + "<RESULTS>")


def write_block(
    folder: Path,
    block: int,
    p: Population,
    sites: Sites,
    seed: int,
    labs: pl.DataFrame,
    corrected: pl.DataFrame,
) -> int:
    """Write the laboratory messages of a block.

    Args:
        folder: The hl7 folder.
        block: Block number; it names the file.
        p: The block.
        sites: Site layout.
        seed: Seed of the trial.
        labs: LB rows with LOINC, as first reported.
        corrected: LB rows as corrected, with RECEIVED (date text).

    Returns:
        Messages written.
    """
    import polars as pl

    persons = people(p, seed)
    identity = pl.DataFrame(
        {
            "USUBJID": [f"01-{sites.ids[s]}-{n}" for s, n in zip(p.site, p.subject_numbers, strict=True)],
            "SITE": [sites.ids[s] for s in p.site],
            "BIRTH": iso(p.birth).str.replace_all("-", ""),
            "SEX": ["F" if f else "M" for f in p.female],
            **{
                name.upper(): [getattr(who, name) for who in persons]
                for name in (
                    "first",
                    "last",
                    "street",
                    "city",
                    "state",
                    "postal",
                    "area",
                    "local",
                    "mrn",
                    "clinician",
                )
            },
        }
    ).with_columns(pl.col("LOCAL").str.replace_all("-", ""))
    groups = [_messages(labs.with_columns(STATUS=pl.lit("F"), SENT=pl.lit(""), MARK=pl.lit("")), identity)]
    if corrected.height:
        sent = pl.col("RECEIVED").str.replace_all("-", "") + "0000"
        groups.append(
            _messages(
                corrected.with_columns(STATUS=pl.lit("C"), SENT=sent, MARK=pl.format("C{}", sent.str.slice(0, 8))),
                identity,
            )
        )
    count = sum(len(g) for g in groups)
    name = f"{STUDY}-{block:04d}"
    with (folder / f"labs-{block:04d}.hl7").open("wb") as file:
        file.write(
            b"FHS|^~\\&|LIS|CENTRALLAB|TRIALOPS||||%s\rBHS|^~\\&|LIS|CENTRALLAB|TRIALOPS||||%s\r"
            % (name.encode(), name.encode())
        )
        for group in groups:
            file.write(group.str.join("").item().encode())
        file.write(b"BTS|%d\rFTS|1\r" % count)
    return count
