"""The policy of central monitoring: which indicators, which formulas, which limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from trialops.errors import TrialOpsError
from trialops.stores.digest import document_digest

Kind = Literal["binary", "rate"]
Direction = Literal["high", "low", "both"]
Method = Literal["normal", "exact"]
SHIPPED = Path(__file__).with_name("site_policy.yaml")


@dataclass(frozen=True)
class Indicator:
    """A key risk indicator; the terms are those of site_policy.yaml."""

    name: str
    label: str
    kind: Kind
    numerator: str
    denominator: str
    per: float
    unit: str
    minimum: float
    direction: Direction
    method: Method
    look_at: str
    health: bool = False


@dataclass(frozen=True)
class SitePolicy:
    """A policy of central monitoring.

    Attributes:
        version: Its version.
        digest: SHA-256 of its content; every decision names it.
        amber, red: Scores from which a site is flagged.
        winsorise: Share at each end that is pulled in before the dispersion is taken.
        indicators: In the order of the file.
        lags: Days from which a report or a query is late, and the default visit window.
        under_reporting: Family-wise error, landmark and smallest groups of the test of reporting.
        milestones: Days of slippage from which a milestone is amber and red.
        retention: Times shown and the smallest site that has a line.
        worse_by: Change of a score, away from zero, that a trend points out.
    """

    version: int
    digest: str
    amber: float
    red: float
    winsorise: float
    indicators: tuple[Indicator, ...]
    lags: Mapping[str, int]
    under_reporting: Mapping[str, float]
    milestones: Mapping[str, int]
    retention: Mapping[str, Any]
    worse_by: float

    def indicator(self, name: str) -> Indicator:
        """An indicator by name."""
        return next(one for one in self.indicators if one.name == name)


def site_policy(path: str = "") -> SitePolicy:
    """Read a policy.

    Args:
        path: YAML file; the shipped one where it is empty.

    Raises:
        TrialOpsError: It cannot be read, or does not say what is needed.
    """
    import yaml

    file = Path(path) if path else SHIPPED
    try:
        return parse_policy(yaml.safe_load(file.read_text("utf-8")), where=file.name)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise TrialOpsError(
            f"The policy of site monitoring cannot be read ({type(error).__name__})",
            where=file.name,
            fix="Name a YAML file like trialops/trial/site_policy.yaml.",
        ) from None


def parse_policy(document: Any, *, where: str = "policy") -> SitePolicy:
    """Check the content of a policy.

    Raises:
        TrialOpsError: A part is missing, unknown, or says something no formula can use.
    """
    try:
        indicators = tuple(Indicator(**item) for item in document["indicators"])
        policy = SitePolicy(
            version=int(document["version"]),
            digest=document_digest(document),
            amber=float(document["limits"]["amber"]),
            red=float(document["limits"]["red"]),
            winsorise=float(document["winsorise"]),
            indicators=indicators,
            lags=document["lags"],
            under_reporting=document["under_reporting"],
            milestones=document["milestones"],
            retention=document["retention"],
            worse_by=float(document["trend"]["worse_by"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise TrialOpsError(
            f"The policy of site monitoring is not complete: {error}",
            where=where,
            fix="Give it every part of trialops/trial/site_policy.yaml, and no other.",
        ) from None
    faults = [
        f"{one.name}: kind, direction or method is unknown"
        for one in indicators
        if one.kind not in ("binary", "rate")
        or one.direction not in ("high", "low", "both")
        or one.method not in ("normal", "exact")
    ]
    faults += [] if 0 < policy.amber < policy.red else ["limits: amber must be above 0 and below red"]
    faults += [] if 0 <= policy.winsorise < 0.5 else ["winsorise must be at least 0 and below 0.5"]
    faults += [] if len({i.name for i in indicators}) == len(indicators) else ["two indicators have one name"]
    if faults:
        raise TrialOpsError(
            "The policy of site monitoring cannot be used: " + "; ".join(faults),
            where=where,
            fix="See the head of trialops/trial/site_policy.yaml.",
        )
    return policy
