"""Search space and course: drawn from the seed, learnt between generations, the same whatever finishes first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from trialops.errors import TrialOpsError
from trialops.models.search_course import Course, Ledger, Outcome, Trial
from trialops.models.search_space import SPACE, Space, load_space

TRIALS = 20


@pytest.fixture(scope="module")
def space() -> Space:
    return load_space()


def scored(trial: Trial, loss: Callable[[Trial], float] | None = None) -> Outcome:
    """An outcome made up from the parameters alone, with a curve over the rungs."""
    rate = trial.candidate.params.get("learning_rate", 0.1)
    value = loss(trial) if loss else 0.5 + abs(float(rate) - 0.05)
    curve = ((1, value + 0.2), (30, value + 0.1), (90, value)) if trial.candidate.kind == "lightgbm" else ()
    return Outcome(trial.candidate.number, value, 0.7, 90 if curve else 0, 0, curve)


def run(course: Course, *, order: int, at_once: int = 3) -> Course:
    """Finish a course with trials completing in a shuffled order."""
    rng, running = np.random.default_rng(order), []
    while not course.finished:
        while len(running) < at_once and (trial := course.take()):
            running.append(trial)
        course.tell(scored(running.pop(int(rng.integers(len(running))))))
    return course


def test_configurations_are_drawn_from_the_seed_alone(space: Space) -> None:
    one = space.draw(20, 4)
    assert space.draw(20, 4) == one
    assert space.draw(20, 5) != one
    kinds = [candidate.kind for candidate in one]
    assert (kinds.count("logistic"), kinds.count("lightgbm")) == (8, 12)
    assert [candidate.number for candidate in one] == list(range(20))
    trees = [c.params for c in one if c.kind == "lightgbm"]
    assert len({tuple(p.items()) for p in trees}) == 12
    assert all(0.02 <= p["learning_rate"] <= 0.15 and 3 <= p["num_leaves"] <= 15 for p in trees)
    assert {c.kind for c in space.draw(2, 0)} == {"logistic", "lightgbm"}
    assert len(space.draw(1, 0)) == 1


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("{low: 0.001, high: 10.0, log: true}", "{low: 10.0, high: 1.0}", "logistic.C.low"),
        ("rungs: [30, 90]", "rungs: [90, 30]", "plan.rungs"),
        ("sampler: tpe", "sampler: guess", "plan.sampler"),
    ],
)
def test_a_bad_space_is_refused(tmp_path: Path, old: str, new: str, key: str) -> None:
    path = tmp_path / "space.yaml"
    text = SPACE.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(TrialOpsError) as error:
        load_space(path)
    assert error.value.where.endswith(f"key {key}")


def test_the_course_does_not_depend_on_what_finishes_first(space: Space, tmp_path: Path) -> None:
    courses = [run(Course(TRIALS, 4, space, tmp_path / str(k)), order=k, at_once=1 + k) for k in range(4)]
    for course in courses[1:]:
        assert course.candidates == courses[0].candidates
        assert course.outcomes() == courses[0].outcomes()
    other = run(Course(TRIALS, 5, space, tmp_path / "other"), order=0)
    assert other.candidates != courses[0].candidates


def test_later_generations_learn_from_earlier_ones(space: Space, tmp_path: Path) -> None:
    """Where a rate of 0.05 is best, TPE proposes rates nearer to it than the Sobol sequence does."""

    def distance(sampler: str) -> float:
        plan = replace(space.plan, sampler=sampler)
        course = run(Course(60, 1, replace(space, plan=plan), tmp_path / sampler), order=0)
        late = [c for c in course.candidates if c.number >= 30 and c.kind == "lightgbm"]
        return float(np.mean([abs(c.params["learning_rate"] - 0.05) for c in late]))

    assert distance("tpe") < 0.7 * distance("sobol")


def test_cuts_come_from_complete_generations_alone(space: Space, tmp_path: Path) -> None:
    course, size = Course(TRIALS, 4, space, tmp_path), space.plan.generation
    first = [course.take() for _ in range(size)]
    assert all(trial is not None and trial.cuts == () for trial in first)
    assert course.take() is None, "the generation is not complete"
    losses = []
    for k, trial in enumerate(reversed(first)):
        assert trial is not None
        outcome = scored(trial, lambda _, k=k: 0.5 + k / 100)
        losses += [outcome.log_loss] if outcome.curve else []
        course.tell(outcome)
    second = [course.take() for _ in range(size)]
    boosted = next(t for t in second if t and t.candidate.kind == "lightgbm")
    keep = space.plan.keep
    assert boosted.cuts == (
        (30, pytest.approx(np.quantile(np.array(losses) + 0.1, keep))),
        (90, pytest.approx(np.quantile(losses, keep))),
    )
    assert all(t.cuts == () for t in second if t and t.candidate.kind == "logistic")
    assert Trial.loads(boosted.dumps()) == boosted


def test_a_course_taken_up_again_goes_on_where_it_was(space: Space, tmp_path: Path) -> None:
    whole = run(Course(TRIALS, 4, space, tmp_path / "whole"), order=0)
    for cut in (1, 8, 13, 19):
        folder = tmp_path / f"cut-{cut}"
        course, done = Course(TRIALS, 4, space, folder), 0
        while done < cut:
            trial = course.take()
            assert trial is not None
            course.tell(scored(trial))
            done += 1
        again = Course(TRIALS, 4, space, folder)
        assert again.kept == cut
        handed = []
        while trial := again.take():
            handed.append(trial.candidate.number)
            again.tell(scored(trial))
        assert len(handed) == TRIALS - cut
        assert again.candidates == whole.candidates and again.outcomes() == whole.outcomes()


def test_a_record_cut_short_is_not_a_finished_trial(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    kept = Outcome(3, 0.5, float("nan"), 7, 0, ((1, 0.6), (7, 0.5)))
    ledger.write(kept)
    (tmp_path / "000004.json").write_text('{"number": 4, "log_l')
    (tmp_path / "000005.partial").write_text("{}")
    found = ledger.read()
    assert set(found) == {3} and found[3].curve == kept.curve and np.isnan(found[3].auroc)


def test_a_fit_is_given_up_at_the_rung_it_fails() -> None:
    from trialops.models.candidates import Rounds, cross_validate
    from trialops.models.split import Folds

    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 4))
    y = (rng.random(300) < 1 / (1 + np.exp(-2 * x[:, 0]))).astype(np.int8)
    folds = Folds(np.arange(300) % 3, (("a",), ("b",), ("c",)), ())
    candidate = next(c for c in load_space().draw(4, 0) if c.kind == "lightgbm")
    whole = cross_validate(candidate, x, y, folds, Rounds(200, 30), 0)
    assert whole.stopped == 0 and len(whole.curve) > 20
    assert whole.curve[whole.rounds - 1] == min(whole.curve)
    passes = cross_validate(candidate, x, y, folds, Rounds(200, 30), 0, [(10, whole.curve[9])])
    assert passes.log_loss == whole.log_loss and passes.curve == whole.curve
    fails = cross_validate(candidate, x, y, folds, Rounds(200, 30), 0, [(10, whole.curve[9] - 1e-12)])
    assert fails.stopped == 10 and fails.curve == whole.curve[:10]


def test_the_family_that_trails_gets_fewer_trials_but_never_none(space: Space, tmp_path: Path) -> None:
    """Counts by hand: of five trials after the first generation, one is left to the family behind (shares 40 : 60)."""

    def kinds(better: str, name: str) -> list[list[str]]:
        course = Course(TRIALS, 4, space, tmp_path / name)
        while trial := course.take():
            course.tell(scored(trial, lambda t: 0.5 if t.candidate.kind == better else 0.6))
        drawn, size = [c.kind for c in course.candidates], space.plan.generation
        return [drawn[start : start + size] for start in range(0, TRIALS, size)]

    assert [part.count("lightgbm") for part in kinds("logistic", "a")] == [3, 1, 1, 1]
    assert [part.count("lightgbm") for part in kinds("lightgbm", "b")] == [3, 4, 4, 4]
    one_each = replace(space, plan=replace(space.plan, trailing=0.0))
    assert one_each.queue(5, "logistic").count("lightgbm") == one_each.queue(5, "lightgbm").count("logistic") == 1


def test_boosting_all_folds_is_what_lightgbm_cv_does_and_bins_are_made_once(space: Space) -> None:
    import lightgbm

    from trialops.models.candidates import Bins, cross_validate, lightgbm_params
    from trialops.models.split import Folds

    rng = np.random.default_rng(2)
    x = np.where(rng.random((300, 4)) < 0.1, np.nan, rng.normal(size=(300, 4)))
    y = (rng.random(300) < 1 / (1 + np.exp(-2 * np.nan_to_num(x[:, 0])))).astype(np.int8)
    folds, bins = Folds(np.arange(300) % 3, (("a",), ("b",), ("c",)), ()), Bins()
    made = []
    for candidate in [c for c in space.draw(6, 0) if c.kind == "lightgbm"]:
        found = cross_validate(candidate, x, y, folds, space.rounds, 7, bins=bins)
        made.append(bins._made.sets)
        other = lightgbm.cv(
            lightgbm_params(candidate.params, 7),
            lightgbm.Dataset(x, label=y),
            num_boost_round=space.rounds.most,
            folds=[(np.flatnonzero(folds.fold != k), np.flatnonzero(folds.fold == k)) for k in range(3)],
            callbacks=[lightgbm.early_stopping(space.rounds.patience, verbose=False)],
        )["valid binary_logloss-mean"]
        assert found.rounds == len(other), "early stopping chooses the same round"
        assert list(found.curve[: found.rounds]) == other
        alone = cross_validate(candidate, x, y, folds, space.rounds, 7)
        assert np.array_equal(alone.out_of_fold, found.out_of_fold)
    assert len(made) > 2 and all(sets is made[0] and len(sets) == 1 for sets in made)
