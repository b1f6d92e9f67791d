"""Withdrawal can be foreseen, but not perfectly, from what is known by day 28."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyreadstat
import pytest

from trialops.synthetic import generate

LANDMARK = 28


def read(path: Path, encoding: str | None = None) -> pd.DataFrame:
    return pyreadstat.read_xport(str(path), encoding=encoding)[0]


@pytest.fixture(scope="module")
def landmark(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """Subjects on treatment at day 28: label and simple covariates, read from the files alone."""
    out = tmp_path_factory.mktemp("landmark")
    generate(out, subjects=2000, sites=20, seed=7, formats=["sdtm"])
    dm, ds, ae, vs, lb = (read(Path(out) / "sdtm" / f"{d}.xpt") for d in ("dm", "ds", "ae", "vs", "lb"))
    frame = dm[dm["ARMCD"] != "Scrnfail"].set_index("USUBJID")[["AGE", "ARMCD", "RFSTDTC"]]
    ended = ds[ds["DSCAT"] == "DISPOSITION EVENT"].set_index("USUBJID")
    frame = frame.join(ended[["DSDECOD", "DSSTDY"]])
    frame = frame[frame["DSSTDY"] > LANDMARK]
    frame["LABEL"] = (frame["DSDECOD"] != "COMPLETED").astype(int)
    known = pd.to_datetime(ae["AEDTC"]) <= pd.to_datetime(
        ae["USUBJID"].map(dm.set_index("USUBJID")["RFSTDTC"])
    ) + pd.Timedelta(days=LANDMARK - 1)
    body = ae["AEBODSYS"].str.contains("SKIN|GASTRO") | ae["AEDECOD"].str.startswith("APPLICATION SITE")
    points = ae["AESEV"].map({"MILD": 1, "MODERATE": 2, "SEVERE": 3})[known & body & (ae["AESTDY"] > 0)]
    frame["BURDEN"] = np.log1p(points.groupby(ae["USUBJID"]).sum()).reindex(frame.index).fillna(0.0)
    weight = vs[(vs["VSTESTCD"] == "WEIGHT") & (vs["VISIT"] == "BASELINE")].set_index("USUBJID")["VSSTRESN"]
    alt = lb[(lb["LBTESTCD"] == "ALT") & (lb["LBDY"] <= LANDMARK)]
    change = np.log(alt.groupby("USUBJID")["LBSTRESN"].last() / alt.groupby("USUBJID")["LBSTRESN"].first())
    return frame.assign(WEIGHT=weight.reindex(frame.index), ALT=change.reindex(frame.index).fillna(0.0))


@pytest.mark.slow
def test_simple_covariates_beat_chance_and_are_not_an_oracle(landmark: pd.DataFrame) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    model = make_pipeline(StandardScaler(), LogisticRegression())

    def auroc(columns: list[str], label: pd.Series) -> float:
        scores = cross_val_predict(model, landmark[columns], label, cv=folds, method="predict_proba")[:, 1]
        return float(roc_auc_score(label, scores))

    found = auroc(["AGE", "BURDEN", "WEIGHT", "ALT"], landmark["LABEL"])
    assert 0.68 < found < 0.82
    shuffled = landmark["LABEL"].sample(frac=1, random_state=1).set_axis(landmark.index)
    assert abs(auroc(["AGE", "BURDEN", "WEIGHT", "ALT"], shuffled) - 0.5) < 0.06


@pytest.mark.slow
def test_rates(landmark: pd.DataFrame) -> None:
    assert 0.25 < landmark["LABEL"].mean() < 0.5
    by_arm = landmark.groupby("ARMCD")["LABEL"].mean()
    assert by_arm["TRX_Hi"] > by_arm["Pbo"] + 0.05
