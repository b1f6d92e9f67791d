"""Views of visits and sites: their keys, values, corrections, and that a site never shows its future."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from tests.support.temporal_trial import temporal_trial
from tests.unit.features.test_views import as_known
from trialops.features import study_time
from trialops.features.definition_file import load
from trialops.features.sites import moments
from trialops.features.views import feature_views

DEFINITIONS = load()


@pytest.fixture(scope="module")
def trial() -> dict[str, pl.DataFrame]:
    return temporal_trial(40, seed=11)


def test_keys_are_published() -> None:
    assert DEFINITIONS.join_keys("labs") == ("subject_id",)
    assert DEFINITIONS.join_keys("visit_findings") == ("subject_id", "visit")
    assert DEFINITIONS.join_keys("site_conduct") == ("site_id",)
    assert set(DEFINITIONS.entity_views) == {"visit_findings", "site_conduct"}


def test_a_visit_has_what_was_measured_at_it(trial: dict[str, pl.DataFrame]) -> None:
    frame = feature_views(trial, entities=("subject_visit",))["visit_findings"]
    assert frame.columns == [
        "subject_id",
        "visit",
        "event_timestamp",
        "created",
        *DEFINITIONS.columns("visit_findings"),
    ]
    assert not frame.select("subject_id", "visit", "event_timestamp").is_duplicated().any()
    compared = 0
    tests = {"visit_systolic_bp": ("VS", "SYSBP"), "visit_alt": ("LB", "ALT"), "visit_weight": ("VS", "WEIGHT")}
    for row in frame.sample(150, seed=1).to_dicts():
        today = (row["event_timestamp"] - study_time.DAY_ONE).days
        for feature, (table, code) in tests.items():
            own = trial[table].filter(
                (pl.col("USUBJID") == row["subject_id"]) & (pl.col("VISITNUM") == float(row["visit"]))
            )
            rows = as_known(own.to_dicts(), DEFINITIONS.tables[table], today)
            rows = [r for r in rows if r[f"{table}TESTCD"] == code and r.get("VSPOS", "") != "STANDING"]
            rows = [r for r in rows if r[f"{table}STRESN"] is not None]
            want = max(rows, key=lambda r: (r["_event"], r["_id"]))[f"{table}STRESN"] if rows else None
            assert row[feature] == want
            compared += want is not None
    assert compared > 200


def clock(trial: dict[str, pl.DataFrame]) -> dict[str, tuple[str, int]]:
    """Subject -> site and days from study day to trial day, for those who can be placed."""
    dm = trial["DM"].drop_nulls("CUTDY")
    top = dm["CUTDY"].max()
    return {s: (site, top - cut) for s, site, cut in dm.select("USUBJID", "SITEID", "CUTDY").iter_rows()}


def test_a_site_counts_what_had_happened_by_then(trial: dict[str, pl.DataFrame]) -> None:
    views = feature_views(trial, entities=("site",))
    frame, places = views["site_conduct"], clock(trial)
    assert frame["site_id"].unique().sort().to_list() == sorted({site for site, _ in places.values()})
    lost = trial["DM"].height - len(places)
    assert lost > 0 and [n.rows for n in views.notes] == [lost]
    for row in frame.sample(60, seed=2).to_dicts():
        now = (row["event_timestamp"] - study_time.DAY_ONE).days
        count: Counter[str] = Counter()
        for subject, (site, after) in places.items():
            if site != row["site_id"]:
                continue
            known: dict[str, list[dict[str, Any]]] = {
                name: as_known(
                    trial[name].filter(pl.col("USUBJID") == subject).to_dicts(), DEFINITIONS.tables[name], now - after
                )
                for name in ("DM", "DS", "AE", "SV")
            }
            ends = [r["DSDECOD"] for r in known["DS"] if r["DSCAT"] == "DISPOSITION EVENT"]
            count["site_subjects"] += len(known["DM"])
            count["site_ae_count"] += len(known["AE"])
            count["site_visits"] += len(known["SV"])
            count["site_withdrawn"] += sum(e not in ("COMPLETED", "SCREEN FAILURE") for e in ends)
        for name in ("site_subjects", "site_ae_count", "site_visits", "site_withdrawn"):
            assert row[name] == count[name], (row["site_id"], now, name)
        if count["site_subjects"]:
            assert row["site_withdrawn_share"] == count["site_withdrawn"] / count["site_subjects"]


def test_no_moment_asked_lies_after_the_true_one() -> None:
    """True dates are drawn; CUTDY is rounded down as de-identification does. A row seen lies in the true past."""
    rng = np.random.default_rng(5)
    starts = rng.integers(0, 600, 400)  # days after the first activation
    cut = 640
    true_day = cut - starts + 1
    coarse = true_day // 14 * 14
    dm = pl.DataFrame(
        {
            "USUBJID": [f"P{i:03d}" for i in range(400)],
            "SITEID": [f"S{i % 5}" for i in range(400)],
            "KNOWNDY": 1,
            "CUTDY": pl.Series(coarse, dtype=pl.Int32),
        }
    ).with_columns(pl.when(pl.col("CUTDY") >= 14).then("CUTDY"))
    asked = moments(dm, 28, step=14)
    begun = dict(zip(dm["USUBJID"], starts, strict=True))
    places = clock({"DM": dm})
    seen = 0
    for subject, _, moment in asked.drop_nulls("event_timestamp").iter_rows():
        day = (moment - study_time.DAY_ONE) / timedelta(days=1)
        truly = begun[subject] + 27
        for other, (_, after) in places.items():
            # A record of another subject's day d stands at d + after; is it seen, it had happened.
            latest = int(day - after)
            assert begun[other] + latest <= truly
            seen += latest >= 0
    assert seen > 10_000


def test_without_a_cut_sites_stay_empty_and_it_is_said() -> None:
    tables = temporal_trial(10, seed=1)
    tables["DM"] = tables["DM"].drop("CUTDY")
    views = feature_views(tables, entities=("site",))
    assert views["site_conduct"].is_empty() and "stay empty" in views.notes[0].what
