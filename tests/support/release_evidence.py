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
from trialops.models.evidence import split_facts
from trialops.models.fairness import FairnessBiasDetectorOperator, FairnessReport
from trialops.models.policy import load_fairness_policy
from trialops.models.task import Task, load_task
from trialops.stores.digest import table_digest
from trialops.stores.refs import Snapshot, TableRef


@dataclass(frozen=True)
class Judged:
    """A good model, a weak one, the held-out rows, what was found on them, and the documents that say so."""

    task: Task
    model: Bundle
    weak: Bundle
    rows: pl.DataFrame
    training: Snapshot
    evaluated: Evaluation
    audited: FairnessReport
    evaluation: dict[str, Any]
    fairness: dict[str, Any]
    search: dict[str, Any]

    def documents_of(self, model: Bundle) -> tuple[dict[str, Any], dict[str, Any]]:
        """The same evaluation and audit, about another model."""
        about = {**self.evaluation["model"], "digest": model.digest}
        return {**self.evaluation, "model": about}, {**self.fairness, "digest": model.digest}


def training_set(frame: pl.DataFrame) -> Snapshot:
    """What the lake will call a table with these rows when it is its first version."""
    digest = table_digest(frame.to_arrow(compat_level=pl.CompatLevel.oldest()))
    return Snapshot({"rows": TableRef("training/withdrawal", 0, frame.height, digest)})


def bundle(task: Task, weight: float, name: str = "withdrawal") -> Bundle:
    """A logistic model of the number of adverse events."""
    made_from = training_set(rows())
    return Bundle(
        name=name,
        kind="logistic",
        features=("ae_count", "age"),
        threshold=0.4,
        task=task.as_dict(),
        training={"digest": made_from.digest, "rows": 200, "events": 80, "sites": ["S90", "S91"]},
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
            "split": "held out",
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
    made_from = training_set(held_out)
    evaluation = {
        "model": evaluated.as_dict(),
        "baseline": reference.as_dict(),
        "against_baseline": against.as_dict(),
        "training": made_from.digest,
    }
    fairness = {**audited.as_dict(), "training": made_from.digest}
    search = {
        "digest": model.digest,
        "training": {"table": "training/withdrawal", "version": 0, "digest": made_from.digest},
        "trials": [{"number": 0, "kind": "logistic", "log_loss": 0.6}],
        "log_loss": 0.6,
        "baseline_log_loss": 0.68,
        "notes": [],
        "split": split_facts(held_out),
    }
    return Judged(task, model, weak, held_out, made_from, evaluated, audited, evaluation, fairness, search)
