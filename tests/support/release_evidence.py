"""A model with its evaluation and audit, made once: what a release is decided on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import polars as pl

from trialops.models.bundle import Bundle
from trialops.models.comparison import compare
from trialops.models.evaluation import ClinicalModelEvaluatorOperator, Evaluation
from trialops.models.fairness import FairnessBiasDetectorOperator, FairnessReport
from trialops.models.policy import load_fairness_policy
from trialops.models.task import Task, load_task


@dataclass(frozen=True)
class Judged:
    """A good model, a weak one, the held-out rows, and what was found on them."""

    task: Task
    model: Bundle
    weak: Bundle
    rows: pl.DataFrame
    evaluated: Evaluation
    audited: FairnessReport
    evaluation: dict[str, Any]
    fairness: dict[str, Any]


def bundle(task: Task, weight: float, name: str = "withdrawal") -> Bundle:
    """A logistic model of the number of adverse events."""
    return Bundle(
        name=name,
        kind="logistic",
        features=("ae_count", "age"),
        threshold=0.4,
        task=task.as_dict(),
        training={
            "table": "training/withdrawal",
            "version": 0,
            "digest": "0" * 64,
            "rows": 200,
            "events": 80,
            "sites": ["S90", "S91"],
        },
        created_by="run-1",
        params={"C": 1.0},
        fill={"ae_count": 0.0, "age": 75.0},
        centre=(0.0, 75.0),
        scale=(1.0, 8.0),
        coefficients=(weight, 0.1),
        intercept=-0.9,
    )


def rows(n: int = 300, seed: int = 1) -> pl.DataFrame:
    """Held-out subjects; the smallest site has one outcome, and one race is a handful."""
    rng = np.random.default_rng(seed)
    label = (rng.random(n) < 0.4).astype(np.int8)
    site = rng.choice(12, n, p=np.arange(1, 13) / 78)
    label[site == 0] = 0
    return pl.DataFrame(
        {
            "subject_id": [f"P{i:04d}" for i in range(n)],
            "site_id": [f"S{k:02d}" for k in site],
            "label": label,
            "ae_count": rng.normal(size=n) + 1.5 * label,
            "age": rng.normal(75, 8, n).round(),
            "group_sex": rng.choice(["F", "M"], n),
            "group_age_band": rng.choice(["<65", "65-80", ">80"], n),
            "group_race": rng.choice(["WHITE", "BLACK OR AFRICAN AMERICAN"], n, p=[0.97, 0.03]),
        }
    )


@cache
def judged() -> Judged:
    """The evidence; the groups are too small to tell, so the audit finds insufficient evidence."""
    task, held_out = load_task(), rows()
    model, weak = bundle(task, 1.2), bundle(task, -0.2, "withdrawal-baseline")
    judge = ClinicalModelEvaluatorOperator(task, seed=1, replicates=100)
    evaluated, reference = judge.run(model, held_out), judge.run(weak, held_out)
    audited = FairnessBiasDetectorOperator(task, load_fairness_policy()).run(model, held_out)
    against = compare(model, weak, held_out, role="baseline")
    evaluation = {
        "model": evaluated.as_dict(),
        "baseline": reference.as_dict(),
        "against_baseline": against.as_dict(),
    }
    return Judged(task, model, weak, held_out, evaluated, audited, evaluation, audited.as_dict())
