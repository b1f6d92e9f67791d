"""Which statement counts: the laboratory results a trial holds, from everything laboratories ever said.

The result is a function of the set of statements, so it is the same whatever order they came in and however often.
For one (subject, order, test, sub-id, collection time):

* the same statement again (same message, or same status and content under another message) counts once, from when
  it was first made;
* a preliminary statement (P, R, S) never replaces a final one;
* among the others the one reported last counts; at the same time a correction (C) before a final result (F), and a
  withdrawal (W, D) before both;
* W and D withdraw the result; X is a result that could not be obtained (NOT DONE); U makes the preliminary final.

A final result that changes another without saying so (F after F) counts by the same rule and is reported.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trialops.intake.hl7_labs import PRELIMINARY
from trialops.intake.hl7_standard import standardised
from trialops.intake.subjects import REASONS, Subjects

if TYPE_CHECKING:
    import polars as pl

KEY = ("USUBJID", "ORDER", "TEST", "SUBID", "LBDTC")
VALUE = ("VALUE_TYPE", "LBORRES", "LBORRES_CODE", "LBORRESU", "LBORNRLO", "LBORNRHI", "LBORNR", "LBNRIND")
RANK = {"F": 1, "U": 1, "X": 1, "C": 2, "W": 3, "D": 3}
"""At the same time of reporting the higher one counts; preliminary statuses have 0."""

LB = (
    "STUDYID", "DOMAIN", "USUBJID", "LBSEQ", "LBREFID", "LBTESTCD", "LBTEST", "LBLOINC", "LBORRES", "LBORRESU",
    "LBORNRLO", "LBORNRHI", "LBSTRESC", "LBSTRESN", "LBSTRESU", "LBSTNRLO", "LBSTNRHI", "LBNRIND", "LBSTAT", "LBSPEC",
    "LBNAM", "LBMETHOD", "LBDTC",
)  # fmt: skip
PROVENANCE = (
    "STATUS", "REPORTED", "PLACER", "PANEL", "SUBID", "LOCAL_CODE", "LBORRES_CODE", "LBORNR", "VALUE_TYPE",
    "SENDER", "MESSAGE_ID", "SEGMENT_NO", "REPLACED", "FILE_SHA", "_SOURCE", "_ROW", "_RECEIVED",
)  # fmt: skip

WORDS = {
    "REPLAYED": "the same statement came before",
    "SUPERSEDED": "a later or more final statement of the same result counts",
    "WITHDRAWN": "the laboratory withdrew the result",
    "WITHDRAWAL": "withdraws a result",
    "ORDER_OF_TWO_SUBJECTS": "the accession number belongs to results of another subject too",
    "MESSAGE_ID_REUSED": "the sender used this message's control id for another message before",
    "REQUISITION_DISAGREES": "the requisition of this order is another subject's",
    "NOTHING_TO_CONFIRM": "OBX-11 is U and no preliminary result came",
    **REASONS,
}
IGNORED = ("REPLAYED", "SUPERSEDED", "WITHDRAWN", "WITHDRAWAL")


@dataclass(frozen=True)
class Results:
    """The results as of now.

    Attributes:
        rows: One row per result that counts; the columns of LB and PROVENANCE.
        dispositions: Every statement with FILE_SHA, RECORD, MESSAGE_NO, SEGMENT_NO and DISPOSITION: "loaded" or
            one of WORDS.
        unmatched: One line per identifier set that matched nobody: QUEUE (id), REASON, IDENTIFIERS, RESULTS,
            MESSAGES, FIRST, LAST (collection times). Holds identifiers: sealed zone only.
        changed: Results whose final value was changed without a correction status.
        flags_disagree: Results whose flag contradicts their numeric range.
    """

    rows: pl.DataFrame
    dispositions: pl.DataFrame
    unmatched: pl.DataFrame
    changed: int
    flags_disagree: int


def current(
    statements: pl.DataFrame,
    subjects: Subjects,
    *,
    study: str,
    labels: Mapping[str, str],
    requisitions: pl.DataFrame | None = None,
) -> Results:
    """Dispose of every statement and give the results that count.

    Args:
        statements: All that ever came; see :func:`hl7_labs.schema`.
        subjects: Whom the trial knows.
        study: STUDYID of the rows.
        labels: File label by SHA-256, for `_SOURCE`; a file of an earlier delivery is called by its digest.
        requisitions: What was ordered; see :mod:`hl7_orders`. A result for another subject than the order's is
            set aside.
    """
    import polars as pl

    from trialops.intake.hl7_orders import ordered_for

    order = ["REPORTED", "SENT", "SENDER", "MESSAGE_ID", "CONTENT", "MESSAGE_NO", "RECORD", "FILE_SHA"]
    all_of_them = statements.unique(["FILE_SHA", "RECORD"]).sort(order).with_row_index("_at")
    all_of_them = _replays(all_of_them)
    matched = _match(all_of_them, subjects)
    matched = matched.with_columns(
        # The filler's number where there is one: it is the laboratory that numbers tubes.
        ORDER=pl.when(pl.col("ACCESSION") != "").then("ACCESSION").otherwise("PLACER"),
        TEST=pl.when(pl.col("LBLOINC") != "").then("LBLOINC").otherwise("LOCAL_CODE"),
        _stage=pl.when(pl.col("STATUS").is_in(PRELIMINARY)).then(0).otherwise(1),
        _rank=pl.col("STATUS").replace_strict(RANK, default=0, return_dtype=pl.Int64),
    )
    usable = pl.col("DISPOSITION").is_null()
    if requisitions is not None:
        other = ordered_for(matched, requisitions)
        matched = matched.with_columns(
            DISPOSITION=pl.when(usable & (other != pl.col("USUBJID")).fill_null(False))
            .then(pl.lit("REQUISITION_DISAGREES"))
            .otherwise("DISPOSITION")
        )
    shared = pl.when(usable).then("USUBJID").drop_nulls().n_unique().over("SENDER", "ORDER") > 1
    matched = matched.with_columns(
        DISPOSITION=pl.when(usable & shared).then(pl.lit("ORDER_OF_TWO_SUBJECTS")).otherwise("DISPOSITION")
    )
    counted, changed = _supersede(matched.filter(usable))
    disposed = (
        matched.join(counted.select("_at", "_fate"), on="_at", how="left")
        .with_columns(DISPOSITION=pl.coalesce("DISPOSITION", "_fate"))
        .sort("FILE_SHA", "RECORD")
    )
    rows = _shape(counted.filter(pl.col("_fate") == "loaded"), study, labels)
    return Results(
        rows,
        disposed.select("FILE_SHA", "RECORD", "MESSAGE_NO", "SEGMENT_NO", "DISPOSITION"),
        _unmatched(disposed, subjects),
        changed,
        _contradicting_flags(rows),
    )


def _replays(frame: pl.DataFrame) -> pl.DataFrame:
    """Mark messages that came before, and control ids used twice for different messages."""
    import polars as pl

    message = ["SENDER", "MESSAGE_ID"]
    # The first place a message's content is found in counts; a control id belongs to the content that used it first.
    place = pl.concat_str("FILE_SHA", pl.col("MESSAGE_NO").cast(pl.String).str.zfill(9), separator="/")
    frame = frame.with_columns(_place=place)
    return frame.with_columns(
        DISPOSITION=pl.when(pl.col("CONTENT") != pl.col("CONTENT").first().over(message))
        .then(pl.lit("MESSAGE_ID_REUSED"))
        .when(pl.col("_place") != pl.col("_place").first().over([*message, "CONTENT"]))
        .then(pl.lit("REPLAYED"))
    )


def _match(frame: pl.DataFrame, subjects: Subjects) -> pl.DataFrame:
    """Add USUBJID, and a reason to those who match nobody."""
    import polars as pl

    who = frame.select("IDENTIFIERS", "SEX").unique(maintain_order=True)
    found = [subjects.match(pairs_of(i), s) for i, s in who.iter_rows()]
    named = who.with_columns(
        pl.Series("USUBJID", [m.subject or None for m in found], dtype=pl.String),
        pl.Series("_why", [m.reason or None for m in found], dtype=pl.String),
    )
    return frame.join(named, on=["IDENTIFIERS", "SEX"], how="left", maintain_order="left").with_columns(
        DISPOSITION=pl.coalesce("DISPOSITION", "_why")
    )


def pairs_of(identifiers: str) -> list[tuple[str, str]]:
    """(identifier, authority) pairs of a statement's IDENTIFIERS."""
    lines = [line.split("\t") for line in identifiers.split("\n") if line]
    return [(parts[0], parts[1] if len(parts) > 1 else "") for parts in lines]


def _supersede(frame: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """Give every statement its `_fate`; also the number of results changed by a final one."""
    import polars as pl

    said = [*KEY, "STATUS", *VALUE]
    frame = frame.with_columns(_again=pl.int_range(pl.len()).over(said) > 0)
    first = frame.filter(~pl.col("_again")).sort("_stage", "REPORTED", "_rank", "_at")
    # U carries no value: it is that of the newest preliminary statement.
    confirmed = pl.col("STATUS") == "U"
    first = first.with_columns(
        pl.when(confirmed & (pl.col("LBORRES") == ""))
        .then(pl.when(pl.col("STATUS").is_in(PRELIMINARY)).then(c).forward_fill().over(KEY))
        .otherwise(c)
        .alias(c)
        for c in VALUE
    )
    last = pl.int_range(pl.len()).over(KEY) == pl.len().over(KEY) - 1
    withdrawn = pl.col("STATUS").is_in(["W", "D"])
    fate = (
        pl.when(last & confirmed & (pl.col("LBORRES").fill_null("") == ""))
        .then(pl.lit("NOTHING_TO_CONFIRM"))
        .when(withdrawn)
        .then(pl.lit("WITHDRAWAL"))
        .when(last)
        .then(pl.lit("loaded"))
        .when(withdrawn.last().over(KEY))
        .then(pl.lit("WITHDRAWN"))
        .otherwise(pl.lit("SUPERSEDED"))
    )
    final = pl.col("STATUS") == "F"
    value = pl.when(final).then("LBORRES")
    first = first.with_columns(_fate=fate, REPLACED=(pl.len().over(KEY) - 1).cast(pl.Int64))
    changed = first.filter(final).select(*KEY, n=value.n_unique().over(KEY)).filter(pl.col("n") > 1).unique(KEY).height
    again = frame.filter("_again").with_columns(_fate=pl.lit("REPLAYED"), REPLACED=pl.lit(0, pl.Int64))
    return pl.concat([first, again]), changed


def _shape(frame: pl.DataFrame, study: str, labels: Mapping[str, str]) -> pl.DataFrame:
    import polars as pl

    done = pl.col("STATUS") != "X"
    shaped = frame.sort(*KEY).with_columns(
        STUDYID=pl.lit(study),
        DOMAIN=pl.lit("LB"),
        LBSEQ=(pl.int_range(pl.len()).over("USUBJID") + 1).cast(pl.Float64),
        LBREFID=pl.col("ORDER"),
        LBSTAT=pl.when(~done).then(pl.lit("NOT DONE")),
        LBORRES=pl.when(done).then("LBORRES"),
        _SOURCE=pl.col("FILE_SHA").replace_strict(dict(labels), default=pl.col("FILE_SHA").str.slice(0, 8)),
        _ROW=pl.col("RECORD"),
        _RECEIVED=pl.col("SENT").str.slice(0, 10).str.to_date("%Y-%m-%d", strict=False),
    )
    texts = [c for c in shaped.columns if shaped.schema[c] == pl.String]
    empty = [pl.when(pl.col(c) != "").then(c).alias(c) for c in texts]
    return standardised(shaped.with_columns(empty)).select(*LB, *PROVENANCE)


def _unmatched(disposed: pl.DataFrame, subjects: Subjects) -> pl.DataFrame:
    import polars as pl

    waiting = disposed.filter(pl.col("DISPOSITION").is_in(list(REASONS)))
    grouped = (
        waiting.group_by("IDENTIFIERS", REASON="DISPOSITION")
        .agg(
            RESULTS=pl.len().cast(pl.Int64),
            MESSAGES=pl.struct("SENDER", "MESSAGE_ID").n_unique().cast(pl.Int64),
            FIRST=pl.col("LBDTC").min(),
            LAST=pl.col("LBDTC").max(),
        )
        .sort("FIRST", "IDENTIFIERS", "REASON")
    )
    pairs = [pairs_of(i) for i in grouped["IDENTIFIERS"]]
    queue = [subjects.enqueue(*p[0]) if p else "" for p in pairs]
    return grouped.select(
        pl.Series("QUEUE", queue, dtype=pl.String), "REASON", "IDENTIFIERS", "RESULTS", "MESSAGES", "FIRST", "LAST"
    )


def _contradicting_flags(rows: pl.DataFrame) -> int:
    """Numeric results whose low or high flag their own range contradicts."""
    import polars as pl

    value, low, high = (pl.col(c).cast(pl.Float64, strict=False) for c in ("LBORRES", "LBORNRLO", "LBORNRHI"))
    expected = (
        pl.when(value < low).then(pl.lit("LOW")).when(value > high).then(pl.lit("HIGH")).otherwise(pl.lit("NORMAL"))
    )
    ranged = (
        value.is_not_null()
        & low.is_not_null()
        & high.is_not_null()
        & pl.col("LBNRIND").is_in(["LOW", "HIGH", "NORMAL"])
    )
    return rows.filter(ranged & (expected != pl.col("LBNRIND"))).height
