"""One table judged for one kind of release, with what would make it pass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError
from trialops.intake.domains import current_rows
from trialops.privacy.risk import Generalised, Judgement, Risk, assess, generalise, judge
from trialops.privacy.risk_policy import RiskPolicy, default_risk_policy

if TYPE_CHECKING:
    import polars as pl

    from trialops.stores.context import Step


@dataclass(frozen=True)
class ReleaseRisk:
    """What the gate says.

    Attributes:
        data_set: Table judged.
        release: Kind of release.
        quasi: Quasi-identifiers of it that the table has.
        risk: Measures.
        judged: Verdict.
        coarse: The table made coarse enough, where it does not pass.
        policy_version: Version of risk.yaml.
    """

    data_set: str
    release: str
    quasi: tuple[str, ...]
    risk: Risk
    judged: Judgement
    coarse: Generalised
    policy_version: str

    def policy(self) -> dict[str, Any]:
        """What the verdict was made by."""
        thresholds = {name: threshold for name, _, threshold, _ in self.judged.checks}
        return {"risk": self.policy_version, "release": self.release, "quasi": list(self.quasi), "gate": thresholds}

    def as_dict(self) -> dict[str, Any]:
        """Plain data; no rows."""
        return {
            "data_set": self.data_set,
            "verdict": self.judged.verdict,
            "risk": self.risk.as_dict(),
            "checks": [list(check) for check in self.judged.checks],
            "policy": self.policy(),
            "advice": {
                "steps": [list(step) for step in self.coarse.steps],
                "suppressed": self.coarse.suppressed,
                "k": self.coarse.risk.k,
                "verdict": self.coarse.judgement.verdict,
            },
        }


def tables_in_force(run: Step, dataset: str) -> dict[str, pl.DataFrame] | None:
    """The newest validated tables; None before the first."""
    manifest = run.lake.last_validated(dataset)
    return None if manifest is None else run.read_snapshot(dataset, manifest.snapshot)


def judge_release(
    tables: Mapping[str, pl.DataFrame], data_set: str, release: str, policy: RiskPolicy | None = None
) -> ReleaseRisk:
    """Judge a table for a release.

    Args:
        tables: Clean tables by name.
        data_set: Name of the table, declared in risk.yaml.
        release: Kind of release.
        policy: The platform's own by default.

    Raises:
        TrialOpsError: Table, data set or release is not there, or a subject has more than one
            row: risk is a risk of people.
    """
    policy = policy or default_risk_policy()
    declared, gate = policy.declared(data_set), policy.gate(release)
    found = [current_rows(name.upper(), f) for name, f in tables.items() if name.lower() == data_set.lower()]
    frame = found[0] if found else None
    if frame is None or declared.subject not in frame.columns:
        raise TrialOpsError(
            f"There is no table {data_set} with {declared.subject} to judge.",
            where="assess-risk",
            fix="Connect clean tables that hold it.",
        )
    if frame[declared.subject].n_unique() != frame.height:
        raise TrialOpsError(
            "Residual risk is measured on one row per subject; the table has several.",
            where=data_set,
            fix="Choose a table with one row per subject, such as DM.",
        )
    quasi = tuple(c for c in declared.quasi if c in frame.columns)
    sensitive = tuple(c for c in declared.sensitive if c in frame.columns)
    risk = assess(frame, quasi, sensitive, k=gate.k or 1, ordered=declared.ordered)
    judged = judge(risk, gate, policy.decimals)
    coarse = generalise(
        frame, quasi, declared.ladders, gate, sensitive=sensitive, ordered=declared.ordered, decimals=policy.decimals
    )
    return ReleaseRisk(data_set, release, quasi, risk, judged, coarse, policy.version)
