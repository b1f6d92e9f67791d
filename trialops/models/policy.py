"""Gates as data: when a model is promoted, when it counts as fair. A decision names the policy's digest."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trialops.models.record import plain
from trialops.models.task import Reader, read_yaml

POLICIES = Path(__file__).parent / "policies"
GAPS = ("true_positive_rate", "false_positive_rate", "equalized_odds")


@dataclass(frozen=True)
class PromotionPolicy:
    """When a trained model may replace the one in use.

    Attributes:
        name: Name of the policy.
        primary_metric: The one metric the decision rests on.
        confidence_level: Of every interval.
        must_beat_chance: Whether the lower bound has to lie above 0.5.
        min_subjects: Fewest held-out subjects.
        min_events: Fewest held-out events, and fewest non-events.
        non_inferiority_margin: Most the metric may lose, by the lower bound of the difference.
        fairness_insufficient: "hold_for_signature" or "allow".
        digest: SHA-256 of the policy's content.
    """

    name: str
    primary_metric: str
    confidence_level: float
    must_beat_chance: bool
    min_subjects: int
    min_events: int
    non_inferiority_margin: float
    fairness_insufficient: str
    digest: str

    def as_dict(self) -> dict[str, Any]:
        """The policy as JSON values."""
        return plain(self)


@dataclass(frozen=True)
class MitigationPolicy:
    """What may be tried against a gap. Nothing is applied by itself.

    Attributes:
        attribute_at_prediction: Attributes that may be read when a subject is flagged: thresholds by group.
        carried_by: Attribute -> features that hold it; a model without them is tried.
    """

    attribute_at_prediction: tuple[str, ...]
    carried_by: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class FairnessPolicy:
    """Limits of the fairness audit.

    Attributes:
        name: Name of the policy.
        confidence_level: Simultaneous over all pairs of groups.
        replicates: Bootstrap replicates.
        seed: Seed of the bootstrap.
        min_subjects: Fewest subjects of an assessable group.
        min_positives: Fewest events in it.
        min_negatives: Fewest non-events in it.
        unassessable_groups: "insufficient": an attribute with an unassessable group cannot pass; "list": it
            can, the group is only listed.
        absent_groups: The same choice for a declared group nobody of the held-out subjects belongs to.
        limits: Largest gap for each of `GAPS`.
        digest: SHA-256 of the policy's content.
        intersections: Attributes crossed with each other and audited like one.
        across_attributes: "bonferroni": attributes and intersections share the error; "none": each has it whole.
        min_events_for_slope: Fewest events, and non-events, for a group's calibration slope.
        mitigation: What may be tried against a gap.
    """

    name: str
    confidence_level: float
    replicates: int
    seed: int
    min_subjects: int
    min_positives: int
    min_negatives: int
    unassessable_groups: str
    absent_groups: str
    limits: Mapping[str, float]
    digest: str
    intersections: tuple[tuple[str, ...], ...]
    across_attributes: str
    min_events_for_slope: int
    mitigation: MitigationPolicy

    def as_dict(self) -> dict[str, Any]:
        """The policy as JSON values."""
        return plain(self)


def open_policy(source: str | Path) -> tuple[Reader, str]:
    """A policy file's reader, and the digest of its content.

    Args:
        source: Name of a shipped policy, or path of a YAML file.
    """
    path = (
        POLICIES / f"{source}.yaml"
        if isinstance(source, str) and re.fullmatch(r"[a-z0-9_-]+", source)
        else Path(source)
    )
    content = read_yaml(path)
    # of the content, not the file: a comment is not a change of policy
    digest = hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()
    return Reader(content, path), digest


def load_promotion_policy(source: str | Path = "promotion") -> PromotionPolicy:
    """Load and check a promotion policy.

    Args:
        source: Name of a shipped policy, or path of a YAML file.

    Returns:
        The policy.

    Raises:
        TrialOpsError: The file is missing or a key is missing, unknown or out of range.
    """
    top, digest = open_policy(source)
    policy = PromotionPolicy(
        name=top.get("name", str),
        primary_metric=top.choice("primary_metric", ("auroc",)),
        confidence_level=top.number("confidence_level", 0.5, 0.999),
        must_beat_chance=top.get("must_beat_chance", bool),
        min_subjects=top.whole("min_subjects", 1),
        min_events=top.whole("min_events", 1),
        non_inferiority_margin=top.number("non_inferiority_margin", 0.0, 0.5),
        fairness_insufficient=top.choice("fairness_insufficient", ("hold_for_signature", "allow")),
        digest=digest,
    )
    top.done()
    return policy


def load_fairness_policy(source: str | Path = "fairness") -> FairnessPolicy:
    """Load and check a fairness policy.

    Args:
        source: Name of a shipped policy, or path of a YAML file.

    Returns:
        The policy.

    Raises:
        TrialOpsError: The file is missing or a key is missing, unknown or out of range.
    """
    top, digest = open_policy(source)
    limits, mitigation = top.section("limits"), top.section("mitigation")
    carried, crossed = mitigation.section("carried_by"), top.get("intersections", list)
    for names in crossed:
        if not isinstance(names, list) or len(names) < 2 or len(set(map(str, names))) != len(names):
            raise top.refuse("intersections", "Each must list two attributes or more.", "Write [sex, age_band].")
    policy = FairnessPolicy(
        name=top.get("name", str),
        confidence_level=top.number("confidence_level", 0.5, 0.999),
        replicates=top.whole("replicates", 100, 1_000_000),
        seed=top.whole("seed", 0),
        min_subjects=top.whole("min_subjects", 2),
        min_positives=top.whole("min_positives", 1),
        min_negatives=top.whole("min_negatives", 1),
        unassessable_groups=top.choice("unassessable_groups", ("insufficient", "list")),
        absent_groups=top.choice("absent_groups", ("insufficient", "list")),
        limits={gap: limits.number(gap, 0.0, 1.0) for gap in GAPS},
        digest=digest,
        intersections=tuple(tuple(map(str, names)) for names in crossed),
        across_attributes=top.choice("across_attributes", ("bonferroni", "none")),
        min_events_for_slope=top.whole("min_events_for_slope", 2),
        mitigation=MitigationPolicy(
            attribute_at_prediction=mitigation.names("attribute_at_prediction", empty=True),
            carried_by={attribute: carried.names(attribute) for attribute in carried.content},
        ),
    )
    for reader in (top, limits, mitigation, carried):
        reader.done()
    return policy
