"""A subject's features do not depend on who else is in the table: what lets a correction reprocess one subject."""

from __future__ import annotations

import polars as pl

from trialops.features.views import feature_views


def test_alone_or_among_others_to_the_last_bit(trial: dict[str, pl.DataFrame]) -> None:
    everybody = feature_views(trial)
    for subject in trial["DM"]["USUBJID"].sort():
        alone = feature_views({name: rows.filter(pl.col("USUBJID") == subject) for name, rows in trial.items()})
        for name, view in everybody.items():
            assert view.filter(pl.col("subject_id") == subject).equals(alone[name]), (name, subject)
