"""The drift policy: levels, smallest numbers and what counts as a difference that matters."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trialops.models.record import plain
from trialops.models.task import Reader, read_yaml

POLICIES = Path(__file__).parent / "policies"


@dataclass(frozen=True)
class ClassifierPolicy:
    """The domain classifier: most rows of either side, folds, penalty (C), and the area from which it matters."""

    alpha: float
    rows: int
    folds: int
    penalty: float
    relevant_auroc: float


@dataclass(frozen=True)
class DependencePolicy:
    """Change of correlations: most rows, permutations, and the change of one pair and of all that matters."""

    alpha: float
    rows: int
    permutations: int
    relevant_correlation: float
    relevant_rms: float


@dataclass(frozen=True)
class ImportancePolicy:
    """Stability of permutation importance: most rows, repeats, and the least Kendall's tau."""

    rows: int
    repeats: int
    min_tau: float


@dataclass(frozen=True)
class DriftPolicy:
    """When data count as drifted.

    Attributes:
        name: Name of the policy.
        version: Its version.
        alpha: Level of the features' tests together.
        min_reference_rows: Fewest rows of the reference.
        min_rows: Fewest current rows.
        min_expected: Least expected count of a cell that is tested by itself.
        min_site_rows: Fewest rows of a site on either side.
        alert_psi: PSI above which an alert is raised.
        relevant_psi: PSI from which a difference matters.
        relevant_shift_sd: Wasserstein distance from which it matters, in standard deviations.
        power: With which a PSI of `alert_psi` has to be seen before "no drift" is said.
        judged_share: Share of features of which it has to be possible.
        classifier: The domain classifier.
        dependence: Change of correlations.
        importance: Stability of importance.
        landmark_slack_days: Most days between a logged prediction and the landmark.
        seed: Seed of folds, samples and permutations.
        digest: SHA-256 of the policy's content.
    """

    name: str
    version: int
    alpha: float
    min_reference_rows: int
    min_rows: int
    min_expected: float
    min_site_rows: int
    alert_psi: float
    relevant_psi: float
    relevant_shift_sd: float
    power: float
    judged_share: float
    classifier: ClassifierPolicy
    dependence: DependencePolicy
    importance: ImportancePolicy
    landmark_slack_days: int
    seed: int
    digest: str

    def as_dict(self) -> dict[str, Any]:
        """The policy as JSON values."""
        return plain(self)


def load_drift_policy(source: str | Path = "drift") -> DriftPolicy:
    """Load and check a drift policy.

    Args:
        source: Name of a shipped policy, or path of a YAML file.

    Raises:
        TrialOpsError: The file is missing or a key is missing, unknown or out of range.
    """
    named = isinstance(source, str) and re.fullmatch(r"[a-z0-9_-]+", source)
    path = POLICIES / f"{source}.yaml" if named else Path(source)
    content = read_yaml(path)
    top = Reader(content, path)
    alpha, classifier = top.section("alpha"), top.section("classifier")
    dependence, importance = top.section("dependence"), top.section("importance")
    policy = DriftPolicy(
        name=top.get("name", str),
        version=top.whole("version", 1),
        alpha=alpha.number("features", 1e-6, 0.5),
        min_reference_rows=top.whole("min_reference_rows", 2),
        min_rows=top.whole("min_rows", 2),
        min_expected=top.number("min_expected", 1.0, 100.0),
        min_site_rows=top.whole("min_site_rows", 11),
        alert_psi=top.number("alert_psi", 0.0, 10.0),
        relevant_psi=top.number("relevant_psi", 0.0, 10.0),
        relevant_shift_sd=top.number("relevant_shift_sd", 0.0, 10.0),
        power=top.number("power", 0.5, 0.999),
        judged_share=top.number("judged_share", 0.0, 1.0),
        classifier=ClassifierPolicy(
            alpha=alpha.number("classifier", 1e-6, 0.5),
            rows=classifier.whole("rows", 100),
            folds=classifier.whole("folds", 2, 20),
            penalty=classifier.number("penalty", 1e-9, 1e9),
            relevant_auroc=classifier.number("relevant_auroc", 0.5, 1.0),
        ),
        dependence=DependencePolicy(
            alpha=alpha.number("dependence", 1e-6, 0.5),
            rows=dependence.whole("rows", 100),
            permutations=dependence.whole("permutations", 99, 100_000),
            relevant_correlation=dependence.number("relevant_correlation", 0.0, 2.0),
            relevant_rms=dependence.number("relevant_rms", 0.0, 2.0),
        ),
        importance=ImportancePolicy(
            rows=importance.whole("rows", 100),
            repeats=importance.whole("repeats", 1, 1000),
            min_tau=importance.number("min_tau", -1.0, 1.0),
        ),
        landmark_slack_days=top.whole("landmark_slack_days", 0),
        seed=top.whole("seed", 0),
        digest=hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest(),
    )
    for reader in (top, alpha, classifier, dependence, importance):
        reader.done()
    return policy
