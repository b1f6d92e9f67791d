"""Continuous screening: batches, corrections and withdrawals end in what one run over everything gives."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from trialops.errors import TrialOpsError
from trialops.safety.signals.counting import count_reports
from trialops.safety.signals.policy import SignalPolicy, load_signal_policy
from trialops.safety.signals.readers import Columns, ReportRows
from trialops.safety.signals.screening import measured
from trialops.safety.signals.state import SignalState
from trialops.safety.signals.state_tables import keys, lengthened
from trialops.stores.chain_log import IntegrityError
from trialops.stores.lake import Lake
from trialops.stores.objects import open_store

STRATA = ("sex",)
THETA = [3.2509, 0.3997, 2.0258, 1.9080, 0.0654]


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake"), open_store(str(tmp_path / "objects")))


@pytest.fixture
def policy() -> SignalPolicy:
    return load_signal_policy()


def content(ids: list[int], rng: np.random.Generator, *, sexes: str = "FM") -> pl.DataFrame:
    """Rows of some reports, anew at every call."""
    rows = []
    for report in ids:
        sex = rng.choice(list(sexes))
        for _ in range(rng.integers(1, 5)):
            rows.append((f"R{report:05d}", f"P{min(rng.geometric(0.2), 12)}", f"E{min(rng.geometric(0.15), 20)}", sex))
    return pl.DataFrame(rows, schema=["report", "product", "event", "sex"], orient="row")


def one_shot(reports: dict[str, pl.DataFrame]) -> pl.DataFrame:
    return pl.concat([reports[name] for name in sorted(reports)])


@pytest.mark.parametrize("strata", [(), STRATA], ids=["plain", "stratified"])
@pytest.mark.parametrize("seed", [0, 1])
def test_any_batches_and_a_refresh_equal_one_run(
    lake: Lake, policy: SignalPolicy, strata: tuple[str, ...], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    state, truth = SignalState(lake, "demo", strata), {}
    fresh = 0
    for number in range(7):
        new = list(range(fresh, fresh + int(rng.integers(20, 60))))
        fresh += len(new)
        again = rng.choice(fresh, int(rng.integers(0, 15)), replace=False).tolist() if number else []
        batch = content(sorted({*new, *again}), rng)
        gone = [r for r in rng.choice(fresh, 5, replace=False).tolist() if r not in {*new, *again}] if number else []
        same = [r for r in sorted(truth) if r not in set(batch["report"])][:3]  # sent again as they are
        batch = pl.concat([batch, *(truth[r] for r in same if r not in {f"R{g:05d}" for g in gone})])
        known = set(truth)
        update = state.update(
            batch.sample(fraction=1.0, shuffle=True, seed=number), policy, [f"R{g:05d}" for g in gone]
        )
        for key, rows in batch.group_by("report"):
            truth[str(key[0])] = rows
        there = [f"R{g:05d}" for g in gone if f"R{g:05d}" in truth]
        for report in there:
            del truth[report]
        assert update.total == len(truth)
        assert update.withdrawn == len(there)
        assert update.unknown == len(gone) - len(there)
        assert update.new == len(set(batch["report"]) - known)
        assert update.new + update.corrected + update.unchanged == batch["report"].n_unique()
        if number == 3:
            state.refresh(policy)
    result = state.refresh(policy)
    wanted = measured(count_reports(ReportRows(one_shot(truth), Columns(strata=strata))), policy)
    assert result.pairs.equals(wanted.pairs)
    assert result.theta == wanted.theta
    assert result.refusal == wanted.refusal


def with_prior(state: SignalState, policy: SignalPolicy) -> None:
    """A full screening whose prior is given: these few reports have none of their own."""
    state.refresh(policy, ebgm=False)
    head, body = state._head()
    state._append(head, {**body, "theta": THETA})


def test_touched_pairs_have_the_figures_of_a_full_screening(lake: Lake, policy: SignalPolicy) -> None:
    rng = np.random.default_rng(5)
    state = SignalState(lake, "demo", STRATA)
    first, second = content(list(range(300)), rng), content([5, 7, *range(300, 310)], rng)
    state.update(first, policy)
    with_prior(state, policy)
    update = state.update(second, policy, ["R00009"])
    assert update.touched is not None
    now = pl.concat([first.filter(~pl.col("report").is_in(["R00005", "R00007", "R00009"])), second])
    whole = measured(count_reports(ReportRows(now, Columns(strata=STRATA))), policy, theta=THETA).pairs
    touched = update.touched.pairs
    same = whole.join(touched, on=["product", "event"], how="semi")
    assert same.height == touched.height < whole.height
    for column in touched.columns:
        if touched[column].dtype == pl.Float64:
            np.testing.assert_allclose(touched[column].to_numpy(), same[column].to_numpy(), rtol=1e-12)
        else:
            assert touched[column].equals(same[column])
    # And nothing whose count changed is missing.
    before = measured(count_reports(ReportRows(first, Columns(strata=STRATA))), policy, ebgm=False).pairs
    both = whole.join(before, on=["product", "event"], how="left", suffix="_before")
    moved = both.filter(pl.col("a") != pl.col("a_before").fill_null(0)).select("product", "event")
    assert touched.select("product", "event").equals(moved.sort("product", "event"))


def test_a_batch_counts_what_is_new_and_not_the_history(lake: Lake, policy: SignalPolicy) -> None:
    rng = np.random.default_rng(6)
    state, counted, written = SignalState(lake, "demo"), [], []
    fresh = 0
    for size in (50, 1_000, 50, 4_000, 50):
        batch = content(list(range(fresh, fresh + size)), rng)
        fresh += size
        update = state.update(batch, policy)
        counted.append(update.counted)
        written.append((update.counted, batch.unique().height))
    assert all(rows == distinct for rows, distinct in written)
    assert max(counted[2], counted[4]) < 1.3 * 50 * 2.5, (
        "fifty reports cost fifty reports after a hundred times as many"
    )


def test_rows_are_put_together_a_logarithmic_number_of_times(lake: Lake, policy: SignalPolicy) -> None:
    rng = np.random.default_rng(8)
    state = SignalState(lake, "demo")
    for number in range(16):
        state.update(content(list(range(40 * number, 40 * number + 40)), rng), policy)
    segments = state._head()[1]["segments"]
    assert len(segments) <= 7
    rewritten = sum(v["rows"] for t in lake.tables() if t.startswith("signals_reports/") for v in lake.versions(t))
    total = sum(s["rows"] for s in segments)
    assert rewritten < total * (2 + np.log2(16))


def test_the_same_batch_again_changes_nothing(lake: Lake, policy: SignalPolicy) -> None:
    rng = np.random.default_rng(9)
    state, batch = SignalState(lake, "demo"), content(list(range(60)), rng)
    first = state.update(batch, policy, ["R99999"])
    assert first.unknown == 1
    tables = lake.tables()
    again = state.update(batch, policy)
    assert (again.new, again.corrected, again.unchanged, again.counted) == (0, 0, 60, 0)
    assert lake.tables() == tables
    assert len(state._chain.links()) == 1


def test_two_reports_that_swap_their_content_leave_the_counts(lake: Lake, policy: SignalPolicy) -> None:
    one = pl.DataFrame({"report": ["1", "2"], "product": ["A", "B"], "event": ["X", "Y"]})
    other = pl.DataFrame({"report": ["1", "2"], "product": ["B", "A"], "event": ["Y", "X"]})
    state = SignalState(lake, "demo")
    state.update(one, policy)
    update = state.update(other, policy)
    assert update.corrected == 2
    state.update(one[:1], policy)  # both reports say A, X now
    pairs = state.refresh(policy, ebgm=False).pairs
    assert pairs.select("product", "event", "a").rows() == [("A", "X", 2)]


def test_a_report_of_which_nothing_complete_is_left_goes(lake: Lake, policy: SignalPolicy) -> None:
    state = SignalState(lake, "demo")
    state.update(pl.DataFrame({"report": ["1", "2"], "product": ["A", "B"], "event": ["X", "Y"]}), policy)
    update = state.update(pl.DataFrame({"report": ["2"], "product": ["B"], "event": [None]}), policy)
    assert (update.aside, update.withdrawn, update.total) == (1, 1, 1)
    assert state.refresh(policy, ebgm=False).counts.products == ["A"]


def test_the_prior_is_due_by_the_policys_share(lake: Lake, policy: SignalPolicy) -> None:
    rng = np.random.default_rng(10)
    state = SignalState(lake, "demo")
    assert state.update(content(list(range(400)), rng), policy).refit_due, "there is none yet"
    with_prior(state, policy)
    few = state.update(content(list(range(400, 410)), rng), policy)
    assert not few.refit_due
    assert few.since_fit == pytest.approx(10 / 410)
    more = state.update(content(list(range(410, 425)), rng), policy)
    assert more.refit_due, "25 of 425 is more than 5 %"
    assert not state.update(content([425], rng), replace(policy, refit_share=0.5)).refit_due


def test_expected_counts_of_other_pairs_stay_within_the_bounds(lake: Lake, policy: SignalPolicy) -> None:
    rng = np.random.default_rng(11)
    for name, strata in (("plain", ()), ("strata", STRATA)):
        state = SignalState(lake, name, strata)
        first, second = content(list(range(800)), rng), content([3, *range(800, 830)], rng)
        state.update(first, policy)
        with_prior(state, policy)
        update = state.update(second, policy)
        now = pl.concat([first.filter(pl.col("report") != "R00003"), second])
        tables = [count_reports(ReportRows(f, Columns(strata=strata))).table() for f in (first, now)]
        both = tables[0].join(tables[1], on=["product", "event"], suffix="_now")
        factor = (both["expected_now"] / both["expected"]).to_numpy()
        assert update.expected_moved is not None
        low, high = update.expected_moved
        assert low * (1 - 1e-12) <= factor.min() < factor.max() <= high * (1 + 1e-12)
        assert high < 3


def test_no_bound_is_given_where_there_is_none(lake: Lake, policy: SignalPolicy) -> None:
    rng = np.random.default_rng(12)
    state = SignalState(lake, "demo", STRATA)
    state.update(content(list(range(100)), rng, sexes="F"), policy)
    assert state.update(content([100], rng, sexes="F"), policy).expected_moved is None, "never screened"
    with_prior(state, policy)
    assert state.update(content([101], rng, sexes="M"), policy).expected_moved is None


def test_damage_is_found_by_the_full_screening(lake: Lake, policy: SignalPolicy) -> None:
    rng = np.random.default_rng(13)
    state = SignalState(lake, "demo")
    state.update(content(list(range(50)), rng), policy)
    head, body = state._head()
    first = body["segments"][0]
    wrong = lake.read(state_ref(first["counts"])).with_columns(pl.col("n") + 1)
    ref = lake.write(first["counts"]["table"], wrong)
    first["counts"] |= {"version": ref.version, "digest": ref.digest}
    state._append(head, body)
    with pytest.raises(IntegrityError, match="running counts are not those"):
        state.refresh(policy)


def state_ref(stored: dict[str, object]) -> object:
    from trialops.stores.refs import TableRef

    return TableRef(**stored)  # type: ignore[arg-type]


def test_misuse_is_refused(lake: Lake, policy: SignalPolicy) -> None:
    rng = np.random.default_rng(14)
    batch = content(list(range(5)), rng)
    state = SignalState(lake, "demo")
    with pytest.raises(TrialOpsError, match="both in the batch and withdrawn"):
        state.update(batch, policy, ["R00001"])
    state.update(batch, policy)
    with pytest.raises(TrialOpsError, match="other strata"):
        SignalState(lake, "demo", STRATA).update(batch, policy)
    head, body = state._head()
    state.update(content([9], rng), policy)
    with pytest.raises(TrialOpsError, match="came in between"):
        state._append(head, body)


def test_keys_do_not_change_with_versions_of_libraries() -> None:
    """Stored keys must be found again for years; the numbers are written down here."""
    frame = pl.DataFrame({"report": [1], "product": ["A"], "event": ["X"]})
    table = lengthened(count_reports(ReportRows(frame)))
    assert table["key"].equals(keys(table))
    assert table["key"].n_unique() == 4
    assert table.sort("kind")["key"].to_list() == KNOWN_KEYS


KNOWN_KEYS = [-2202677148687251028, 2180104990113563208, -2127349246994136726, 347124789091590693]
