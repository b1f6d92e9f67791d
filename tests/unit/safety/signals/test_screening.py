"""A screening as a whole: nothing without an association, planted pairs found, masking undone, pages, comparison."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from trialops.errors import TrialOpsError
from trialops.pages import render
from trialops.safety.signals.counting import count_reports
from trialops.safety.signals.masking import maskers
from trialops.safety.signals.measures import LABEL
from trialops.safety.signals.page import screening_page
from trialops.safety.signals.policy import SHIPPED, SignalPolicy, load_signal_policy
from trialops.safety.signals.readers import ReportRows
from trialops.safety.signals.run import asked, screen, screening_report
from trialops.safety.signals.screening import CRITERIA, Screening, measured, since


@pytest.fixture(scope="module")
def policy() -> SignalPolicy:
    return load_signal_policy()


def database(reports: int = 30_000, seed: int = 0, *, spread: float = 0.5, planted: int = 0) -> pl.DataFrame:
    """Reports with one product and one to four events; every product's events are a little its own.

    Args:
        reports: Number of them.
        seed: Of the draws.
        spread: Standard deviation of the logarithm of each pair's true reporting ratio; 0: none is associated.
        planted: Pairs (P00k, E00k) for which a quarter of the product's reports get the event.
    """
    rng = np.random.default_rng(seed)
    products, events = (1 / (np.arange(n) + 5.0) for n in (150, 300))
    product = rng.choice(150, reports, p=products / products.sum())
    ratios = np.exp(rng.normal(0, spread, (150, 300))) * (events / events.sum())
    ratios /= ratios.sum(axis=1, keepdims=True)
    steps = ratios.cumsum(axis=1)
    each = rng.integers(1, 5, reports)
    owner = np.repeat(np.arange(reports), each)
    event = np.minimum((steps[product[owner]] < rng.random(owner.size)[:, None]).sum(axis=1), 299)
    for k in range(planted):
        place = 20 + 5 * k
        hit = (product[owner] == place) & (rng.random(owner.size) < 0.25)
        event[hit] = 100 + place
    names = [np.array([f"{kind}{i:03d}" for i in range(n)]) for kind, n in (("P", 150), ("E", 300))]
    return pl.DataFrame({"report": owner, "product": names[0][product[owner]], "event": names[1][event]})


@pytest.fixture(scope="module")
def whole(policy: SignalPolicy) -> Screening:
    return measured(count_reports(ReportRows(database(planted=8))), policy)


@pytest.fixture(scope="module")
def planted(whole: Screening) -> pl.DataFrame:
    return whole.pairs


def test_without_association_almost_no_pair_is_a_signal(policy: SignalPolicy) -> None:
    """Independent margins: a prior fitted to real data, since one point has none of its own (its fit is refused)."""
    counts = count_reports(ReportRows(database(spread=0.0, seed=3)))
    theta = (3.2509, 0.3997, 2.0258, 1.9080, 0.0654)
    found = measured(counts, policy, theta=theta)
    assert found.pairs.height > 20_000
    assert found.signals["ebgm"] / found.pairs.height < 1e-3
    assert measured(counts, policy).refusal.startswith("The prior's likelihood has no optimum inside the bounds")


def test_planted_pairs_are_found_by_every_measure(planted: pl.DataFrame) -> None:
    pairs = planted
    wanted = pl.DataFrame(
        {"product": [f"P{20 + 5 * k:03d}" for k in range(8)], "event": [f"E{120 + 5 * k:03d}" for k in range(8)]}
    )
    found = pairs.join(wanted, on=["product", "event"], how="semi")
    assert found.height == 8
    for column in CRITERIA.values():
        assert found[column].all()
    top = pairs.sort("eb05", descending=True).head(8).join(wanted, on=["product", "event"], how="semi")
    assert top.height == 8, "and they lead the list"
    # No more than a few beside them: ratios as large as the spread of 0.5 rarely reach 2.
    assert pairs["ebgm_signal"].sum() - 8 < 0.005 * pairs.height


def test_criteria_are_those_of_the_policy(whole: Screening, policy: SignalPolicy) -> None:
    counts, pairs, theta = whole.counts, whole.pairs, whole.theta
    assert pairs["prr_signal"].equals(
        ((pairs["prr"] >= 2) & (pairs["chi_squared"] >= 4) & (pairs["a"] >= 3)).rename("prr_signal")
    )
    strict = measured(counts, replace(policy, min_eb05=float(pairs["eb05"].max())), theta=theta)
    assert strict.signals["ebgm"] == 1
    above = measured(counts, replace(policy, min_eb05=float(pairs["eb05"].max()), eb05_inclusive=False), theta=theta)
    assert above.signals["ebgm"] == 0
    without_yates = measured(counts, replace(policy, yates=False), ebgm=False)
    assert without_yates.signals["prr"] > pairs["prr_signal"].sum()
    assert without_yates.pairs["ebgm"].null_count() == without_yates.pairs.height
    consistent = measured(counts, replace(policy, truncated=True), theta=theta)
    assert (consistent.pairs["eb05"] <= pairs["eb05"] + 1e-9).mean() > 0.99


def test_new_signals_are_those_that_were_none_before(planted: pl.DataFrame) -> None:
    pairs = planted
    first = since(pairs, None)
    assert first["new"].sum() == 0
    assert first["criteria"].min() >= 1
    assert since(pairs, pairs)["new"].sum() == 0
    top = first.row(0, named=True)
    calm = pairs.with_columns(
        pl.when((pl.col("product") == top["product"]) & (pl.col("event") == top["event"]))
        .then(pl.lit(False))
        .otherwise(pl.col(column))
        .alias(column)
        for column in CRITERIA.values()
    )
    new = since(pairs, calm).filter("new")
    assert new.select("product", "event").rows() == [(top["product"], top["event"])]


def test_a_masked_signal_shows_when_the_masking_pair_is_removed(policy: SignalPolicy) -> None:
    """One product brings nine tenths of an event; another's threefold reporting of it is hidden by that."""
    rows, report = [], 0
    for product, n, with_event in (("LOUD", 2_000, 1_800), ("QUIET", 500, 15), ("OTHER", 10_000, 100)):
        for i in range(n):
            rows.append((report, product, "RASH" if i < with_event else f"E{i % 40}"))
            report += 1
    frame = pl.DataFrame(rows, schema=["report", "product", "event"], orient="row")
    counts = count_reports(ReportRows(frame))
    masking = maskers(counts, policy)
    assert masking["product"][0] == "LOUD"
    assert masking["event"][0] == "RASH"
    # By the definition: others' share of the event with the pair, over the share without the product's reports.
    assert masking["factor"][0] == pytest.approx((1_915 / 12_500) / (115 / 10_500))
    quiet = {"product": "QUIET", "event": "RASH"}
    assert not measured(counts, policy, ebgm=False).pairs.filter(**quiet)["prr_signal"][0]
    unmasked = measured(count_reports(ReportRows(frame), without=[("LOUD", "RASH")]), policy, ebgm=False)
    assert unmasked.pairs.filter(**quiet)["prr_signal"][0]
    assert unmasked.counts.removed == 1_800


def test_the_only_product_of_an_event_masks_nothing(policy: SignalPolicy) -> None:
    frame = pl.DataFrame({"report": range(60), "product": ["A"] * 30 + ["B"] * 30, "event": ["X"] * 30 + ["Y"] * 30})
    assert maskers(count_reports(ReportRows(frame)), policy).height == 0


def test_the_page_says_what_it_is_and_withholds_small_counts(whole: Screening, policy: SignalPolicy) -> None:
    result = whole
    found = maskers(result.counts, policy)
    html = {public: render(screening_page(result, None, found, public=public)) for public in (True, False)}
    for text in html.values():
        assert LABEL in text
        assert "PRR (Evans)" in text
        assert "Nobody knows how many people took a product" in text
    few = since(result.pairs, None).head(policy.shown).filter(pl.col("a") < 11)
    assert few.height
    assert "&lt;11" in html[False]
    assert "&lt;11" not in html[True]
    value = f"{few['ebgm'][0]:.2f} ({few['eb05'][0]:.2f} to {few['eb95'][0]:.2f})"
    assert value in html[True]
    assert value not in html[False]
    assert html[True] == render(screening_page(result, None, found, public=True)), "the same bytes again"


def test_a_refused_prior_is_said_on_the_page(policy: SignalPolicy) -> None:
    frame = database(2_000, spread=0.0)
    result = measured(count_reports(ReportRows(frame[:120])), policy)
    assert result.theta is None
    assert result.refusal
    text = render(screening_page(result, None, maskers(result.counts, policy), public=True))
    assert "There is no EBGM" in text
    assert result.numbers()["theta"] is None


def test_requests_are_checked(tmp_path: Path) -> None:
    good = {
        "form": "rows",
        "report": "report",
        "product": "product",
        "event": "event",
        "strata": [],
        "roles": ["PS"],
        "without": ["A => X"],
        "ebgm": True,
        "public": True,
    }
    assert asked("x.csv", **good).without == (("A", "X"),)  # type: ignore[arg-type]
    for key, value, words in (
        ("form", "xml", "form is not known"),
        ("without", ["A, X"], "not understood"),
        ("without", ["A =>"], "not understood"),
    ):
        with pytest.raises(TrialOpsError, match=words):
            asked("x.csv", **{**good, key: value})  # type: ignore[arg-type]
    with pytest.raises(TrialOpsError, match="FAERS has no stratum weight"):
        asked("x", **{**good, "form": "faers", "strata": ["sex", "weight"]})  # type: ignore[arg-type]


def test_from_a_file_to_the_page(tmp_path: Path, policy: SignalPolicy) -> None:
    database(3_000).write_csv(tmp_path / "reports.csv")
    request = asked(
        str(tmp_path / "reports.csv"),
        form="rows",
        report="report",
        product="product",
        event="event",
        strata=[],
        roles=["PS"],
        without=[],
        ebgm=False,
        public=False,
    )
    said: list[str] = []
    result = screen(request, policy, tmp_path, lambda message, fraction: said.append(message))
    assert result.counts.reports == 3_000
    assert said[0] == "counting reports"
    assert LABEL in render(screening_report(result, None, request))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("min_ratio: 2.0", "min_ratio: 0.2"), "must lie between"),
        (("min_agreeing: 2", "min_agreeing: 1"), "whole number from 2"),
        (("    - [2.0, 1.0, 2.0, 2.0, 0.2]\n    - [4.0, 0.3, 1.0, 1.0, 0.05]\n", ""), "At least two starts"),
        (("[0.2, 0.06, 1.4, 1.8, 0.1]", "[0.2, 0.06, 1.4, 1.8, 1.0]"), "outside the bounds"),
        (("[0.2, 0.06, 1.4, 1.8, 0.1]", "[0.2, 0.06]"), "Five numbers"),
        (("shown: 200", "shown: 200\nshwon: 3"), "not known"),
    ],
    ids=["range", "agreeing", "starts", "bounds", "five", "unknown"],
)
def test_a_wrong_policy_is_refused(tmp_path: Path, change: tuple[str, str], words: str) -> None:
    text = SHIPPED.read_text()
    assert change[0] in text
    (tmp_path / "policy.yaml").write_text(text.replace(*change))
    with pytest.raises(TrialOpsError, match=words):
        load_signal_policy(tmp_path / "policy.yaml")
