"""Thresholds of the screening, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trialops.models.task import Reader, read_yaml
from trialops.stores.digest import document_digest

SHIPPED = Path(__file__).parent / "policy.yaml"
PARAMETERS = ("alpha1", "beta1", "alpha2", "beta2", "p")


@dataclass(frozen=True)
class PriorPolicy:
    """How the gamma mixture is fitted.

    Attributes:
        starts: Points to start from, each alpha1, beta1, alpha2, beta2, P.
        lower: Lower bounds, in the same order.
        upper: Upper bounds.
        agreement: Largest relative difference between the parameters of two starts that agree.
        min_agreeing: Starts that must end in the best optimum.
        max_gradient: Largest gradient at the optimum, per pair, in logarithms of the parameters.
    """

    starts: tuple[tuple[float, ...], ...]
    lower: tuple[float, ...]
    upper: tuple[float, ...]
    agreement: float
    min_agreeing: int
    max_gradient: float


@dataclass(frozen=True)
class SquashingPolicy:
    """How pairs are put together before the fit: see :func:`trialops.safety.signals.squashing.squash`."""

    from_pairs: int
    bin: int
    keep: int
    max_bins: int


@dataclass(frozen=True)
class SignalPolicy:
    """When a pair is a signal of disproportionate reporting; the attributes are the keys of policy.yaml."""

    name: str
    version: int
    prr_min_ratio: float
    prr_min_chi_squared: float
    prr_min_reports: int
    yates: bool
    ror_min_lower: float
    ror_min_reports: int
    ic_min_lower: float
    min_eb05: float
    eb05_inclusive: bool
    truncated: bool
    prior: PriorPolicy
    squashing: SquashingPolicy
    refit_share: float
    masking_factor: float
    masking_reports: int
    shown: int
    digest: str


def load_signal_policy(path: str | Path = "") -> SignalPolicy:
    """Load and check the policy.

    Args:
        path: YAML file; the shipped one when empty.

    Raises:
        TrialOpsError: The file is missing, or a key is missing, unknown or out of range.
    """
    source = Path(path) if path else SHIPPED
    content = read_yaml(source)
    top = Reader(content, source)
    prr, ror, ic, ebgm = (top.section(key) for key in ("prr", "ror", "ic", "ebgm"))
    prior, squashing = top.section("prior"), top.section("squashing")
    continuous, masking = top.section("continuous"), top.section("masking")
    policy = SignalPolicy(
        name=top.get("name", str),
        version=top.whole("version", 1),
        prr_min_ratio=prr.number("min_ratio", 1.0, 100.0),
        prr_min_chi_squared=prr.number("min_chi_squared", 0.0, 1000.0),
        prr_min_reports=prr.whole("min_reports", 1),
        yates=prr.get("yates", bool),
        ror_min_lower=ror.number("min_lower", 0.0, 100.0),
        ror_min_reports=ror.whole("min_reports", 1),
        ic_min_lower=ic.number("min_lower", -10.0, 10.0),
        min_eb05=ebgm.number("min_eb05", 0.0, 1000.0),
        eb05_inclusive=ebgm.get("inclusive", bool),
        truncated=ebgm.get("truncated", bool),
        prior=_prior(prior),
        squashing=SquashingPolicy(
            from_pairs=squashing.whole("from_pairs", 1),
            bin=squashing.whole("bin", 1),
            keep=squashing.whole("keep", 0),
            max_bins=squashing.whole("max_bins", 10),
        ),
        refit_share=continuous.number("refit_share", 0.0, 1.0),
        masking_factor=masking.number("min_factor", 1.0, 1000.0),
        masking_reports=masking.whole("min_reports", 1),
        shown=top.whole("shown", 1, 10_000),
        digest=document_digest(content),
    )
    for reader in (top, prr, ror, ic, ebgm, prior, squashing, continuous, masking):
        reader.done()
    return policy


def _prior(reader: Reader) -> PriorPolicy:
    starts = tuple(_point(reader, "starts", value) for value in reader.get("starts", list))
    lower, upper = (_point(reader, key, reader.get(key, list)) for key in ("lower", "upper"))
    if len(starts) < 2:
        raise reader.refuse("starts", "At least two starts are needed.", "Add one; agreement is what is tested.")
    if any(not low < value < high for start in starts for low, value, high in zip(lower, start, upper, strict=True)):
        raise reader.refuse("starts", "A start lies outside the bounds.", "Move it between lower and upper.")
    return PriorPolicy(
        starts=starts,
        lower=lower,
        upper=upper,
        agreement=reader.number("agreement", 1e-9, 0.1),
        min_agreeing=reader.whole("min_agreeing", 2, len(starts)),
        max_gradient=reader.number("max_gradient", 1e-12, 1.0),
    )


def _point(reader: Reader, key: str, value: Any) -> tuple[float, ...]:
    fit = isinstance(value, list) and len(value) == len(PARAMETERS)
    if not fit or not all(isinstance(number, int | float) and number > 0 for number in value):
        raise reader.refuse(key, "Five numbers above 0 are needed.", "Give " + ", ".join(PARAMETERS) + ".")
    return tuple(float(number) for number in value)


def theta_words(theta: Mapping[str, float]) -> str:
    """The parameters of a prior in one line."""
    return ", ".join(f"{name} {theta[name]:.5f}" for name in PARAMETERS)
