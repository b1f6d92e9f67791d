"""Net benefit against the values the dcurves package published for its three data sets, threshold 0.25."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from trialops.models.calibration import newton_logistic
from trialops.models.net_benefit import decision_curve, net_benefit, net_benefit_survival

AT = np.array([0.25])
WITHIN = 1e-7


@pytest.fixture
def data(anchors: Path) -> Path:
    return anchors / "net-benefit"


def truth(column: pl.Series) -> np.ndarray:
    return column.cast(pl.String).str.to_lowercase().eq("true").to_numpy().astype(np.int8)


def test_binary_outcome(data: Path) -> None:
    frame = pl.read_csv(data / "df_binary.csv")
    y, p = truth(frame["cancer"]), frame["cancerpredmarker"].to_numpy()
    assert net_benefit(y, p, AT)[0] == pytest.approx(0.0640000, abs=WITHIN)
    assert net_benefit(y, np.ones(750), AT)[0] == pytest.approx(-0.1466667, abs=WITHIN)
    fit = newton_logistic(np.column_stack([np.ones(750), frame["age"].to_numpy()]), y)
    assert fit is not None
    age = 1 / (1 + np.exp(-(fit[0][0] + fit[0][1] * frame["age"].to_numpy())))
    assert net_benefit(y, age, AT)[0] == pytest.approx(0.0244444, abs=WITHIN)
    curve = decision_curve(y, p, 0.05, 0.45, points=9)
    place = curve.thresholds.index(0.25)
    assert curve.model[place] == pytest.approx(0.0640000, abs=WITHIN)
    assert curve.treat_all[place] == pytest.approx(-0.1466667, abs=WITHIN)


def test_survival_outcome_at_one_year(data: Path) -> None:
    frame = pl.read_csv(data / "df_surv.csv")
    time, event, p = frame["ttcancer"].to_numpy(), truth(frame["cancer"]), frame["cancerpredmarker"].to_numpy()
    assert net_benefit_survival(time, event, p, AT, 1.0)[0] == pytest.approx(0.05695371, abs=WITHIN)
    everybody = net_benefit_survival(time, event, np.ones(len(p)), AT, 1.0)[0]
    assert everybody == pytest.approx(-0.13695058, abs=WITHIN)


def test_case_control_sample(data: Path) -> None:
    frame = pl.read_csv(data / "df_case_control.csv")
    y = frame["casecontrol"].to_numpy().astype(np.int8)
    p = frame["cancerpredmarker"].to_numpy()
    assert net_benefit(y, p, AT, prevalence=0.15)[0] == pytest.approx(0.01495671, abs=WITHIN)
    assert net_benefit(y, p, AT)[0] != pytest.approx(0.01495671, abs=1e-3), "the sample's own share is another question"
