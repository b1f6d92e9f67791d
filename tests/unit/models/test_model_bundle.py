"""Candidates and bundles: repeatable to the bit, verified on load, light to serve."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from trialops.errors import TrialOpsError
from trialops.models.booster import TextBooster, without_ranges
from trialops.models.bundle import Bundle
from trialops.models.candidates import fit_lightgbm, fit_logistic, lightgbm_params, usable_features
from trialops.models.design_matrix import inputs, labels
from trialops.models.task import Task

PARAMS = {
    "learning_rate": 0.1,
    "num_leaves": 5,
    "min_data_in_leaf": 10,
    "feature_fraction": 0.8,
    "lambda_l2": 1.0,
}


def bundle_of(kind: str, frame: pl.DataFrame, task: Task) -> tuple[Bundle, np.ndarray]:
    x, y = inputs(frame, task.features), labels(frame)
    keep, notes = usable_features(x, task.features)
    names, x = tuple(task.features[k] for k in keep), x[:, keep]
    common = {
        "name": "m",
        "kind": kind,
        "features": names,
        "threshold": 0.4,
        "task": task.as_dict(),
        "training": {"rows": len(y)},
        "created_by": "run-1",
        "notes": tuple(notes),
    }
    if kind == "lightgbm":
        return Bundle(**common, params=PARAMS, booster=fit_lightgbm(x, y, PARAMS, 30, 7, names)), x
    fitted = fit_logistic(x, y, {"C": 0.5, "l1_ratio": 0.5}, 7)
    return Bundle(
        **common,
        params={},
        fill=dict(zip(names, fitted["fill"], strict=True)),
        centre=tuple(fitted["centre"]),
        scale=tuple(fitted["scale"]),
        coefficients=tuple(fitted["coefficients"]),
        intercept=fitted["intercept"],
    ), x


def test_the_tree_model_holds_no_subjects_extreme_and_predicts_the_same_to_the_bit() -> None:
    import lightgbm

    rng = np.random.default_rng(5)
    x = np.column_stack([rng.normal(72, 6, 400), rng.normal(0, 1, 400), np.full(400, np.nan), rng.integers(0, 2, 400)])
    x[rng.random(400) < 0.1, 1] = np.nan
    x[17, 0], x[211, 0], x[5, 1], x[6, 1] = 97.8125, 38.4375, 31.0625, -27.03125  # each one subject's own value
    y = (rng.random(400) < 1 / (1 + np.exp(-(x[:, 0] - 72) / 6))).astype(np.int8)
    names = ("age", "slope", "empty", "female")
    data = lightgbm.Dataset(x, label=y, feature_name=list(names), free_raw_data=False)
    plain = lightgbm.train(lightgbm_params(PARAMS, 7), data, num_boost_round=40).model_to_string()
    masked = fit_lightgbm(x, y, PARAMS, 40, 7, names)

    def extremes(text: str) -> list[str]:
        return [value for value in ("97.81", "38.43", "31.06", "-27.03") if value in text]

    assert extremes(plain) == ["97.81", "38.43", "31.06", "-27.03"] and extremes(masked) == []
    line = next(line for line in masked.splitlines() if line.startswith("feature_infos="))
    assert line == "feature_infos=" + " ".join(["[-inf:inf]"] * 4)
    assert without_ranges(masked) == masked
    changed = [(a, b) for a, b in zip(plain.splitlines(), masked.splitlines(), strict=True) if a != b]
    assert [a.partition("=")[0] for a, _ in changed] == ["feature_infos"]

    beyond = np.array([[150.0, 1e6, 3.0, 1.0], [-5.0, -1e6, np.nan, 0.0], [np.nan] * 4])
    for rows in (x, beyond):
        expected = lightgbm.Booster(model_str=plain).predict(rows, num_threads=1)
        assert np.asarray(expected).tobytes() == TextBooster(masked).predict(rows).tobytes()
        again = lightgbm.Booster(model_str=masked).predict(rows, num_threads=1)
        assert np.asarray(again).tobytes() == np.asarray(expected).tobytes()


@pytest.mark.parametrize("kind", ["logistic", "lightgbm"])
def test_same_data_and_seed_same_bytes(kind: str, trial_frame: pl.DataFrame, task: Task, tmp_path: Path) -> None:
    folders = [bundle_of(kind, trial_frame, task)[0].save(tmp_path / name) for name in "ab"]
    files = [{file.name: file.read_bytes() for file in folder.iterdir()} for folder in folders]
    assert files[0] == files[1]
    assert set(files[0]) == ({"bundle.json", "booster.lgb"} if kind == "lightgbm" else {"bundle.json"})


@pytest.mark.parametrize("kind", ["logistic", "lightgbm"])
def test_a_loaded_bundle_predicts_the_same(kind: str, trial_frame: pl.DataFrame, task: Task, tmp_path: Path) -> None:
    bundle, x = bundle_of(kind, trial_frame, task)
    loaded = Bundle.load(bundle.save(tmp_path / "m"), digest=bundle.digest)
    assert loaded.digest == bundle.digest
    p = loaded.predict(x)
    assert np.array_equal(p, bundle.predict(x))
    assert ((p > 0) & (p < 1)).all()
    assert np.isfinite(loaded.predict(np.full((1, x.shape[1]), np.nan))).all()
    assert np.array_equal(loaded.predict(x[:1] * np.nan), loaded.predict(np.full((1, x.shape[1]), np.inf)))
    assert loaded.predict(x[:0]).shape == (0,)


def test_logistic_predictions_equal_scikit_learn(trial_frame: pl.DataFrame, task: Task) -> None:
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, y = inputs(trial_frame, ("age", "pulse", "ae_count")), labels(trial_frame)
    fitted = fit_logistic(x, y, {"C": 0.5, "l1_ratio": 0.0}, 0)
    pipeline = make_pipeline(
        SimpleImputer(strategy="median"),
        StandardScaler(),
        LogisticRegression(C=0.5, solver="newton-cholesky", tol=1e-8),
    )
    names = ("age", "pulse", "ae_count")
    bundle = Bundle(
        "m",
        "logistic",
        names,
        0.5,
        {},
        {},
        "",
        {},
        dict(zip(names, fitted["fill"], strict=True)),
        tuple(fitted["centre"]),
        tuple(fitted["scale"]),
        tuple(fitted["coefficients"]),
        fitted["intercept"],
    )
    assert np.allclose(bundle.predict(x), pipeline.fit(x, y).predict_proba(x)[:, 1], atol=1e-10)


def test_native_lightgbm_predictions_equal_the_package(trial_frame: pl.DataFrame, task: Task) -> None:
    import lightgbm

    bundle, x = bundle_of("lightgbm", trial_frame, task)
    assert bundle._trees._package is None
    assert np.array_equal(bundle.predict(x), lightgbm.Booster(model_str=bundle.booster).predict(x))


def test_predicting_imports_neither_pandas_nor_scikit_learn(
    trial_frame: pl.DataFrame, task: Task, tmp_path: Path
) -> None:
    bundle, x = bundle_of("lightgbm", trial_frame, task)
    bundle.save(tmp_path / "m")
    code = (
        "import sys, numpy as np; from trialops.models.bundle import Bundle; b = Bundle.load(sys.argv[1]);"
        "b.predict(np.zeros((1, len(b.features))));"
        "print(sorted({'pandas', 'sklearn', 'lightgbm', 'polars', 'scipy'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code, str(tmp_path / "m")], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_alteration_is_noticed(trial_frame: pl.DataFrame, task: Task, tmp_path: Path) -> None:
    bundle, _ = bundle_of("lightgbm", trial_frame, task)
    folder = bundle.save(tmp_path / "m")
    with pytest.raises(TrialOpsError, match="not the one registered"):
        Bundle.load(folder, digest="0" * 64)
    content = json.loads((folder / "bundle.json").read_text())
    (folder / "bundle.json").write_text(json.dumps({**content, "threshold": 0.9}))
    with pytest.raises(TrialOpsError, match="altered"):
        Bundle.load(folder)
    (folder / "bundle.json").write_text(json.dumps({**content, "format": 2}))
    with pytest.raises(TrialOpsError, match="format 2"):
        Bundle.load(folder)
    bundle.save(folder)
    text = (folder / "booster.lgb").read_text()
    (folder / "booster.lgb").write_text(text.replace("leaf_value=", "leaf_value=0.5 ", 1))
    with pytest.raises(TrialOpsError, match="altered"):
        Bundle.load(folder)
    (folder / "booster.lgb").unlink()
    with pytest.raises(TrialOpsError, match="incomplete"):
        Bundle.load(folder)
    with pytest.raises(TrialOpsError, match="no model bundle"):
        Bundle.load(tmp_path / "elsewhere")


def test_wrong_width_is_refused(trial_frame: pl.DataFrame, task: Task) -> None:
    bundle, x = bundle_of("logistic", trial_frame, task)
    for wrong in (x[:, 1:], x[0]):
        with pytest.raises(TrialOpsError, match=f"takes {len(bundle.features)} features"):
            bundle.predict(wrong)


def test_a_digest_does_not_depend_on_the_folder(trial_frame: pl.DataFrame, task: Task, tmp_path: Path) -> None:
    bundle, _ = bundle_of("logistic", trial_frame, task)
    assert Bundle.load(bundle.save(tmp_path / "x" / "y")).digest == bundle.digest


def test_useless_features_are_dropped_with_a_note() -> None:
    nan = np.nan
    x = np.array([[1, nan, 2, nan, 5.0], [2, nan, 2, 3, nan], [3, nan, 2, 3, 6]])
    keep, notes = usable_features(x, list("abcde"))
    assert keep == [0, 4]
    assert notes == [
        "b: dropped, all 3 values missing",
        "c: dropped, constant",
        "d: dropped, constant where known (1 missing)",
    ]
