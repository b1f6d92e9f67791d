"""Subjects leave the online store, with their visits, and nobody else does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tests.support.online_stores import LABS, SPEC, VITALS, rows
from trialops.errors import TrialOpsError
from trialops.stores.online import FeatureServiceSpec, ViewSpec, open_reader
from trialops.stores.online.forget import forget
from trialops.stores.online.writer import open_writer

VISITS = FeatureServiceSpec(
    "subject_visit", "trialops", 1, (ViewSpec("visits", ("delay",)),), {}, ("subject_id", "visit")
)
SITES = FeatureServiceSpec("site", "trialops", 1, (ViewSpec("sites", ("rate",)),), {}, ("site_id",))


def test_a_subject_is_gone_with_its_visits_and_nobody_else(online_url: str) -> None:
    names = ["P1", "P10", "P[1]*", "P?"]
    with open_writer(online_url, SPEC) as writer:
        writer.write("labs", rows(LABS, dict.fromkeys(names, 1)))
        writer.write("vitals", rows(VITALS, dict.fromkeys(names, 1)))
    visits = [(name, visit) for name in names for visit in ("1", "2")]
    frame = rows(VISITS.views[0], {f"{n}/{v}": 1 for n, v in visits})
    frame = frame.with_columns(subject_id=pl.Series([n for n, _ in visits]), visit=pl.Series([v for _, v in visits]))
    with open_writer(online_url, VISITS) as writer:
        writer.write("visits", frame)
    with open_writer(online_url, SITES) as writer:
        writer.write("sites", rows(SITES.views[0], {"P1": 1}).rename({"subject_id": "site_id"}))
    services = (SPEC, VISITS, SITES)
    assert forget(online_url, services, []) == 0
    # Two views and two visits in tables of a view each; one hash for both views in Redis.
    expected = 3 if online_url.startswith("redis") else 4
    assert forget(online_url, services, ["P1"]) == expected
    assert forget(online_url, services, ["P[1]*", "P?"]) == 2 * expected
    assert forget(online_url, services, ["P1", "nobody"]) == 0
    with open_reader(online_url, SPEC) as reader:
        assert reader.read(names).found.tolist() == [False, True, False, False]
    with open_reader(online_url, VISITS) as reader:
        assert reader.read(visits).found.tolist() == [False, False, True, True, False, False, False, False]
    with open_reader(online_url, SITES) as reader:
        assert np.isfinite(reader.read(["P1"]).values).all()


def test_a_store_that_was_never_written_has_nothing_to_delete(online_url: str, tmp_path: Path) -> None:
    assert forget(online_url, (SPEC, VISITS), ["P1"]) == 0
    assert not list(tmp_path.glob("*.db"))


def test_keys_that_do_not_begin_with_the_subject_are_an_error(tmp_path: Path) -> None:
    spec = FeatureServiceSpec("x", "trialops", 1, VISITS.views, {}, ("subject_id", "arm"))
    with open_writer(f"sqlite:///{tmp_path}/o.db", VISITS) as writer:
        frame = rows(VISITS.views[0], {"P1": 1}).with_columns(visit=pl.lit("1"))
        writer.write("visits", frame)
    with pytest.raises(TrialOpsError, match="do not begin with the subject"):
        forget(f"sqlite:///{tmp_path}/o.db", (spec,), ["P1"])
