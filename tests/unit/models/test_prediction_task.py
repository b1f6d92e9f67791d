"""The task and its file: what is accepted, and how a refusal names file and key."""

from __future__ import annotations

from pathlib import Path

import pytest

from trialops.errors import TrialOpsError
from trialops.models.task import TASKS, load_task

SHIPPED = (TASKS / "withdrawal.yaml").read_text(encoding="utf-8")


def test_the_shipped_task() -> None:
    task = load_task("withdrawal")
    assert (task.landmark_day, task.horizon_day, task.blinded) == (28, None, True)
    assert (task.window_end_day, task.settled_day) == (182, 210)
    assert task.group_columns == {"sex": "group_sex", "age_band": "group_age_band", "race": "group_race"}
    assert set(task.baseline_features) == {"age", "sex_female"}
    assert not any(word in name for name in task.features for word in ("arm", "dose", "trt"))


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("landmark_day: 28", "landmark_day: early", "landmark_day"),
        ("landmark_day: 28", "landmark_day: true", "landmark_day"),
        ("horizon_day: null", "horizon_day: 14", "horizon_day"),
        ("planned_end_day: 182", "planned_end_day: 28", "planned_end_day"),
        ("planned_end_day: 182", "planned_end_day: null", "planned_end_day"),
        ("reporting_days: 28", "reporting_days: -1", "reporting_days"),
        ("  category: DISPOSITION EVENT", "  domain: DS\n  category: DISPOSITION EVENT", "label.domain"),
        ("  - bmi\n", "  - dose_mean\n", "features"),
        ("  - bmi\n", "  - group_sex\n", "features"),
        ("  - bmi\n", "  - age\n", "features"),
        ("hold_out_share: 0.30", "hold_out_share: 30", "split.hold_out_share"),
        ("rule: youden", "rule: fixed", "threshold.value"),
        ("rule: youden", "rule: best", "threshold.rule"),
        ("blinded: true", "blined: true", "blinded"),
        ("entity: subject", "entity: subject\nowner: me", "owner"),
        ("[age, sex_female]", "[age, sex_male]", "baseline_features"),
        ("[0.10, 0.80]", "[0.80, 0.10]", "decision_thresholds"),
    ],
)
def test_a_refusal_names_file_and_key(tmp_path: Path, old: str, new: str, key: str) -> None:
    assert old in SHIPPED
    path = tmp_path / "task.yaml"
    path.write_text(SHIPPED.replace(old, new), encoding="utf-8")
    with pytest.raises(TrialOpsError) as error:
        load_task(path)
    assert error.value.where == f"{path}, key {key}"
    assert error.value.fix


def test_a_horizon_ends_the_outcome_window(tmp_path: Path) -> None:
    path = tmp_path / "task.yaml"
    text = SHIPPED.replace("horizon_day: null", "horizon_day: 84").replace(
        "planned_end_day: 182", "planned_end_day: null"
    )
    path.write_text(text)
    assert (load_task(path).window_end_day, load_task(path).settled_day) == (84, 112)


def test_unblinded_trials_may_use_dose(tmp_path: Path) -> None:
    path = tmp_path / "task.yaml"
    path.write_text(SHIPPED.replace("  - bmi\n", "  - dose_mean\n").replace("blinded: true", "blinded: false"))
    assert "dose_mean" in load_task(path).features


def test_broken_yaml_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "task.yaml"
    path.write_text("name: x\nfeatures: [a, b\nlabel: y\n")
    with pytest.raises(TrialOpsError, match="not valid YAML") as error:
        load_task(path)
    assert "line " in error.value.where


def test_yaml_cannot_run_code(tmp_path: Path) -> None:
    path = tmp_path / "task.yaml"
    path.write_text("name: !!python/object/apply:os.getcwd []\n")
    with pytest.raises(TrialOpsError, match="not valid YAML"):
        load_task(path)


def test_missing_file() -> None:
    with pytest.raises(TrialOpsError, match="does not exist"):
        load_task("no-such-task")
