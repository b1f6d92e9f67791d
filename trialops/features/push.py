"""Feature rows that come in between two runs, such as late laboratory values: to the online store at once, and kept.

A pushed row is a row of a view as it is known on a study day. It is written down first (a lake table, named by a chain
of manifests) and put online second: if the second fails, the next materialisation makes up for it. What is built from
the clean data later may say something else of the same day; `merged` decides between the two.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from trialops.errors import TrialOpsError
from trialops.features import study_time
from trialops.stores.online.writer import Written, open_writer

if TYPE_CHECKING:
    import polars as pl

    from trialops.stores.context import Step
    from trialops.stores.online.spec import FeatureServiceSpec, ViewSpec
    from trialops.stores.refs import TableRef

#: Column that names the built table a pushed row was added to, as JSON; "" where there was none.
BUILT = "_built"


@dataclass(frozen=True)
class Pushed:
    """What a push did.

    Attributes:
        view: The view.
        table: The lake table that holds the rows.
        online: What the online store did with them.
    """

    view: str
    table: TableRef
    online: Written


def push(
    run: Step,
    services: Sequence[FeatureServiceSpec],
    view: str,
    rows: pl.DataFrame,
    *,
    today: int | Mapping[str, int],
    url: str,
) -> Pushed:
    """Take in rows of a view.

    All or nothing: one row that cannot be taken refuses the push. The same push again changes nothing.

    Args:
        run: The step, for the lake and the audit trail.
        services: Specifications; one of them has the view.
        view: Name of the view.
        rows: The keys, event_timestamp (datetime UTC), every feature of the view (numbers, null where unknown), and
            created where it differs from event_timestamp: when the row became known.
        today: The present study day, one for all, or by value of the first join key (study days of different subjects
            have no common beginning).
        url: The online store.

    Raises:
        TrialOpsError: A column is missing or unknown, a row lies in the future, became known before it happened, or
            is of somebody whose present study day is not known; or a store fails. Messages hold counts alone.
    """
    service = _service(services, view)
    spec = service.view(view)
    taken = checked(service, spec, rows, today)
    kept = _keep(run, spec, taken)
    with open_writer(url, service) as writer:
        online = writer.write(view, taken)
    run.audit("features.push", view, kept.digest, rows=taken.height, written=online.written, kept=online.kept)
    return Pushed(view, kept, online)


def checked(
    service: FeatureServiceSpec, view: ViewSpec, rows: pl.DataFrame, today: int | Mapping[str, int]
) -> pl.DataFrame:
    """Rows in the view's own form, sorted.

    Raises:
        TrialOpsError: As for :func:`push`.
    """
    import polars as pl

    where = f"push to {view.name}"
    keys = list(service.join_keys)
    known = {*keys, "event_timestamp", "created", *view.columns}
    missing = [c for c in (*keys, "event_timestamp", *view.columns) if c not in rows.columns]
    if missing or (unknown := [c for c in rows.columns if c not in known]):
        what = f"The column {missing[0]} is missing." if missing else f"The column {unknown[0]} is not of this view."
        raise TrialOpsError(what, where=where, fix="Give keys, event_timestamp and exactly the features of the view.")
    if rows.is_empty():
        raise TrialOpsError("The push holds no rows.", where=where, fix="Send at least one row.")
    if "created" not in rows.columns:
        rows = rows.with_columns(created=pl.col("event_timestamp"))
    for column in ("event_timestamp", "created"):
        if getattr(rows.schema[column], "time_zone", "") != "UTC":
            raise TrialOpsError(
                f"The column {column} is no time in UTC.", where=where, fix="Use timestamps of study time, in UTC."
            )
    if wrong := [c for c in view.columns if not (rows.schema[c].is_numeric() or rows.schema[c] == pl.Null)]:
        raise TrialOpsError(f"The feature {wrong[0]} is no number.", where=where, fix="Send numbers, null for unknown.")
    if wrong := [c for c in keys if rows.schema[c] != pl.String]:
        raise TrialOpsError(f"The key {wrong[0]} is not text.", where=where, fix="Send pseudonyms as text.")
    rows = rows.select(
        *keys,
        *(pl.col(c).cast(pl.Datetime("us", "UTC")) for c in ("event_timestamp", "created")),
        *(pl.col(c).cast(pl.Float64).fill_nan(None) for c in view.columns),
    )
    _refuse(
        rows.select(pl.any_horizontal(pl.col(*keys, "event_timestamp", "created").is_null())),
        "lack a key or time",
        where,
    )
    early = pl.col("created") < pl.col("event_timestamp")
    _refuse(rows.select(early), "became known before they happened", where)
    _refuse(
        rows.select(_ahead(rows, keys[0], today)), "lie in the future, or their study day today is not known", where
    )
    endless = pl.any_horizontal([pl.col(c).is_infinite().fill_null(False) for c in view.columns])
    _refuse(rows.select(endless), "hold an infinite number", where)
    order = [*keys, "event_timestamp", "created"]
    return rows.sort(order, maintain_order=True).unique([*keys, "event_timestamp"], keep="last", maintain_order=True)


def _ahead(rows: pl.DataFrame, key: str, today: int | Mapping[str, int]) -> pl.Expr:
    """Whether a row is later than the end of the present study day, or that day is unknown."""
    import polars as pl

    if isinstance(today, int):
        end = pl.lit(study_time.timestamp_of(today) + timedelta(days=1)).cast(pl.Datetime("us", "UTC"))
    else:
        names = rows[key].unique().drop_nulls().to_list()
        ends = {n: study_time.timestamp_of(today[n]) + timedelta(days=1) for n in names if n in today}
        end = pl.col(key).replace_strict(
            list(ends), list(ends.values()), default=None, return_dtype=pl.Datetime("us", "UTC")
        )
    return (pl.col("created") >= end).fill_null(True)


def _refuse(marks: pl.DataFrame, what: str, where: str) -> None:
    if count := int(marks.to_series().sum()):
        raise TrialOpsError(
            f"{count} of {marks.height} rows {what}; nothing was taken.",
            where=where,
            fix="Correct or leave out these rows, and send the rest again.",
        )


def _service(services: Sequence[FeatureServiceSpec], view: str) -> FeatureServiceSpec:
    for service in services:
        if any(held.name == view for held in service.views):
            return service
    raise TrialOpsError(
        "The view of a push belongs to no feature service.",
        where="push",
        fix="Use one of " + ", ".join(v.name for s in services for v in s.views) + ".",
    )


# -- what was pushed, kept in the lake ---------------------------------------------------------------------------------


def _chain(view: str) -> str:
    return f"pushed_{view}"


def _keep(run: Step, view: ViewSpec, rows: pl.DataFrame) -> TableRef:
    """Write the rows as a table of their own, and name it in the chain: pushes at one time do not lose each other.

    Two writers that replace one Delta table at once can leave a version that holds the files of both.
    """
    import polars as pl
    from deltalake.exceptions import CommitFailedError

    from trialops.features.current import CHAIN
    from trialops.stores.digest import table_digest
    from trialops.stores.refs import Snapshot

    manifests = run.lake.manifests(CHAIN)
    built = manifests[-1].snapshot.tables.get(view.name) if manifests else None
    named = rows.with_columns(pl.lit(json.dumps(asdict(built), sort_keys=True) if built else "").alias(BUILT))
    digest = table_digest(named.to_arrow(compat_level=pl.CompatLevel.oldest()))
    try:
        ref = run.lake.write(f"pushed/{view.name}/p{digest[:24]}", named, run_id=run.run_id, step=run.name)
    except CommitFailedError:  # the same push at the same time came first
        ref = run.lake.write(f"pushed/{view.name}/p{digest[:24]}", named, run_id=run.run_id, step=run.name)
    run.lake.mark_validated(_chain(view.name), Snapshot({view.name: ref}), {}, run_id=run.run_id)
    return ref


def pushed(run: Step, view: str) -> pl.DataFrame | None:
    """Every row pushed to a view, in the order of the pushes; None where there is none."""
    import polars as pl

    refs: dict[TableRef, None] = {}
    for manifest in run.lake.manifests(_chain(view)):
        ref = manifest.snapshot.tables[view]
        refs.pop(ref, None)  # the same push again comes after those in between
        refs[ref] = None
    if not refs:
        return None
    return pl.concat([_kept(run, ref) for ref in refs], how="diagonal")


def _kept(run: Step, ref: TableRef) -> pl.DataFrame:
    """A push as it is now: erasure of a subject writes its table again."""
    import polars as pl

    from trialops.stores.refs import TableRef

    if not run.lake.disposed(ref.table, ref.version):
        return run.lake.read(ref)
    newest = run.lake.versions(ref.table)[0]
    if run.lake.disposed(ref.table, newest["version"]):
        return pl.DataFrame()
    return run.lake.read(TableRef(ref.table, newest["version"], newest["rows"], newest["digest"]))


def merged(run: Step, service: FeatureServiceSpec, view: str, built: pl.DataFrame) -> pl.DataFrame:
    """Rows of a view as built from the clean data, with the pushed ones that still stand.

    Where both have a row of the same key and time, the pushed one stands as long as the clean data say of that time
    what they said when it came in. Once they say something else, they have caught up, and theirs counts. Pushed rows of
    subjects whose processing is restricted (Art. 18 GDPR) are left out, as their other data are.

    Args:
        run: The step, for the lake.
        service: The view's service.
        view: Its name.
        built: Rows from `feature_views`.

    Returns:
        Rows in the built form, sorted by key and time.
    """
    import polars as pl

    from trialops.privacy.requests import restricted
    from trialops.stores.refs import TableRef

    rows = pushed(run, view)
    if rows is None or rows.is_empty():
        return built
    keys = [*service.join_keys, "event_timestamp"]
    columns = [*keys, "created", *service.view(view).columns]
    rows = rows.with_columns(pl.lit(None, pl.Float64).alias(c) for c in columns if c not in rows.columns)
    if "subject_id" in keys:
        barred = sorted(restricted(run.engine, run.settings.study))
        rows = rows.filter(~pl.col("subject_id").is_in(barred))
    rows = rows.unique(keys, keep="last", maintain_order=True)
    built = built.select(columns)
    ties = built.join(rows.select(*keys, BUILT), on=keys, how="inner")
    lost = ties.clear().select(keys)
    for (text,), some in ties.group_by(BUILT):
        held = _then(run, TableRef(**json.loads(str(text)))) if text else None
        now = some.select(columns)
        if held is None or any(c not in held.columns for c in columns):
            lost = pl.concat([lost, now.select(keys)])
        else:
            changed = now.join(held.select(columns), on=columns, how="anti", nulls_equal=True)
            lost = pl.concat([lost, changed.select(keys)])
    standing = rows.select(columns).join(lost, on=keys, how="anti")
    return pl.concat([built.join(standing, on=keys, how="anti"), standing]).sort(*keys, "created")


def _then(run: Step, ref: TableRef) -> pl.DataFrame | None:
    """A built table as it was; None where it was disposed of."""
    from trialops.stores.lake import IntegrityError

    try:
        return run.lake.read(ref)
    except IntegrityError:
        return None
