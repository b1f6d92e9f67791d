"""Planted effects have their size, and nothing planted changes nothing."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyreadstat
import pytest
from click.testing import CliRunner

from pipelines.cli import cli
from trialops.errors import TrialOpsError
from trialops.models.discrimination import auroc
from trialops.models.evaluation import evaluate_predictions
from trialops.models.fairness import audit_predictions
from trialops.models.policy import load_fairness_policy
from trialops.synthetic import generate
from trialops.synthetic.analytes import ANALYTES
from trialops.synthetic.events import IRRITATION
from trialops.synthetic.laboratory import VITAL_SPREAD, VITALS, lab_readings, vital_readings
from trialops.synthetic.planted import LARGEST_GAP, Bias, Drift, Planted, parse
from trialops.synthetic.population import Population, simulate
from trialops.synthetic.protocol import plan_sites

N, SITES = 12_000, 200


@dataclass(frozen=True)
class AtRisk:
    """Subjects on treatment at day 28: what is known of them, and what happened."""

    x: np.ndarray
    y: np.ndarray
    site: np.ndarray
    female: np.ndarray
    later: np.ndarray
    burden: np.ndarray

    @property
    def held_out(self) -> np.ndarray:
        return self.site % 3 == 0


def people(planted: Planted | None = None, *, n: int = N, seed: int = 5) -> Population:
    return simulate(seed, plan_sites(seed, n, SITES), np.arange(n), planted=planted)


def at_risk(planted: Planted | None = None, *, n: int = N, seed: int = 5) -> AtRisk:
    p = people(planted, n=n, seed=seed)
    kept = ~p.failed & (p.last_day > 28)
    seen = p.events.there & (p.events.onset > 0) & (p.events.onset <= 28)
    kind = np.asarray(IRRITATION)[p.events.term]
    irritation, other = (np.log1p(((p.events.severity + 1) * (seen & k)).sum(axis=1)) for k in (kind, ~kind))
    columns = [p.age, p.female, p.weight, p.height, irritation, other, p.alt_change]
    x = np.column_stack(columns).astype(float)[kept]
    return AtRisk(
        x, (p.reason[kept] != 0).astype(np.int8), p.site[kept], p.female[kept], p.later[kept], irritation[kept]
    )


def predicted(data: AtRisk, fitted_on: AtRisk | None = None) -> tuple[np.ndarray, float]:
    """Risk by a logistic model of the training sites, and its Youden threshold there."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_curve

    source = fitted_on or data
    train = ~source.held_out
    centre, scale = source.x[train].mean(axis=0), source.x[train].std(axis=0)
    model = LogisticRegression().fit((source.x[train] - centre) / scale, source.y[train])
    false, true, cuts = roc_curve(source.y[train], model.predict_proba((source.x[train] - centre) / scale)[:, 1])
    return model.predict_proba((data.x - centre) / scale)[:, 1], float(cuts[np.argmax(true - false)])


def rates(data: AtRisk, group: np.ndarray, risk: tuple[np.ndarray, float]) -> tuple[float, float]:
    flag, part = risk[0] >= risk[1], data.held_out & group
    return float(flag[part & (data.y == 1)].mean()), float(flag[part & (data.y == 0)].mean())


def test_nothing_planted_changes_no_byte(tmp_path: Path) -> None:
    generate(tmp_path / "a", subjects=60, sites=4, seed=3)
    generate(tmp_path / "b", subjects=60, sites=4, seed=3, planted=Planted())
    files = sorted(f.relative_to(tmp_path / "a") for f in (tmp_path / "a").rglob("*") if f.is_file())
    assert len(files) > 12 and not (tmp_path / "b" / "truth").exists()
    assert all((tmp_path / "a" / f).read_bytes() == (tmp_path / "b" / f).read_bytes() for f in files)


def test_no_signal_no_model_is_better_than_chance() -> None:
    data = at_risk(Planted(signal=0.0))
    risk, cut = predicted(data)
    held, site = data.held_out, data.site.astype(str)
    found = evaluate_predictions(
        data.y[held], risk[held], site[held], threshold=cut, decision_thresholds=(0.1, 0.8), replicates=100
    )
    assert found.verdict == "not shown to be better than chance"
    # the mirrored case: the same subjects with signal
    planted = at_risk()
    risk, cut = predicted(planted)
    held, site = planted.held_out, planted.site.astype(str)
    found = evaluate_predictions(
        planted.y[held], risk[held], site[held], threshold=cut, decision_thresholds=(0.1, 0.8), replicates=100
    )
    assert found.verdict == "better than chance" and found.auroc.value > 0.68
    # and as many leave
    assert abs(data.y.mean() - planted.y.mean()) < 0.02


def test_signal_scales() -> None:
    found = []
    for signal in (0.0, 0.5, 1.0, 1.5):
        data = at_risk(Planted(signal=signal))
        found.append(auroc(data.y[data.held_out], predicted(data)[0][data.held_out]))
    assert found == sorted(found) and found[2] - found[1] > 0.05 and found[3] - found[2] > 0.03


@pytest.mark.slow
def test_a_planted_gap_has_its_size_and_the_audit_says_so() -> None:
    """One model finds 0.15 less of the group's events; the small difference that the sexes have anyway comes on top."""
    plain, policy = at_risk(n=30_000), load_fairness_policy()
    before, between = predicted(plain), []
    held, sex = plain.held_out, np.where(plain.female, "F", "M").astype(object)
    report = audit_predictions(plain.y[held], before[0][held], {"sex": sex[held]}, threshold=before[1], policy=policy)
    assert report.verdict == "pass"
    for level in ("F", "M"):
        planted = at_risk(Planted(bias=Bias("sex", level, 0.15)), n=30_000)
        group, same = planted.female == (level == "F"), predicted(planted, fitted_on=plain)
        own = rates(planted, group, same)[0]
        assert rates(plain, plain.female == (level == "F"), before)[0] - own == pytest.approx(0.15, abs=0.03)
        between.append(rates(planted, ~group, same)[0] - own)
        risk = predicted(planted)  # a model that has learnt from the biased trial
        held, sex = planted.held_out, np.where(planted.female, "F", "M").astype(object)
        report = audit_predictions(planted.y[held], risk[0][held], {"sex": sex[held]}, threshold=risk[1], policy=policy)
        gaps = {gap.metric: gap for gap in report.attributes[0].gaps}
        assert gaps["true_positive_rate"].found and gaps["true_positive_rate"].lower_in == level
        assert "shown" in report.sentence()
    assert min(between) > 0.06 and np.mean(between) == pytest.approx(0.15, abs=0.03)


def test_a_biased_group_can_be_any_the_audit_knows() -> None:
    plain, p = people(), people(Planted(bias=Bias("age_band", ">80", 0.15)))
    changed = (p.reason != plain.reason) | (p.last_day != plain.last_day)
    assert changed[p.age > 80].mean() > 0.15 and not changed[p.age < 80].any()
    p = people(Planted(bias=Bias("race", "ASIAN", 0.2)))
    changed = (p.reason != plain.reason) | (p.last_day != plain.last_day)
    assert changed[p.race == 2].mean() > 0.15 and not changed[p.race != 2].any()


def test_shifts_have_their_size_after_the_point_and_only_there() -> None:
    drift = parse(["drift=ALT:0.5,SYSBP:-0.4,TEMP:1,age:0.3@0.6"])
    p, plain = people(drift), people()
    assert 0.2 < p.later.mean() < 0.6
    first = people(parse(["drift=age:0.3@0"]))
    assert first.later.all()

    def at_screening(q: Population, vital: str) -> np.ndarray:
        found = vital_readings(q)
        chosen = (found.test == [v.code for v in VITALS].index(vital)) & (found.visit == 0)
        return found.reported[chosen] / 10.0 ** VITALS[[v.code for v in VITALS].index(vital)].decimals

    def log_alt(q: Population) -> np.ndarray:
        found = lab_readings(q)
        chosen = (found.test == [a.code for a in ANALYTES].index("ALT")) & (found.visit == 0)
        return np.log(found.settled[chosen])

    later = p.later
    for vital, size in (("SYSBP", -0.4), ("TEMP", 1.0), ("PULSE", 0.0)):
        change = at_screening(p, vital) - at_screening(plain, vital)
        age_part = 0.35 * (p.age - plain.age) if vital == "SYSBP" else 0.0
        moved = (change - age_part) / VITAL_SPREAD[vital]
        assert moved[later].mean() == pytest.approx(size, abs=0.03) and abs(moved[~later]).max() < 0.1
        assert at_screening(plain, vital).std() == pytest.approx(VITAL_SPREAD[vital], rel=0.06)
    alt = ANALYTES[2]
    moved = (log_alt(p) - log_alt(plain)) / np.hypot(alt.between, alt.within)
    age_part = (p.age - plain.age) / 10 * np.log(alt.decade) / np.hypot(alt.between, alt.within)
    assert (moved - age_part)[later].mean() == pytest.approx(0.5, abs=0.03) and (moved[~later] == 0).all()
    assert ((p.age - plain.age) / 8)[later].mean() == pytest.approx(0.3, abs=0.03)
    assert (p.age == plain.age)[~later].all()


def test_concept_drift_turns_an_effect_round() -> None:
    data = at_risk(Planted(drift=Drift(0.5, effects={"irritation": -1.0})), n=20_000)
    early, late = (auroc(data.y[part], data.burden[part]) for part in (~data.later, data.later))
    assert early > 0.58 and late < 0.45
    plain = at_risk(n=20_000)
    assert not plain.later.any() and auroc(plain.y, plain.burden) > 0.58


def test_the_truth_is_written_down(tmp_path: Path) -> None:
    arguments = ["synthesize", "--subjects", "60", "--sites", "4", "--formats", "sdtm", "--out", str(tmp_path / "x")]
    arguments += ["--plant", "signal=0.5", "--plant", "bias=sex:F:0.15", "--plant", "drift=GLUC:1,effect.age:0@0.5"]
    done = CliRunner().invoke(cli, arguments)
    assert done.exit_code == 0, done.output
    truth = json.loads((tmp_path / "x" / "truth" / "planted.json").read_text())
    assert truth == json.loads((tmp_path / "x" / "trial.json").read_text())["arguments"]["planted"]
    assert truth["signal"] == 0.5 and truth["drift"] == {"after": 0.5, "shifts": {"GLUC": 1.0}, "effects": {"age": 0.0}}
    assert truth["bias"]["share_without_signal"] == pytest.approx(0.15 / LARGEST_GAP)
    lb = pyreadstat.read_xport(str(tmp_path / "x" / "sdtm" / "lb.xpt"))[0]
    assert len(lb) > 1000


@pytest.mark.parametrize(
    "text",
    [
        "signal=much",
        "signal=-1",
        "bias=sex:F",
        "bias=sex:F:0.5",
        "bias=sex:F:0",
        "bias=sex:X:0.1",
        "bias=shoe:9:0.1",
        "bias=age_band:old:0.1",
        "drift=ALT:0.5",
        "drift=ALT:0.5@1",
        "drift=@0.5",
        "drift=XYZ:1@0.5",
        "drift=effect.moon:1@0.5",
        "weather=rain",
    ],
)
def test_what_cannot_be_planted_is_refused_before_anything_is_written(tmp_path: Path, text: str) -> None:
    with pytest.raises(TrialOpsError) as caught:
        generate(tmp_path / "x", subjects=30, sites=3, planted=parse([text]))
    assert caught.value.fix and not (tmp_path / "x").exists()
