"""What was known about a subject on each study day: record versions over knowledge time.

A record version is visible from its arrival (the later of its event day and its KNOWNDY) until the arrival of
the next version of the same record. Times are packed with the subject's code into one integer, the `stamp`,
so that every as-of look-up is one linear merge of two sorted columns instead of a join per subject.

Days in here are ordinals (see `study_time`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from trialops.errors import TrialOpsError
from trialops.features import study_time

if TYPE_CHECKING:
    import polars as pl

    from trialops.features.definitions import Source

SPAN_BITS = 20
HALF = 1 << (SPAN_BITS - 1)
#: Bits of a rank that tell records of one day apart; record ids must stay below.
ID_BITS = 32


@dataclass(frozen=True)
class Note:
    """Rows of a table that features could not use, and why."""

    table: str
    what: str
    rows: int


def stamp(code: pl.Expr, ordinal: pl.Expr) -> pl.Expr:
    """Subject code and knowledge day as one sortable Int64."""
    import polars as pl

    return code.cast(pl.Int64) * (1 << SPAN_BITS) + (ordinal.cast(pl.Int64) + HALF)


def code_of(stamp: pl.Expr) -> pl.Expr:
    """Subject code of a stamp."""
    return stamp // (1 << SPAN_BITS)


def ordinal_of(stamp: pl.Expr) -> pl.Expr:
    """Knowledge day (ordinal, Int32) of a stamp."""
    import polars as pl

    return (stamp % (1 << SPAN_BITS) - HALF).cast(pl.Int32)


def versions(
    frame: pl.DataFrame, source: Source, subjects: pl.Series, columns: list[str]
) -> tuple[pl.DataFrame, list[Note]]:
    """Record versions of one clean table, each with the interval in which it was the current one.

    Args:
        frame: Clean table with USUBJID, KNOWNDY, its id and event columns.
        source: Names of the id and event columns.
        subjects: Sorted distinct subject ids; a subject's code is the position in it.
        columns: Further columns to carry; those the table lacks are carried as null.

    Returns:
        Rows with code (UInt32), arrival, until (null: still current), event (Int32 ordinals), rank (Int64:
        order of records by event day, then id) and the columns; and notes on rows left out and columns
        lacking.

    Raises:
        TrialOpsError: A needed column is missing, or a day is 0 or out of all bounds.
    """
    import polars as pl

    needed = ["USUBJID", "KNOWNDY", *(c for c in (source.id, source.event) if c)]
    if missing := [c for c in needed if c not in frame.columns]:
        raise TrialOpsError(
            f"The clean table lacks {', '.join(missing)}.",
            where=f"table {source.table}",
            fix="Run the intake and de-identification steps that add study days and KNOWNDY.",
        )
    days = {c: frame[c].cast(pl.Int32) for c in ("KNOWNDY", source.event) if c}
    for name, values in days.items():
        if (wrong := int(((values == 0) | (values.abs() >= HALF - 1)).sum())) > 0:
            raise TrialOpsError(
                f"{wrong} rows have study day 0 or a day beyond all bounds.",
                where=f"table {source.table}, column {name}",
                fix="Study days have no day 0; correct the step that made them from dates.",
            )
    known = study_time.ordinal(pl.col("KNOWNDY"))
    event = pl.coalesce(study_time.ordinal(pl.col(source.event)), known) if source.event else known
    identity: pl.Expr = pl.lit(0, dtype=pl.Int64)
    if source.id:
        # Ids that are not whole (VISITNUM 3.1) keep their order as ranks; an integer stands for itself.
        whole = frame[source.id].dtype.is_integer()
        identity = pl.col(source.id).cast(pl.Int64) if whole else pl.col(source.id).rank("dense").cast(pl.Int64)
    carried = list(dict.fromkeys(columns))
    selected = frame.lazy().select(
        pl.col("USUBJID").cast(pl.Enum(subjects)).to_physical().cast(pl.UInt32).alias("code"),
        known.alias("known"),
        event.alias("event"),
        identity.alias("id"),
        *(pl.col(c) if c in frame.columns else pl.lit(None, dtype=pl.Float64).alias(c) for c in carried),
    )
    usable = pl.all_horizontal(pl.col("code", "known", "id").is_not_null())
    work = selected.with_columns(arrival=pl.max_horizontal("event", "known")).filter(usable).collect()
    lacking = [c for c in carried if c not in frame.columns]
    notes = [
        Note(source.table, f"lack the column {c}: features that need it stay empty", frame.height) for c in lacking
    ]
    if left_out := frame.height - work.height:
        notes.append(Note(source.table, "without subject, record number or a day on which they became known", left_out))
    if not work["id"].is_between(0, (1 << ID_BITS) - 1).all():
        raise TrialOpsError(
            "Record numbers are negative or too large.",
            where=f"table {source.table}, column {source.id}",
            fix="Use the sequence numbers of SDTM.",
        )
    return _superseded(work).drop("known", "id"), notes


def _superseded(work: pl.DataFrame) -> pl.DataFrame:
    """Add `until` and `rank`; drop versions that never were current; sort only records with several."""
    import polars as pl

    rank = (pl.col("event").cast(pl.Int64) + HALF) * (1 << ID_BITS) + pl.col("id")
    work = work.with_columns(rank=rank, until=pl.lit(None, dtype=pl.Int32))
    record = work.select(pl.col("code").cast(pl.Int64) * (1 << ID_BITS) + pl.col("id")).to_series()
    several = record.is_duplicated()
    if not several.any():
        return work
    chain = work.filter(several).with_row_index("_row").sort("code", "id", "known", "_row")
    # A later-known version may be visible first (its event day was moved back): it rules from then on.
    later = pl.col("arrival").reverse().cum_min().reverse().shift(-1).over("code", "id")
    chain = chain.with_columns(until=later).filter(pl.col("until").is_null() | (pl.col("until") > pl.col("arrival")))
    return pl.concat([work.filter(~several), chain.drop("_row")])


def ended(rows: pl.DataFrame, end: str, visits: pl.DataFrame | None) -> pl.DataFrame:
    """Add `over`: the day (ordinal) from which a version's end is in effect; null while that is not known.

    An end before the version arrived was known with it. A later one was entered at some visit; the first one that can
    have brought it is the first after the arrival on or after the end. It takes effect on the day after the end.

    Args:
        rows: Versions, with the study day of the end.
        end: Name of that column.
        visits: Versions of the table of visits; None where the table keeps none and an end counts from its own day.
    """
    import polars as pl

    last = study_time.ordinal(pl.col(end))
    if visits is None:
        return rows.with_columns(over=pl.when(last.is_not_null()).then(pl.max_horizontal(pl.col("arrival"), last + 1)))
    seen = (
        visits.sort("code", "event", "arrival")
        .select(
            pl.col("code").cast(pl.Int64).alias("_of"),
            stamp(pl.col("code"), pl.col("event")).alias("_stamp"),
            # A visit may be reported later than another one after it.
            pl.col("arrival").reverse().cum_min().reverse().over("code").alias("_known"),
        )
        .unique("_stamp", keep="first", maintain_order=True)
    )
    asked = rows.with_row_index("_row").with_columns(_last=last)
    late = asked.filter(pl.col("_last") >= pl.col("arrival")).select(
        "_row",
        "code",
        _stamp=stamp(pl.col("code"), pl.max_horizontal("_last", pl.col("arrival") + 1)),
    )
    found = late.sort("_stamp").join_asof(seen.sort("_stamp"), on="_stamp", strategy="forward")
    found = found.filter(pl.col("_of") == pl.col("code").cast(pl.Int64)).select("_row", "_known")
    over = (
        pl.when(pl.col("_last") < pl.col("arrival"))
        .then(pl.col("arrival"))
        .when(pl.col("_known").is_not_null())
        .then(pl.max_horizontal("_known", pl.col("_last") + 1))
    )
    joined = asked.join(found, on="_row", how="left", maintain_order="left")
    return joined.with_columns(over=over).drop("_row", "_last", "_known")


def as_of(rows: pl.DataFrame) -> pl.DataFrame:
    """The records current on each day their subject's set of records changed: column `on` (ordinal).

    Quadratic in the records of one subject, so only for subjects whose corrections cannot be folded in one
    pass.
    """
    import polars as pl

    changes = pl.concat([rows.select("code", on="arrival"), rows.select("code", on="until").drop_nulls()]).unique()
    current = (pl.col("arrival") <= pl.col("on")) & (pl.col("until").is_null() | (pl.col("until") > pl.col("on")))
    return changes.join(rows, on="code", how="left").filter(current).sort("code", "on", "rank")


def changes(rows: pl.DataFrame) -> pl.DataFrame:
    """Every stamp at which the rows change."""
    import polars as pl

    return (
        pl.concat(
            [
                rows.select(stamp=stamp(pl.col("code"), pl.col("arrival"))),
                rows.filter(pl.col("until").is_not_null()).select(stamp=stamp(pl.col("code"), pl.col("until"))),
            ]
        )
        .unique()
        .sort("stamp")
    )


def spine(*states: pl.DataFrame) -> pl.DataFrame:
    """Every stamp of some states, sorted."""
    import polars as pl

    none = pl.DataFrame(schema={"stamp": pl.Int64})
    return pl.concat([none, *(s.select("stamp") for s in states)]).unique().sort("stamp")


def look_up(stamps: pl.DataFrame, state: pl.DataFrame) -> pl.DataFrame:
    """The state in force at each stamp, without the stamp; null before a subject's first row.

    Args:
        stamps: Column stamp, sorted.
        state: Column stamp, sorted and unique, and payload.
    """
    import polars as pl

    payload = [c for c in state.columns if c != "stamp"]
    right = state.with_columns(pl.col("stamp").set_sorted(), _at=pl.col("stamp"))
    found = stamps.select(pl.col("stamp").set_sorted()).join_asof(right, on="stamp", strategy="backward")
    own = code_of(pl.col("_at")) == code_of(pl.col("stamp"))
    return found.select(pl.when(own).then(pl.col(c)).alias(c) for c in payload)
