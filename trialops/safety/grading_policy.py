"""The grading policy: grading.yaml, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError
from trialops.safety.criteria import VERSIONS

if TYPE_CHECKING:
    from trialops.trial.study_file import StudyFile


@dataclass(frozen=True)
class GradingPolicy:
    """grading.yaml; the fields are explained there.

    Attributes:
        digest: SHA-256 of the document.
    """

    version: str
    ctcae: str
    on_treatment_days: int
    correct_calcium: bool
    albumin: float
    calcium_per: Mapping[str, float]
    blood: tuple[str, ...]
    not_blood: tuple[str, ...]
    query_from_grade: int
    query_alone: bool
    query_times: Mapping[str, int]
    window_before_days: int
    window_after_days: int
    hys_law: Mapping[str, float]
    qtc_absolute: tuple[int, ...]
    qtc_increase: tuple[int, ...]
    rate_disagreement: float
    digest: str

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> GradingPolicy:
        """Check a policy document.

        Raises:
            TrialOpsError: A value is not one of those allowed.
        """
        from trialops.stores.digest import document_digest

        seek = content["detection"]
        if content["ctcae"] not in VERSIONS:
            raise TrialOpsError(f"ctcae is {content['ctcae']!r}", where="grading.yaml", fix=f"Use {VERSIONS}.")
        if seek["query_grade"] not in ("alone", "assumed"):
            raise TrialOpsError("detection.query_grade is neither alone nor assumed", where="grading.yaml")
        if not 1 <= int(seek["query_from_grade"]) <= 4:
            raise TrialOpsError("detection.query_from_grade is no grade from 1 to 4", where="grading.yaml")
        calcium = content["calcium"]
        return cls(
            version=str(content["version"]),
            ctcae=str(content["ctcae"]),
            on_treatment_days=int(content["on_treatment_days"]),
            correct_calcium=bool(calcium["correct"]),
            albumin=float(calcium["albumin"]),
            calcium_per={unit: float(slope) for unit, slope in calcium["per"].items()},
            blood=tuple(content["blood"]),
            not_blood=tuple(content["not_blood"]),
            query_from_grade=int(seek["query_from_grade"]),
            query_alone=seek["query_grade"] == "alone",
            query_times={domain: int(times) for domain, times in seek["query_times"].items()},
            window_before_days=int(seek["window_before_days"]),
            window_after_days=int(seek["window_after_days"]),
            hys_law={name: float(value) for name, value in content["hys_law"].items()},
            qtc_absolute=tuple(content["qtc"]["absolute"]),
            qtc_increase=tuple(content["qtc"]["increase"]),
            rate_disagreement=float(content["qtc"]["rate_disagreement"]),
            digest=document_digest(content),
        )


@cache
def grading_policy(path: str = "") -> GradingPolicy:
    """The policy in a file; the one beside this module by default."""
    import yaml

    file = Path(path) if path else Path(__file__).with_name("grading.yaml")
    return GradingPolicy.from_dict(yaml.safe_load(file.read_text("utf-8")))


def grading_policy_of(study: StudyFile) -> GradingPolicy:
    """The policy of a study: the file its ``safety.grading_policy`` names, with its ``safety.ctcae_version``.

    Raises:
        TrialOpsError: The file is not there, or states something that is not allowed.
    """
    path = str(study.safety.get("grading_policy") or "")
    file = study.beside(path) if path else None
    if file is not None and not file.is_file():
        raise TrialOpsError("The grading policy that the study file names is not there", where=file.name)
    policy = grading_policy(str(file) if file else "")
    version = str(study.safety.get("ctcae_version") or policy.ctcae)
    if version not in VERSIONS:
        raise TrialOpsError(f"safety.ctcae_version is {version!r}", where=study.where, fix=f"Use {VERSIONS}.")
    return replace(policy, ctcae=version)
