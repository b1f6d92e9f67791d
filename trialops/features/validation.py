"""Validation of a build of the features: its contracts, and what has changed since the build before.

Two builds share most of their subjects, so the tests of drift between them err on the side of no drift: what they find
is not chance. The sharp question between builds is another one, whether the past was rewritten.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trialops.features.contracts import BREACHED, Checked, Contracts, check
from trialops.features.difference import CHANGED, REMOVED, Difference, difference
from trialops.features.views import KEYS, ages
from trialops.models.record import plain
from trialops.monitoring.drift import DRIFT, INSUFFICIENT, DriftReport, drift
from trialops.monitoring.drift_policy import DriftPolicy
from trialops.monitoring.reference import profile
from trialops.monitoring.stability import (
    UNSTABLE,
    CorrelationChange,
    ImportanceStability,
    correlation_change,
    importance_stability,
)

if TYPE_CHECKING:
    import polars as pl

    from trialops.features.definitions import Definitions
    from trialops.models.bundle import Bundle
    from trialops.models.task import Task
    from trialops.stores.context import Step
    from trialops.stores.refs import Snapshot

PASS, BREACH = "pass", "breach"
SUBJECT = "subject_id"


@dataclass(frozen=True)
class Validation:
    """What was found.

    Attributes:
        verdict: "breach" of a contract, "drift", "pass", or "insufficient evidence" for a first build.
        reasons: In words.
        contracts: Every contract checked.
        report: Distributions against the build before; None for a first build.
        correlations: Their change; None for a first build.
        importance: Stability of what the model leans on; None without a model or a build before.
        restated: Features with rows whose value at the same moment has changed, and features that are gone.
    """

    verdict: str
    reasons: tuple[str, ...]
    contracts: tuple[Checked, ...]
    report: DriftReport | None
    correlations: CorrelationChange | None
    importance: ImportanceStability | None
    restated: tuple[Difference, ...]

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        return plain(self)


def previous_build(run: Step, current: Snapshot) -> dict[str, pl.DataFrame] | None:
    """The feature views built before these; None for the first build, or where retention has removed it.

    Args:
        run: The step.
        current: The build that is validated.
    """
    from trialops.errors import TrialOpsError
    from trialops.features.current import CHAIN

    builds = [manifest.snapshot for manifest in run.lake.manifests(CHAIN)]
    digests = [build.digest for build in builds]
    if current.digest in digests:
        builds = builds[: len(digests) - digests[::-1].index(current.digest)]
    earlier = next((build for build in reversed(builds) if build.digest != current.digest), None)
    if earlier is None:
        return None
    try:
        return run.read_snapshot("previous features", earlier)
    except TrialOpsError:
        return None


def latest_rows(views: Mapping[str, pl.DataFrame], definitions: Definitions, *, day: int) -> pl.DataFrame:
    """The newest row of each subject in each view of subjects, joined; ages as of a day.

    Args:
        views: View -> frame.
        definitions: Their definitions.
        day: Study day for the ages.

    Returns:
        One row per subject, sorted by subject_id.
    """
    import polars as pl

    subjects = [name for name in definitions.views if name in views]
    joined = pl.concat([views[name].select(SUBJECT) for name in subjects]).unique().sort(SUBJECT)
    for name in subjects:
        frame = views[name].sort("event_timestamp", "created", maintain_order=True)
        newest = frame.unique(SUBJECT, keep="last", maintain_order=True).drop(KEYS[1:])
        joined = joined.join(newest, on=SUBJECT, how="left", maintain_order="left")
    return ages(joined, definitions, day)


def validate(
    views: Mapping[str, pl.DataFrame],
    before: Mapping[str, pl.DataFrame] | None,
    task: Task,
    definitions: Definitions,
    contracts: Contracts,
    policy: DriftPolicy,
    bundle: Bundle | None = None,
) -> Validation:
    """Validate a build.

    Args:
        views: The build's views.
        before: Those of the build before; None for the first.
        task: The task whose features must have a contract, and whose landmark the ages are taken at.
        definitions: The definitions of the views.
        contracts: The contracts.
        policy: The drift policy.
        bundle: The model in use, for the stability of importance.
    """
    now = latest_rows(views, definitions, day=task.landmark_day)
    checked = tuple(check(now, definitions, contracts, task.features))
    broken = [item for item in checked if item.state == BREACHED]
    reasons = [f"{item.feature}: {'; '.join(item.breaches)}" for item in broken]
    if before is None:
        verdict = BREACH if broken else INSUFFICIENT
        return Validation(verdict, (*reasons, "there is no build before this one"), checked, None, None, None, ())
    then = latest_rows(before, definitions, day=task.landmark_day)
    shared = [c for c in now.columns if c != SUBJECT and c in then.columns]
    report = drift(profile(then, shared), now, policy)
    correlations = correlation_change(then, now, shared, policy)
    importance = None
    if bundle is not None and set(bundle.features) <= set(shared):
        importance = importance_stability(bundle, then, now, policy)
    restated, rewritten = _restated(before, views, definitions)
    changed = []
    if report.verdict == DRIFT:
        changed.append(report.reason)
    if correlations.state == DRIFT:
        changed.append(f"correlations have changed ({len(correlations.changed)} pairs by themselves)")
    if importance is not None and importance.state == UNSTABLE:
        changed.append(f"the model leans on other features (tau {importance.tau:.2f})")
    if rewritten > contracts.most_restated:
        changed.append(f"values of the past were rewritten for {rewritten:.0%} of the subjects")
    verdict = BREACH if broken else DRIFT if changed else PASS
    if verdict == PASS and report.verdict == INSUFFICIENT:
        verdict, changed = INSUFFICIENT, [report.reason]
    return Validation(verdict, (*reasons, *changed), checked, report, correlations, importance, restated)


def _restated(
    before: Mapping[str, pl.DataFrame], after: Mapping[str, pl.DataFrame], definitions: Definitions
) -> tuple[tuple[Difference, ...], float]:
    """Features whose past differs, at moments both builds have; and the greatest share of subjects concerned."""
    names = [name for name in definitions.views if name in before and name in after]
    key = list(KEYS)
    old = {name: before[name].join(after[name].select(key), on=key, how="semi") for name in names}
    new = {name: after[name].join(before[name].select(key), on=key, how="semi") for name in names}
    held, left = ({name: f for name, f in build.items() if name in definitions.views} for build in (before, after))
    gone = [item for item in difference(held, left, {}) if item.what == REMOVED]
    found = [item for item in difference(old, new, {}) if item.what == CHANGED] + gone
    return tuple(found), max((item.subjects / item.of for item in found if item.of), default=0.0)
