"""Results survive the way through JSON, numbers that do not exist included."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import numpy as np
import pytest

from tests.support.release_evidence import judged
from trialops.models.comparison import Comparison, Decision, Reason, compare_predictions
from trialops.models.discrimination import Estimate
from trialops.models.evaluation import Evaluation
from trialops.models.fairness import FairnessReport
from trialops.models.record import plain, restore


def through_json(value: Any) -> Any:
    return json.loads(json.dumps(plain(value), allow_nan=False))


def differences(one: Any, other: Any, at: str = "") -> list[str]:
    """Where two results differ in kind or value; NaN equals NaN."""
    if is_dataclass(one) and not isinstance(one, type):
        if type(one) is not type(other):
            return [at]
        parts = [(f.name, getattr(one, f.name), getattr(other, f.name)) for f in fields(one)]
        return [found for name, a, b in parts for found in differences(a, b, f"{at}.{name}")]
    if isinstance(one, (tuple, list)):
        if type(one) is not type(other) or len(one) != len(other):
            return [at]
        return [x for i, (a, b) in enumerate(zip(one, other, strict=True)) for x in differences(a, b, f"{at}[{i}]")]
    if isinstance(one, float) and isinstance(other, float) and math.isnan(one) and math.isnan(other):
        return []
    same = one == other and isinstance(other, bool) == isinstance(one, bool)
    return [] if same else [at]


def nans(value: Any) -> int:
    return str(plain(value)).count("None")


@pytest.mark.parametrize(("kind", "name"), [(Evaluation, "evaluated"), (FairnessReport, "audited")])
def test_evaluation_and_audit_with_undefined_numbers(kind: type[Any], name: str) -> None:
    result = getattr(judged(), name)
    assert nans(result) > 0, "the example must hold numbers that do not exist"
    back = restore(kind, through_json(result))
    assert differences(result, back) == []
    assert through_json(back) == through_json(result)


def test_undefined_number_is_not_zero_nor_none() -> None:
    site = judged().evaluated.by_site[0]
    assert math.isnan(site.auroc.value), "a site with one outcome has no AUROC"
    back = restore(Evaluation, through_json(judged().evaluated)).by_site[0]
    assert isinstance(back.auroc.value, float) and math.isnan(back.auroc.value)


def test_comparison_and_decision() -> None:
    y = np.array([0, 1, 0, 1, 1])
    found = compare_predictions(y, y * 0.5 + 0.2, 1 - y * 0.5, comparator="old", role="champion")
    undefined = Comparison("old", "champion", "d", 0.7, math.nan, Estimate(math.nan, -1.0, 1.0, "none"), math.nan, 3, 1)
    for result in (found, undefined):
        assert differences(result, restore(Comparison, through_json(result))) == []
    decision = Decision("hold", (Reason("fair", False, "cannot tell"),), "promotion", "p", "m")
    assert restore(Decision, through_json(decision)) == decision


@dataclass(frozen=True)
class Holder:
    """Every shape a result may have."""

    maybe: Estimate | None
    number: float | None
    named: dict[str, Estimate]
    flags: tuple[bool, ...]
    count: int


def test_optional_and_mapped_parts() -> None:
    full = Holder(Estimate(0.5, 0.4, 0.6, "m"), 1.5, {"a": Estimate(1.0, math.nan, 1.0, "m")}, (True, False), 3)
    empty = Holder(None, None, {}, (), 0)
    for holder in (full, empty):
        assert differences(holder, restore(Holder, through_json(holder))) == []


def test_what_json_cannot_say_is_refused_or_absent() -> None:
    assert plain(math.inf) is None and plain(-math.inf) is None
    with pytest.raises(TypeError, match="object has no JSON form"):
        plain({"a": object()})
