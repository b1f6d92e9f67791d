"""Contracts of features, and what changed between two builds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml

from tests.support.clean_trial import make_trial
from trialops.errors import TrialOpsError
from trialops.features.contracts import SHIPPED, check, load_contracts, stated_units
from trialops.features.definition_file import load
from trialops.features.definitions import ENTITIES
from trialops.features.validation import latest_rows, validate
from trialops.features.validation_page import validation_page
from trialops.features.views import FeatureViews, feature_views
from trialops.models.task import load_task
from trialops.monitoring.drift_policy import load_drift_policy
from trialops.pages import render

DEFINITIONS, CONTRACTS, POLICY, TASK = load(), load_contracts(), load_drift_policy(), load_task()


@pytest.fixture(scope="module")
def views() -> FeatureViews:
    return feature_views(make_trial(160, seed=3))


def contracts_with(tmp_path: Path, name: str, **changes: object) -> Path:
    content = yaml.safe_load(SHIPPED.read_text())
    content["contracts"][name] |= changes
    (tmp_path / "contracts.yaml").write_text(yaml.safe_dump(content))
    return tmp_path / "contracts.yaml"


def test_every_feature_of_the_task_has_a_contract_and_every_contract_a_feature() -> None:
    held = {feature for name in DEFINITIONS.views for feature in DEFINITIONS.columns(name)}
    assert set(TASK.features) <= set(CONTRACTS.features) <= held
    stated = stated_units(DEFINITIONS)
    assert all(one.unit in stated[name] for name, one in CONTRACTS.features.items() if name in stated)
    assert len(set(stated) & set(CONTRACTS.features)) > 15


def test_a_trial_meets_its_contracts(views: FeatureViews) -> None:
    latest = latest_rows(views, DEFINITIONS, day=28)
    assert latest.height == latest["subject_id"].n_unique()
    found = {item.feature: item for item in check(latest, DEFINITIONS, CONTRACTS, TASK.features)}
    assert {found[name].outside for name in TASK.features} == {0}
    assert {found[name].state for name in TASK.baseline_features} == {"met"}


def test_the_latest_row_is_the_newest_known(views: FeatureViews) -> None:
    latest = latest_rows(views, DEFINITIONS, day=28)
    subject = latest["subject_id"][5]
    rows = views["vitals"].filter(pl.col("subject_id") == subject).sort("event_timestamp", "created")
    assert latest.filter(pl.col("subject_id") == subject)["systolic_bp"][0] == rows["systolic_bp"][-1]


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (pl.col("creatinine") / 88.4, "values outside"),  # mg/dL in a column of umol/L
        (pl.when(pl.int_range(pl.len()) % 2 == 0).then(pl.col("creatinine")), "missing in"),
    ],
)
def test_a_breach_is_found(views: FeatureViews, change: pl.Expr, what: str) -> None:
    latest = latest_rows(views, DEFINITIONS, day=28).with_columns(creatinine=pl.lit(80.0))
    assert all(item.state == "met" for item in check(latest, DEFINITIONS, CONTRACTS) if item.feature == "creatinine")
    found = check(latest.with_columns(change.alias("creatinine")), DEFINITIONS, CONTRACTS)
    (broken,) = [item for item in found if item.feature == "creatinine"]
    assert broken.state == "breached" and what in broken.breaches[0]


def test_a_wrong_unit_an_absent_feature_and_a_feature_without_contract(tmp_path: Path, views: FeatureViews) -> None:
    latest = latest_rows(views, DEFINITIONS, day=28)
    other = load_contracts(contracts_with(tmp_path, "weight", unit="lb"))
    states = {item.feature: item for item in check(latest.drop("height"), DEFINITIONS, other, ["age", "unheard_of"])}
    assert "unit lb" in states["weight"].breaches[0]
    assert states["height"].state == "absent"
    assert states["unheard_of"].state == "breached"


def test_a_wrong_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrialOpsError, match="high"):
        load_contracts(contracts_with(tmp_path, "weight", low=500))
    with pytest.raises(TrialOpsError, match="lowest"):
        load_contracts(contracts_with(tmp_path, "weight", lowest=5))


@pytest.mark.slow
def test_one_build_after_the_other(views: FeatureViews) -> None:
    first = validate(views, None, TASK, DEFINITIONS, CONTRACTS, POLICY)
    assert first.report is None and first.reasons[-1] == "there is no build before this one"

    again = validate(views, dict(views), TASK, DEFINITIONS, CONTRACTS, POLICY)
    assert again.report is not None and again.report.verdict != "drift" and not again.restated
    assert again.verdict in ("pass", "insufficient evidence") or any(item.breaches for item in again.contracts)

    # New logic: pressure in kPa. Old moments have new values, the distribution moves, the contract breaks.
    changed = dict(views) | {"vitals": views["vitals"].with_columns(pl.col("systolic_bp") * 0.1333)}
    found = validate(changed, views, TASK, DEFINITIONS, CONTRACTS, POLICY)
    assert found.verdict == "breach"
    assert {item.feature for item in found.restated} == {"systolic_bp"}
    assert found.report is not None and found.report.drifted == ("systolic_bp",)
    assert any("rewritten" in reason for reason in found.reasons)
    page = render(validation_page(found, CONTRACTS, POLICY))
    assert (
        "Rewritten past" in page and "systolic_bp" in page and not any(s in page for s in views["vitals"]["subject_id"])
    )


@pytest.mark.slow
def test_correlation_alone(views: FeatureViews) -> None:
    """One feature's values handed to other subjects: same distribution, other company."""
    rng = np.random.default_rng(1)
    tied = {
        name: frame.with_columns(diastolic_bp=pl.col("systolic_bp") * 0.6) if name == "vitals" else frame
        for name, frame in views.items()
    }
    vitals = tied["vitals"]
    mixed = vitals.with_columns(diastolic_bp=vitals["diastolic_bp"].gather(rng.permutation(vitals.height)))
    found = validate(tied | {"vitals": mixed}, tied, TASK, DEFINITIONS, CONTRACTS, POLICY)
    assert found.report is not None and found.report.verdict != "drift"
    assert found.correlations is not None and found.correlations.state == "drift"
    assert ("systolic_bp", "diastolic_bp") in {(pair.first, pair.second) for pair in found.correlations.changed}


def test_views_of_visits_and_sites_beside_or_before_change_nothing(views: FeatureViews) -> None:
    """A build by data_pipeline holds subjects alone, one by feature_engineering everybody."""
    every = feature_views(make_trial(160, seed=3), entities=tuple(ENTITIES))
    assert set(every) > set(views)
    alone, new, old = (
        validate(now, before, TASK, DEFINITIONS, CONTRACTS, POLICY).as_dict()
        for now, before in ((views, views), (every, views), (views, every))
    )
    assert alone == new == old
