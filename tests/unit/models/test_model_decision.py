"""Comparison, decision by rule, and the model card."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from trialops.errors import TrialOpsError
from trialops.models.bundle import Bundle
from trialops.models.comparison import Comparison, compare_predictions, decide
from trialops.models.discrimination import Estimate, p_text
from trialops.models.evaluation import Evaluation, evaluate_predictions
from trialops.models.fairness import FairnessReport
from trialops.models.model_card import as_markdown, model_card
from trialops.models.policy import load_promotion_policy
from trialops.models.task import Task

POLICY = load_promotion_policy()


def predictions(n: int = 300, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, a good score and a weak one correlated with it."""
    rng = np.random.default_rng(seed)
    y = (rng.random(n) < 0.4).astype(np.int8)
    shared = rng.normal(size=n)
    good = 1 / (1 + np.exp(-(shared + 1.5 * y - 0.7)))
    weak = 1 / (1 + np.exp(-(shared + rng.normal(size=n) + 0.5 * y)))
    return y, good, weak


def evaluation(y: np.ndarray, p: np.ndarray) -> Evaluation:
    site = np.array([f"S{i % 4}" for i in range(len(y))])
    return evaluate_predictions(
        y,
        p,
        site,
        threshold=0.5,
        decision_thresholds=(0.1, 0.8),
        model="new",
        digest="a" * 64,
        replicates=100,
    )


def fairness(verdict: str) -> FairnessReport:
    return FairnessReport("new", "a" * 64, 0.5, (), verdict, "", "fairness", "")


def comparison(low: float, high: float, role: str = "champion", digest: str = "b" * 64) -> Comparison:
    gap = Estimate((low + high) / 2, low, high, "DeLong, paired")
    return Comparison("old", role, digest, 0.7, 0.7, gap, 0.5, 300, 120)


def test_the_paired_difference_agrees_with_a_bootstrap_of_subjects() -> None:
    from trialops.models.discrimination import auroc

    y, good, weak = predictions()
    result = compare_predictions(y, good, weak, comparator="weak", role="baseline")
    rng, gaps = np.random.default_rng(1), []
    for _ in range(1000):
        part = rng.integers(0, len(y), len(y))
        gaps.append(auroc(y[part], good[part]) - auroc(y[part], weak[part]))
    assert result.difference.value == pytest.approx(result.auroc - result.comparator_auroc)
    assert (result.difference.high - result.difference.low) / 3.92 == pytest.approx(np.std(gaps), rel=0.1)
    assert result.p_value < 0.001
    # the pairing matters: independent variances would give a wider interval
    alone = [evaluation(y, p).auroc for p in (good, weak)]
    unpaired = np.hypot(*(e.high - e.low for e in alone))
    assert result.difference.high - result.difference.low < unpaired


def test_the_test_holds_its_level_under_no_difference() -> None:
    rejected = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        y = (rng.random(120) < 0.4).astype(np.int8)
        a, b = (rng.normal(size=120) + y for _ in range(2))
        rejected += compare_predictions(y, a, b, comparator="b", role="champion").p_value < 0.05
    assert 0.02 <= rejected / 300 <= 0.09


def test_a_model_against_itself_and_undefined_cases() -> None:
    y, good, _ = predictions()
    same = compare_predictions(y, good, good**3, comparator="same order", role="champion")
    assert (same.difference.value, same.difference.low, same.difference.high, same.p_value) == (
        0.0,
        0.0,
        0.0,
        1.0,
    )
    y4, p4 = np.array([0, 0, 1, 1]), np.array([0.1, 0.2, 0.8, 0.9])
    opposed = compare_predictions(y4, p4, 1 - p4, comparator="opposed", role="champion")
    assert (opposed.difference.low, opposed.difference.high, opposed.p_value) == (-1.0, 1.0, 1.0)
    one = compare_predictions(y4[:3], p4[:3], p4[:3][::-1], comparator="one event", role="champion")
    assert (one.difference.low, one.difference.high) == (-1.0, 1.0)
    with pytest.raises(TrialOpsError, match="same outcome"):
        compare_predictions(y4[:2], p4[:2], p4[:2], comparator="x", role="champion")


@pytest.mark.parametrize(
    ("versus", "fair", "action"),
    [
        (comparison(0.01, 0.10), "pass", "promote"),
        (comparison(-0.04, 0.10), "pass", "promote"),
        (
            comparison(-0.06, 0.20),
            "pass",
            "unchanged",
        ),  # better on the point estimate, not shown non-inferior
        (comparison(-0.20, -0.06), "pass", "unchanged"),
        (comparison(-0.06, 0.20, "baseline"), "pass", "hold"),
        (comparison(-0.20, -0.06, "baseline"), "pass", "reject"),
        (comparison(0.0, 0.0, digest="a" * 64), "pass", "unchanged"),
        (None, "pass", "hold"),
        (comparison(0.01, 0.10), "fail", "reject"),
        (comparison(0.01, 0.10), "insufficient evidence", "hold"),
        (comparison(-0.06, 0.20), "insufficient evidence", "unchanged"),
    ],
)
def test_the_decision(versus: Comparison | None, fair: str, action: str) -> None:
    y, good, _ = predictions()
    decision = decide(evaluation(y, good), versus, fairness(fair), POLICY)
    assert decision.action == action
    assert len(decision.reasons) == 4
    assert (decision.policy_digest, decision.model_digest) == (POLICY.digest, "a" * 64)
    assert all(reason.met for reason in decision.reasons) == (action == "promote")
    json.dumps(decision.as_dict(), allow_nan=False)


def test_a_signature_can_be_waived_by_policy_only() -> None:
    y, good, _ = predictions()
    lenient = replace(POLICY, fairness_insufficient="allow")
    args = (evaluation(y, good), comparison(0.01, 0.1), fairness("insufficient evidence"))
    assert decide(*args, lenient).action == "promote"
    assert "Policy: hold_for_signature." in decide(*args, POLICY).reasons[-1].text


def test_a_model_not_shown_better_than_chance_is_not_promoted() -> None:
    rng = np.random.default_rng(5)
    y = (rng.random(100) < 0.4).astype(np.int8)
    noise = evaluation(y, rng.random(100))
    decision = decide(noise, comparison(0.01, 0.1), fairness("pass"), POLICY)
    assert noise.verdict != "better than chance"
    assert decision.action == "reject"
    assert f"{noise.auroc.low:.3f}" in decision.reasons[1].text
    relaxed = replace(POLICY, must_beat_chance=False)
    assert decide(noise, comparison(0.01, 0.1), fairness("pass"), relaxed).action == "promote"


def test_too_few_subjects_hold() -> None:
    y, good, _ = predictions(36)
    small = evaluation(y, good)
    assert small.verdict == "better than chance"
    decision = decide(small, comparison(0.01, 0.1), fairness("pass"), POLICY)
    assert decision.action == "hold"
    assert decision.reasons[0].text.startswith("36 held-out subjects (at least 40)")


def test_intervals_at_another_level_are_refused() -> None:
    y, good, _ = predictions()
    with pytest.raises(TrialOpsError, match="95% intervals; the policy asks for 90%"):
        decide(evaluation(y, good), None, fairness("pass"), replace(POLICY, confidence_level=0.9))


def test_the_model_card_carries_the_numbers_of_the_run(task: Task) -> None:
    y, good, _ = predictions()
    judged = evaluation(y, good)
    bundle = Bundle(
        "withdrawal",
        "logistic",
        ("age",),
        0.4,
        task.as_dict(),
        {
            "rows": 200,
            "events": 80,
            "sites": ["S8", "S9"],
            "table": "training",
            "version": 3,
            "digest": "c" * 64,
        },
        "run-7",
        {"C": 1.0},
        {"age": 75.0},
        (75.0,),
        (8.0,),
        (0.1,),
        notes=("bmi: dropped, constant",),
    )
    versus = comparison(0.01, 0.1)
    fair = fairness("insufficient evidence")
    decision = decide(judged, versus, fair, POLICY)
    card = model_card(task, bundle, judged, fair, comparison=versus, decision=decision)
    keys = [section["key"] for section in card["sections"]]
    assert keys == ["intended_use", "model", "data", "performance", "fairness", "limits", "decision"]
    json.dumps(card, allow_nan=False)
    text = as_markdown(card)
    for part in (
        bundle.digest,
        str(judged.auroc),
        "200 subjects, 80 events, 2 sites",
        "training version 3",
        "run-7",
        "bmi: dropped, constant",
        "**Action**: hold",
        "arm, dose and actual treatment are not inputs",
    ):
        assert part in text
    assert card == model_card(task, bundle, judged, fair, comparison=versus, decision=decision)

    search = {
        "trials": [{"number": 0}, {"number": 1}, {"number": 2}],
        "log_loss": 0.512,
        "baseline_log_loss": 0.598,
        "notes": ["bmi: dropped, constant", "4 folds instead of 5"],
        "training": {"table": "training/withdrawal", "version": 9, "digest": "d" * 64},
        "split": {
            "train": {"sites": 2, "subjects": 200, "events": 80},
            "held_out": {"sites": 4, "subjects": 300, "events": 121},
            "share": 0.6,
        },
    }
    text = as_markdown(model_card(task, bundle, judged, fair, search=search, created_by="run run-9, step search-model"))
    for part in (
        "**Created by**: run run-9, step search-model",
        "3 configurations fixed in advance; cross-validated log loss 0.512 (prespecified model 0.598)",
        "60% of subjects, by whole sites: 4 sites, 300 subjects and 121 events held out; 2 sites, 200 subjects",
        "training/withdrawal version 9, digest dddddddddddd",
        "4 folds instead of 5",
    ):
        assert part in text
    assert text.count("bmi: dropped, constant") == 1


@pytest.mark.parametrize(
    ("p", "words"), [(0.0, "p < 0.001"), (0.00099, "p < 0.001"), (0.001, "p = 0.001"), (0.5, "p = 0.500")]
)
def test_small_p_values_are_not_shown_as_zero(p: float, words: str) -> None:
    y, good, _ = predictions()
    versus = replace(comparison(0.01, 0.1), p_value=p)
    reasons = decide(evaluation(y, good), versus, fairness("pass"), POLICY).reasons
    assert p_text(p) == words and f"{words}; margin" in next(r.text for r in reasons if r.rule == "non-inferior")
