"""Pages of the feature steps: what each view holds, and how the training set came about."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trialops.features.assembly import HELD_OUT, TRAIN
from trialops.features.views import KEYS
from trialops.pages import Facts, Figure, Page, Section, Table, Text, Verdict, plots

if TYPE_CHECKING:
    from trialops.features.assembly import Assembly
    from trialops.features.views import FeatureViews
    from trialops.models.task import Task


def features_page(views: FeatureViews) -> Page:
    """Rows and features per view, and the rows left out with the reason."""
    rows = []
    for name, frame in views.items():
        features = [column for column in frame.columns if column not in KEYS]
        rows.append((name, frame.height, frame["subject_id"].n_unique(), len(features), ", ".join(features)))
    notes = [tuple(str(value) for value in vars(note).values()) for note in views.notes]
    headings = tuple(vars(views.notes[0])) if views.notes else ("note",)
    return Page(
        "Features",
        [
            Section(
                "Views",
                [
                    Text(
                        "A row is what was known of a subject on the day something became known: a value measured "
                        "earlier but reported later appears on the later day."
                    ),
                    Table(("view", "rows", "subjects", "features", "names"), rows),
                ],
            ),
            Section("Left out", [Table(headings, notes)]),
        ],
    )


def training_page(assembly: Assembly, task: Task) -> Page:
    """Flow of subjects, outcome by part, sites and missing features."""
    import polars as pl

    frame = assembly.training
    parts = (
        frame.group_by("split")
        .agg(
            pl.col("site_id").n_unique().alias("sites"),
            pl.len().alias("subjects"),
            pl.col("label").sum().cast(pl.Int64).alias("events"),
        )
        .sort("split", descending=True)
        .with_columns((pl.col("events") / pl.col("subjects")).alias("share"))
    )
    missing = {name: frame[name].null_count() / max(frame.height, 1) for name in task.features}
    shown = {name: share for name, share in sorted(missing.items(), key=lambda item: -item[1]) if share > 0}
    flow = assembly.flow
    return Page(
        "Training set",
        [
            Section(
                "The question",
                [
                    Text(f"{task.population.description}. {task.label.description}."),
                    Facts(
                        {
                            "landmark day": task.landmark_day,
                            "subjects": frame.height,
                            "events": int(frame["label"].sum()),
                            "sites": frame["site_id"].n_unique(),
                            "features": len(task.features),
                        }
                    ),
                ],
            ),
            Section(
                "Flow of subjects",
                [
                    Table(("step", "subjects", "left out", "because"), flow.rows()),
                    Figure(plots.bars(flow["step"].to_list(), flow["subjects"].to_list(), xlabel="subjects")),
                ],
            ),
            Section(
                "Hold-out of whole sites",
                [
                    Table(("part", "sites", "subjects", "events", "share"), parts.rows()),
                    *(Text(note, quiet=True) for note in assembly.notes),
                ],
            ),
            Section("Missing values", [Table(("feature", "share missing"), list(shown.items()))]),
        ],
        Verdict(
            f"{frame.height} subjects",
            "plain",
            f"{(frame['split'] == TRAIN).sum()} to learn from, {(frame['split'] == HELD_OUT).sum()} held out",
        ),
    )
