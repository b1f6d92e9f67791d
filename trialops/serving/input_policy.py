"""What the model server predicts on: limits as data, with a digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trialops.errors import TrialOpsError

SHIPPED = Path(__file__).parent / "policies" / "inputs.yaml"
REFUSE, WARN = "refuse", "warn"


@dataclass(frozen=True)
class InputPolicy:
    """Limits on online features.

    Attributes:
        version: Version of the policy.
        stale: "refuse" or "warn" where a view is older than its limit.
        default_max_age_days: Limit of views that are not listed; None for any age.
        max_age_days: Limits by view.
        missing: "refuse" or "warn" where too many features have no value.
        max_missing_share: Largest share of features without a value in a row, 0 to 1.
    """

    version: int
    stale: str
    default_max_age_days: int | None
    max_age_days: Mapping[str, int | None]
    missing: str
    max_missing_share: float

    def limit(self, view: str) -> int | None:
        """Largest age of a view in days; None for any."""
        return self.max_age_days.get(view, self.default_max_age_days)

    @property
    def digest(self) -> str:
        """SHA-256 of the content, whatever its layout."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], where: str = "input policy") -> InputPolicy:
        """Read and check a policy.

        Raises:
            TrialOpsError: A key is missing, unknown or out of range; the message names it.
        """

        def check(key: str, good: bool) -> None:
            if not good:
                raise TrialOpsError(
                    f"The input policy cannot be used: {key}.",
                    where=where,
                    fix=f"Compare it with {SHIPPED.name}, which explains every key.",
                )

        def whole(value: object) -> bool:
            return value is None or (type(value) is int and value >= 0)

        check("its keys", set(content) == set(cls.__dataclass_fields__))
        check("version", type(content["version"]) is int)
        for key in ("stale", "missing"):
            check(f"{key} is neither refuse nor warn", content[key] in (REFUSE, WARN))
        check("default_max_age_days", whole(content["default_max_age_days"]))
        ages = content["max_age_days"]
        check("max_age_days", isinstance(ages, Mapping) and all(whole(v) for v in ages.values()))
        share = content["max_missing_share"]
        check("max_missing_share", type(share) in (int, float) and 0 <= share <= 1)
        return cls(**{**content, "max_age_days": dict(ages), "max_missing_share": float(share)})


def load_input_policy(path: Path = SHIPPED) -> InputPolicy:
    """Read a policy from YAML; the shipped one by default.

    Raises:
        TrialOpsError: The file cannot be read or is no policy.
    """
    import yaml

    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise TrialOpsError(
            f"The input policy cannot be read: {type(error).__name__}.", where=str(path), fix="Give a YAML file."
        ) from None
    if not isinstance(content, dict):
        raise TrialOpsError("The input policy is empty.", where=str(path), fix=f"Start from {SHIPPED.name}.")
    return InputPolicy.from_dict(content, str(path))
