"""Pages of the feature steps: what each view holds, and how the training set came about."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trialops.features.assembly import HELD_OUT, TRAIN
from trialops.features.labels import NOT_TREATED, WINDOW_OPEN
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
                    Text(
                        "A record has one value for each of its attributes, the last one. What was settled only when "
                        "it ended is therefore not used before: an end takes effect with the first visit that can have "
                        "brought it, and only then does a record count in "
                        f"{', '.join(views.settled_late) or 'no feature'}."
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
    treated, passed = (int(flow.filter(pl.col("reason") == r)["subjects"].sum()) for r in (NOT_TREATED, WINDOW_OPEN))
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
                            "outcome window": f"to day {task.window_end_day}, settled on day {task.settled_day}",
                            "treated": treated,
                            "of them with the window passed at the data cut": passed,
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
                    Text(
                        "A subject enters when the outcome window has passed for them at the data cut, whatever "
                        "happened. Those who left early would otherwise be over-represented while the trial runs."
                    ),
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
