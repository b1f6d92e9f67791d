"""The policy file, and pages that tell of no few."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from trialops.errors import TrialOpsError
from trialops.monitoring.drift import drift
from trialops.monitoring.drift_look import nothing_registered
from trialops.monitoring.drift_page import coarse, no_model_page, report_sections
from trialops.monitoring.drift_policy import POLICIES, load_drift_policy
from trialops.monitoring.reference import profile
from trialops.pages import Page, render

POLICY = load_drift_policy()


def test_the_shipped_policy_spends_five_per_cent_and_has_the_catalogues_alert() -> None:
    assert POLICY.alpha + POLICY.classifier.alpha + POLICY.dependence.alpha <= 0.05 + 1e-12
    assert POLICY.alert_psi == 0.2
    assert POLICY.dependence.alpha / 2 > 1 / (1 + POLICY.dependence.permutations)  # reachable by permutation


@pytest.mark.parametrize(
    ("key", "value", "where"),
    [("alert_psi", "high", "alert_psi"), ("alpha", {"features": 2, "classifier": 0.01, "dependence": 0.01}, "features"),
     ("min_site_rows", 5, "min_site_rows"), ("nonsense", 1, "nonsense")],
)  # fmt: skip
def test_a_wrong_policy_is_refused_with_its_key(tmp_path: Path, key: str, value: object, where: str) -> None:
    content = yaml.safe_load((POLICIES / "drift.yaml").read_text())
    content[key] = value
    path = tmp_path / "drift.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(TrialOpsError, match=where):
        load_drift_policy(path)


def test_cells_are_joined_until_none_tells_of_few() -> None:
    rng = np.random.default_rng(1)
    before = {"x": rng.normal(size=300), "site_id": np.repeat(["A", "B"], 150)}
    now = {"x": np.r_[rng.normal(size=70), np.full(3, np.nan)], "site_id": np.repeat(["A", "B"], [70, 3])}
    report = drift(profile(before, ["x"], by="site_id"), now, POLICY, by="site_id")
    names, then, after = coarse(report.features[0], 300, 73)
    assert len(names) >= 3 and sum(then) == pytest.approx(1.0)
    for shares, n in ((then, 300), (after, 73)):
        assert all(round(share * n) == 0 or round(share * n) >= 11 for share in shares)
    assert "missing" not in names and sum(after) == pytest.approx(70 / 73)
    html = render(Page("Drift", report_sections(report, POLICY, title="Features")))
    assert "fewer than 11 rows" in html and re.search(r"1 sites? with fewer than 30", html)
    # One joined cell is the whole, under one name.
    assert coarse(replace(report.features[0], current_share=(0.0,) * 9 + (70 / 73, 3 / 73)), 300, 73)[0]


def test_a_page_of_very_few_rows_shows_no_distribution() -> None:
    rng = np.random.default_rng(2)
    report = drift(profile({"x": rng.normal(size=300)}, ["x"]), {"x": rng.normal(size=5)}, POLICY)
    sections = report_sections(report, POLICY, title="Features")
    html = render(Page("Drift", sections))
    assert len(sections) == 1 and "&lt;11" in html and "<svg" not in html


def test_the_same_report_gives_the_same_page() -> None:
    rng = np.random.default_rng(3)
    before = {"x": rng.normal(size=300), "y": rng.normal(size=300)}
    report = drift(profile(before, ["x", "y"]), {"x": rng.normal(size=200) + 1, "y": rng.normal(size=200)}, POLICY)
    first, second = (render(Page("Drift", report_sections(report, POLICY, title="Features"))) for _ in range(2))
    assert first == second and first.count("<svg") == 2 and "drift, alert" in first


def test_without_a_model_there_is_no_evidence() -> None:
    document = nothing_registered("withdrawal", POLICY)
    assert document["verdict"] == "insufficient evidence" and document["features"] == []
    assert "No version of withdrawal" in render(no_model_page("withdrawal"))
