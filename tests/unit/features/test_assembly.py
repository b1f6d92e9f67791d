"""Which sites are held out, and that they stay so while a trial grows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tests.support.clean_trial import make_trial
from tests.support.homes import leave, live_in
from trialops.errors import TrialOpsError
from trialops.features.assembly import HELD_OUT, TRAIN, _held_out, assemble
from trialops.features.views import feature_views
from trialops.governance.audit import AuditTrail
from trialops.governance.lineage import edges, run_records
from trialops.models.task import SplitPlan, Task, load_task
from trialops.settings import settings
from trialops.stores import step
from trialops.stores.database import connect
from trialops.stores.objects import open_store

SPLITS = "splits/withdrawal"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    yield live_in(tmp_path, monkeypatch)
    leave()


@pytest.fixture(scope="module")
def plan() -> Task:
    """The shipped task with two features, and a tolerance that sites of any size can meet."""
    return replace(load_task(), features=("age", "ae_count"), baseline_features=("age",), split=SplitPlan(0.3, 0.1, 2))


def subjects(sites: dict[str, int], seed: int = 1, prefix: str = "P") -> pl.DataFrame:
    """Labelled subjects, half of each site with the event."""
    names = [site for site, n in sites.items() for _ in range(n)]
    return pl.DataFrame(
        {
            "subject_id": [f"{prefix}{seed}-{i:04d}" for i in range(len(names))],
            "site_id": names,
            "label": pl.Series([i % 2 for i in range(len(names))], dtype=pl.Int8),
        }
    )


def split_of(frame: pl.DataFrame, plan: Task, seed: int = 1) -> tuple[dict[str, str], tuple[str, ...], int]:
    """Role of every site, notes, and how many versions of the roles the lake has afterwards."""
    with step("build-training-set") as run:
        held, notes = _held_out(frame, plan, run, seed)
        sites = frame["site_id"].unique().to_list()
        return {s: HELD_OUT if s in held else TRAIN for s in sites}, notes, len(run.lake.versions(SPLITS))


def test_sites_keep_their_part_whatever_the_seed(plan: Task) -> None:
    sizes = {f"S{i}": 10 for i in range(10)}
    first, _, kept = split_of(subjects(sizes), plan)
    assert list(first.values()).count(HELD_OUT) in (2, 3, 4) and kept == 1
    second, notes, kept = split_of(subjects({site: n + 2 for site, n in sizes.items()}), plan, seed=7)
    assert second == first and kept == 1, "roles that did not change are not written again"
    assert "stay held out" in notes[-1]


def test_the_seed_decides_between_sites_without_a_part(
    plan: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = set()
    for seed in range(6):
        live_in(tmp_path / str(seed), monkeypatch)
        roles, _, _ = split_of(subjects({f"S{i}": 10 for i in range(10)}), plan, seed)
        seen.add(tuple(sorted(roles.items())))
    assert len(seen) > 1


def test_only_new_sites_join_when_the_share_has_become_too_small(plan: Task) -> None:
    first, _, _ = split_of(subjects({f"S{i}": 10 for i in range(10)}), plan)
    frame = subjects({f"S{i}": 10 for i in range(10)} | {f"T{i}": 30 for i in range(10)})
    second, _, kept = split_of(frame, plan)
    assert {site: second[site] for site in first} == first and kept == 2
    held = [site for site, role in second.items() if role == HELD_OUT]
    assert abs(frame.filter(pl.col("site_id").is_in(held)).height / frame.height - 0.3) <= 0.1
    assert split_of(frame, plan)[0] == second


def test_a_drift_that_no_new_site_can_mend_is_said(plan: Task) -> None:
    sizes = {f"S{i}": 10 for i in range(10)}
    first, _, _ = split_of(subjects(sizes), plan)
    grown = {site: 40 if role == HELD_OUT else 10 for site, role in first.items()}
    second, notes, _ = split_of(subjects(grown), plan)
    assert second == first and "sites keep their role from earlier runs" in notes[0]


def test_sites_without_subjects_now_are_remembered(plan: Task) -> None:
    """Their subjects may come back with the next delivery."""
    sizes = {f"S{i}": 10 for i in range(10)}
    first, _, _ = split_of(subjects(sizes), plan)
    for role in (TRAIN, HELD_OUT):
        gone = min(site for site, r in first.items() if r == role)
        split_of(subjects({s: n for s, n in sizes.items() if s != gone} | {f"N-{role}": 10}), plan)
    third, _, _ = split_of(subjects(sizes), plan)
    assert third == first


def test_the_roles_are_in_the_trail_and_in_lineage(plan: Task, home: Path) -> None:
    frame = subjects({f"S{i}": 10 for i in range(10)})
    split_of(frame, plan)
    split_of(frame, plan)
    actions = [(e.action, e.object) for e in AuditTrail(connect(settings().database)).events()]
    assert [a for a in actions if a[1] == SPLITS] == [("data.write", SPLITS), ("data.read", SPLITS)]
    (record,) = run_records(open_store(str(home)), "run-1")
    assert [(e["direction"], e["tables"]) for e in edges([record])] == [("input", f"{SPLITS}@0")]


def test_no_settled_outcome_is_refused_with_the_number_that_waits(plan: Task) -> None:
    tables = make_trial(40, seed=3)
    tables["DM"] = tables["DM"].with_columns(CUTDY=pl.lit(98, pl.Int32))
    tables["DS"] = tables["DS"].filter(pl.col("USUBJID") != "P000")  # one is still in the trial
    views = feature_views(tables)
    with pytest.raises(TrialOpsError, match=r"window of \d+ subjects is still open") as caught, step("x") as run:
        assemble(tables, views, plan, run)
    assert "day 210" in (caught.value.fix or "")


def test_training_set_of_a_trial_that_grows(plan: Task) -> None:
    tables = make_trial(80, seed=3)
    early = set(tables["DM"]["USUBJID"].to_list()[:60])
    before = {name: frame.filter(pl.col("USUBJID").is_in(list(early))) for name, frame in tables.items()}
    plan = replace(plan, split=SplitPlan(0.3, 0.3, 2))
    made = []
    for number, delivered in enumerate((before, tables)):
        with step(f"build-training-set-{number}") as run:
            made.append(assemble(delivered, feature_views(delivered), plan, run))
    sides = [
        {
            side: set(result.training.filter(pl.col("split") == side)["site_id"])
            for side in (TRAIN, HELD_OUT)
        }
        for result in made
    ]  # fmt: skip
    for side in sides:
        assert side[TRAIN] and side[HELD_OUT] and not side[TRAIN] & side[HELD_OUT]
    assert sides[0][HELD_OUT] <= sides[1][HELD_OUT] and sides[0][TRAIN] <= sides[1][TRAIN]
    # So no subject that a model of the first run has learnt from is ever judged on.
    learnt = set(made[0].training.filter(pl.col("split") == TRAIN)["subject_id"])
    judged = set(made[1].training.filter(pl.col("split") == HELD_OUT)["subject_id"])
    assert learnt and judged and not learnt & judged
    assert made[1].training.height > made[0].training.height
    last = made[1].flow.row(-1, named=True)
    assert last["subjects"] == made[1].training.height
    assert made[0].training["label"].n_unique() == 2 and np.isfinite(made[0].training["age"].to_numpy()).all()
