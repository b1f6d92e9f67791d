"""Carry applied corrections forward: only to the subjects concerned, and only to what was made from their data.

The lineage says which tables were made from the version in use before. Steps that work subject by subject are run for
the subjects concerned, and their rows put beside everybody else's as they were; a table in which nothing changes keeps
its version. What cannot be made subject by subject (training sets, models) is named as outdated, not made anew here.
A full run afterwards gives the same tables, byte for byte.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from trialops.governance.lineage import downstream, run_records, users
from trialops.intake.domains import SOURCE, deliveries
from trialops.quality.correction.register import is_applied
from trialops.stores.refs import Snapshot, TableRef
from trialops.version import code_version

if TYPE_CHECKING:
    import polars as pl

    from trialops.privacy.report import Deidentified
    from trialops.stores.context import Step
    from trialops.stores.lake import Manifest

FEATURES_STEP = "build-features"


@dataclass(frozen=True)
class TableChange:
    """What a correction did to one table.

    Attributes:
        table: Full name.
        before: Version before, -1 where there was none.
        after: Version now; the same where nothing changed.
        rows: Rows of the subjects concerned that were made anew.
        subjects: Subjects whose rows were made anew.
    """

    table: str
    before: int
    after: int
    rows: int
    subjects: int

    @property
    def changed(self) -> bool:
        """Whether there is a new version."""
        return self.after != self.before


@dataclass(frozen=True)
class Reprocessed:
    """What was made anew.

    Attributes:
        clean: The clean tables now.
        features: The feature views now; None where none had been made.
        tables: One line per table looked at.
        subjects: Pseudonyms of the subjects concerned.
        of: All subjects.
        outdated: Steps whose results rest on the version before and are not made anew here: run, step, artifacts.
        full: Why everything had to be made anew instead; empty where it had not.
        cut_moved: Other subjects whose CUTDY changed, because the correction moved the data cut of the trial.
        clean_tables: The clean tables themselves.
    """

    clean: Snapshot
    features: Snapshot | None
    tables: tuple[TableChange, ...]
    subjects: tuple[str, ...]
    of: int
    outdated: tuple[tuple[str, str, str], ...] = ()
    full: str = ""
    cut_moved: int = 0
    clean_tables: Mapping[str, pl.DataFrame] = field(default_factory=dict, repr=False)


def reprocess(
    run: Step,
    raw: Mapping[str, pl.DataFrame],
    corrected: Collection[str],
    base: Manifest,
    made_from: str,
    deidentified: Callable[[Collection[str] | None, Mapping[str, pl.DataFrame] | None], Deidentified],
) -> Reprocessed:
    """Make anew what depends on the corrected subjects' data.

    Args:
        run: The step.
        raw: Raw tables, corrections among them.
        corrected: USUBJIDs that were corrected.
        base: The validated version in use before.
        made_from: Digest of the sealed raw tables before the corrections.
        deidentified: De-identifies, given the subjects wanted and the clean tables of the others; both None for all.

    Returns:
        The tables as they are now, and what was done to each.
    """
    later = downstream(run.objects, base.snapshot.digest)
    before = {name: run.lake.read(ref) for name, ref in base.snapshot.tables.items()}
    full = _why_full(run, raw, before, base, made_from)
    wanted = None if full else sorted(corrected)
    run.progress(f"de-identifying {len(corrected)} of {_subjects(before)} subjects", 0.2)
    result = deidentified(wanted, None if full else before)
    names = result.links.get("subject")
    chosen = _pseudonyms(names, corrected)
    changes, clean = [], {}
    for name, frame in sorted(result.tables.items()):
        ref, change = _written(
            run, f"clean/{name}".lower(), frame, base.snapshot.tables.get(name), chosen, "USUBJID", full
        )
        clean[name] = ref
        changes.append(change)
    snapshot = Snapshot(clean)
    run.progress("building the features of these subjects", 0.6)
    # The day of the data cut is a feature too, of subjects nobody corrected.
    moved = [] if full else _cut_moved(before["DM"], result.tables["DM"], chosen)
    features, more = _features(run, later, result.tables, [*chosen, *moved], full)
    rebuilt = {FEATURES_STEP}
    outdated = tuple(
        (r["run_id"], r["step"], ", ".join(sorted(item["artifact"] for item in r["outputs"])))
        for r in later
        if r["step"] not in rebuilt and snapshot.digest != base.snapshot.digest
    )
    return Reprocessed(
        clean=snapshot,
        features=features,
        tables=tuple(changes + more),
        subjects=tuple(chosen),
        of=_subjects(result.tables),
        outdated=outdated,
        full=full,
        cut_moved=len(moved),
        clean_tables=result.tables,
    )


def _why_full(run: Step, raw: Mapping[str, Any], before: Mapping[str, Any], base: Manifest, made_from: str) -> str:
    """Why it is not enough to make the corrected subjects anew; empty where it is."""
    made = [r for r in users(run.objects, made_from) if base.snapshot.digest in _made(r)]
    # Or the last correction made both the raw tables as they are and the version in use.
    made += [r for r in run_records(run.objects, base.run_id) if {base.snapshot.digest, made_from} <= _made(r)]
    if not made:
        return "the delivery has changed since the version in use was made"
    if made[-1]["code_version"] != code_version():
        return "the version in use was made by another version of the program"
    if set(raw) != set(before):
        return "the delivery has other domains than the version in use"
    files = {file for frame in raw.values() for file in frame[SOURCE].unique()}
    numbers = deliveries(files)
    if not is_applied(max(numbers, key=lambda file: numbers[file])):
        # The numbers that stand for deliveries in the clean tables would be others.
        return "a site's own correction is dated later"
    return ""


def _made(record: Mapping[str, Any]) -> set[str]:
    return {str(item.get("digest", "")) for item in record["outputs"]}


def _pseudonyms(names: pl.DataFrame | None, subjects: Collection[str]) -> list[str]:
    import polars as pl

    if names is None:
        return sorted(subjects)
    return sorted(names.filter(pl.col("raw").is_in(list(subjects)))["pseudonym"].to_list())


def _cut_moved(before: pl.DataFrame, after: pl.DataFrame, chosen: Collection[str]) -> list[str]:
    """Other subjects whose day of the data cut changed."""
    import polars as pl

    both = before.select("USUBJID", was="CUTDY").join(after.select("USUBJID", now="CUTDY"), on="USUBJID")
    moved = both.filter(~pl.col("USUBJID").is_in(list(chosen)) & pl.col("was").ne_missing(pl.col("now")))
    return list(moved["USUBJID"].unique().sort())


def _subjects(tables: Mapping[str, pl.DataFrame]) -> int:
    return int(tables["DM"]["USUBJID"].n_unique()) if "DM" in tables else 0


def _written(
    run: Step,
    table: str,
    frame: pl.DataFrame,
    before: TableRef | None,
    chosen: Collection[str],
    column: str,
    full: str,
) -> tuple[TableRef, TableChange]:
    import polars as pl

    ref = run.lake.write(table, frame, run_id=run.run_id, step=run.name)
    anew = frame if full else frame.filter(pl.col(column).is_in(list(chosen)))
    version = before.version if before else -1
    return ref, TableChange(table, version, ref.version, anew.height, anew[column].n_unique())


def _features(
    run: Step, later: list[dict[str, Any]], clean: Mapping[str, pl.DataFrame], chosen: Collection[str], full: str
) -> tuple[Snapshot | None, list[TableChange]]:
    """The feature views with the rows of the chosen subjects made anew."""
    import polars as pl

    from trialops.features.views import feature_views

    made = [r for r in later if r["step"] == FEATURES_STEP]
    if not made:
        return None, []
    document = next(item for item in made[-1]["outputs"] if item.get("kind") == "snapshot")
    before = Snapshot.from_dict(document)
    everybody = bool(full) or made[-1]["code_version"] != code_version()
    own = dict(clean) if everybody else {n: f.filter(pl.col("USUBJID").is_in(list(chosen))) for n, f in clean.items()}
    views = feature_views(own)
    refs, changes = {}, []
    for name, frame in views.items():
        known = before.tables.get(name)
        if known is not None and not everybody:
            others = run.lake.read(known).filter(~pl.col("subject_id").is_in(list(chosen)))
            frame = pl.concat([others, frame.cast(others.schema)]).sort("subject_id", "event_timestamp")
        mark = "another program made them" if everybody else ""
        refs[name], change = _written(run, f"features/{name}", frame, known, chosen, "subject_id", full or mark)
        changes.append(change)
    return Snapshot(refs), changes
