"""Counts of reports: against sets, in any order of the rows, in any block size, with strata and pairs removed."""

from __future__ import annotations

import itertools
from collections import defaultdict
from fractions import Fraction
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import trialops.safety.signals.spill as spilling
from trialops.errors import TrialOpsError
from trialops.safety.signals.counting import count_reports
from trialops.safety.signals.counts import Counts, expected
from trialops.safety.signals.readers import Columns, ReportRows
from trialops.safety.signals.tally import Tally, together

STRATA = ("sex", "year")


def reports(n: int = 300, seed: int = 0, *, text: bool = False) -> pl.DataFrame:
    """Rows with repetitions, several products and events per report, strata of the report."""
    rng = np.random.default_rng(seed)
    rows = []
    for report in range(n):
        sex, year = rng.choice(["F", "M", None]), str(rng.integers(2019, 2022))
        for _ in range(rng.integers(1, 6)):
            rows.append((report * 7 + 1, f"P{rng.integers(12)}", f"E{rng.integers(15)}", sex, year))
    frame = pl.DataFrame(rows, schema=["report", "product", "event", *STRATA], orient="row")
    return frame.with_columns(pl.col("report").cast(pl.String)) if text else frame


def by_sets(
    frame: pl.DataFrame, strata: tuple[str, ...] = ()
) -> dict[tuple[str, str], tuple[int, int, int, int, float]]:
    """a, b, c, d and E of each pair, from sets of reports."""
    of = {name: defaultdict(set) for name in ("product", "event", "pair", "stratum")}
    for row in frame.iter_rows(named=True):
        of["product"][row["product"]].add(row["report"])
        of["event"][row["event"]].add(row["report"])
        of["stratum"][tuple(row[s] for s in strata)].add(row["report"])
    everything = set(frame["report"])
    found = {}
    for product, event in itertools.product(of["product"], of["event"]):
        first, second = of["product"][product], of["event"][event]
        both = first & second
        if not both:
            continue
        e = sum(Fraction(len(first & s) * len(second & s), len(s)) for s in of["stratum"].values())
        a = len(both)
        found[product, event] = (a, len(first) - a, len(second) - a, len(everything - first - second), float(e))
    return found


def as_dict(counts: Counts) -> dict[tuple[str, str], tuple[int, int, int, int, float]]:
    return {(r[0], r[1]): r[2:] for r in counts.table().iter_rows()}


@pytest.mark.parametrize("strata", [(), ("sex",), STRATA], ids=["plain", "one", "two"])
@pytest.mark.parametrize("batch_rows", [10_000, 17])
def test_counts_equal_sets_of_reports(strata: tuple[str, ...], batch_rows: int) -> None:
    frame = reports()
    counts = count_reports(ReportRows(frame, Columns(strata=strata), batch_rows=batch_rows))
    wanted = by_sets(frame, strata)
    got = as_dict(counts)
    assert got.keys() == wanted.keys()
    for pair, figures in wanted.items():
        assert got[pair][:4] == figures[:4]
        assert got[pair][4] == pytest.approx(figures[4], rel=1e-12)
    assert counts.reports == 300
    assert counts.rows == frame.height
    assert counts.crossed > 100, "reports with several rows of different products and events"
    assert counts.distinct == frame.select("report", "product", "event").unique().height < frame.height


@pytest.mark.parametrize("text", [False, True], ids=["number", "text"])
def test_the_order_of_the_rows_changes_nothing(text: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spilling, "ROWS_PER_FILE", 200)  # several files
    frame = reports(text=text)
    columns = Columns(strata=STRATA)
    sorted_ones = count_reports(ReportRows(frame.sort("report"), columns)).table()
    for seed in range(3):
        shuffled = frame.sample(fraction=1.0, shuffle=True, seed=seed)
        got = count_reports(ReportRows(shuffled, columns, batch_rows=113))
        assert got.table().equals(sorted_ones)
        assert got.reports == 300


def test_files_of_each_kind_give_the_same(tmp_path: Path) -> None:
    frame = reports()
    frame.write_csv(tmp_path / "rows.csv")
    frame.write_csv(tmp_path / "rows.tsv", separator="$")
    frame[:500].write_parquet(tmp_path / "a.parquet")
    (tmp_path / "parts").mkdir()
    frame[:500].write_parquet(tmp_path / "parts" / "1.parquet", row_group_size=90)
    frame[500:].write_parquet(tmp_path / "parts" / "2.parquet")
    columns = Columns(strata=STRATA)
    wanted = count_reports(ReportRows(frame, columns)).table()
    for rows in (
        ReportRows(tmp_path / "rows.csv", columns),
        ReportRows(tmp_path / "rows.tsv", columns, delimiter="$"),
        ReportRows(tmp_path / "parts", columns),
    ):
        assert count_reports(rows).table().equals(wanted)


def test_incomplete_rows_are_set_aside_with_their_place() -> None:
    frame = pl.DataFrame(
        {
            "report": ["1", "1", None, "2", " ", "3"],
            "product": ["A", None, "A", " ", "B", " B "],
            "event": ["X", "X", "X", "X", "X", "X"],
        }
    )
    counts = count_reports(ReportRows(frame))
    assert counts.aside == {"no product": 2, "no report id": 2}
    assert sorted(counts.places) == [(2, "no product"), (3, "no report id"), (4, "no product"), (5, "no report id")]
    assert counts.reports == 2
    assert counts.table()["product"].to_list() == ["A", "B"]


def test_reports_whose_rows_name_different_strata_are_a_stratum_of_their_own() -> None:
    frame = pl.DataFrame(
        {"report": [1, 1, 2, 3], "product": ["A"] * 4, "event": ["X", "Y", "X", "X"], "sex": ["F", "M", "F", None]}
    )
    counts = count_reports(ReportRows(frame, Columns(strata=("sex",))))
    assert counts.conflicting == 1
    assert dict(zip(counts.strata, counts.by_stratum.tolist(), strict=True)) == {
        "(conflicting)": 1,
        "(missing)": 1,
        "F": 1,
        "M": 0,
    }
    assert counts.table()["expected"].to_list() == pytest.approx([3.0, 1.0])


def test_stratification_takes_confounding_away() -> None:
    """Product and event go with sex alone: the crude expectation is too low, the stratified one is met."""
    rng = np.random.default_rng(2)
    n = 20_000
    female = rng.random(n) < 0.5
    product = np.where(rng.random(n) < np.where(female, 0.3, 0.03), "A", "B")
    event = np.where(rng.random(n) < np.where(female, 0.3, 0.03), "X", "Y")
    frame = pl.DataFrame(
        {"report": np.arange(n), "product": product, "event": event, "sex": np.where(female, "F", "M")}
    )
    ratio = {}
    for strata in ((), ("sex",)):
        row = count_reports(ReportRows(frame, Columns(strata=strata))).table().filter(product="A", event="X")
        ratio[strata] = row["a"][0] / row["expected"][0]
    assert ratio[()] > 1.5
    assert ratio["sex",] == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("shuffled", [False, True], ids=["sorted", "shuffled"])
def test_a_removed_pair_takes_its_reports_along(shuffled: bool) -> None:
    frame = reports()
    if shuffled:
        frame = frame.sample(fraction=1.0, shuffle=True, seed=1)
    holders = frame.filter(product="P3").join(frame.filter(event="E4"), on="report", how="semi")["report"].unique()
    assert holders.len() > 2
    counts = count_reports(ReportRows(frame, batch_rows=101), without=[("P3", "E4"), ("unknown", "E4")])
    assert counts.removed == holders.len()
    wanted = by_sets(frame.filter(~pl.col("report").is_in(holders.implode())))
    assert {pair: figures[:4] for pair, figures in as_dict(counts).items()} == {p: f[:4] for p, f in wanted.items()}


def test_expected_counts_of_pairs_that_were_not_reported() -> None:
    counts = count_reports(ReportRows(reports(), Columns(strata=("sex",))))
    all_pairs = np.array(list(itertools.product(range(len(counts.products)), range(len(counts.events)))))
    e = expected(counts, all_pairs[:, 0], all_pairs[:, 1])
    # Over all pairs E sums up to what the margins say, stratum by stratum.
    rows = reports().unique(["report", "product"]).height, reports().unique(["report", "event"]).height
    assert e.min() >= 0
    assert e.sum() == pytest.approx(rows[0] * rows[1] / 300, rel=0.05)


def test_margins_too_large_to_lay_out_give_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    import trialops.safety.signals.counts as module

    counts = count_reports(ReportRows(reports(), Columns(strata=STRATA)))
    wanted = counts.expected()
    monkeypatch.setattr(module, "_LAID_OUT", 0)
    monkeypatch.setattr(module, "_CELLS", 40)
    np.testing.assert_array_equal(counts.expected(), wanted)


@pytest.mark.parametrize(
    ("cells", "pending"),
    [(10_000, 1), (80, 1), (0, 1), (10_000, 10_000), (10_000, 60)],
    ids=["grid", "grid_then_runs", "runs", "waiting", "runs_then_grid"],
)
def test_a_tally_adds_up_in_every_form(cells: int, pending: int) -> None:
    rng = np.random.default_rng(0)
    tally, wanted = Tally(cells, pending), defaultdict(int)
    for top in (3, 8, 20, 50):
        keys = np.unique(together(rng.integers(0, top, 60), rng.integers(0, top, 60)))
        counts = rng.integers(-3, 9, keys.size)
        tally.add(keys, counts)
        for key, n in zip(keys.tolist(), counts.tolist(), strict=True):
            wanted[key] += n
    keys, counts = tally.totals()
    assert dict(zip(keys.tolist(), counts.tolist(), strict=True)) == {k: n for k, n in wanted.items() if n}
    assert (np.diff(keys) > 0).all()
    # In another order of the codes, as names are put in theirs.
    new_high, new_low = rng.permutation(60), rng.permutation(60)
    high, low, ordered = tally.ordered(new_high, new_low)
    again = {(int(h), int(w)): int(n) for h, w, n in zip(high, low, ordered, strict=True)}
    assert again == {(int(new_high[k >> 32]), int(new_low[k & 0xFFFFFFFF])): n for k, n in wanted.items() if n}
    assert (np.diff(together(high, low)) > 0).all()
    assert Tally().totals()[0].size == 0


def test_wide_codes_do_not_overflow() -> None:
    """Ids, products and events that do not fit into 63 bits together are sorted another way, with the same result."""
    import pyarrow as pa

    from trialops.safety.signals.coding import Block
    from trialops.safety.signals.counting import portion

    rng = np.random.default_rng(3)
    report = np.sort(rng.integers(0, 50, 400))
    product, event = rng.integers(0, 9, 400), rng.integers(0, 9, 400)
    narrow = portion(Block(pa.array(report), product, event, np.ones(400, np.int64)))
    far = (1 << 31) - 10
    wide = portion(Block(pa.array(report), product + far, event + far, np.ones(400, np.int64)))
    np.testing.assert_array_equal(narrow.pairs[1], wide.pairs[1])
    np.testing.assert_array_equal(narrow.products[1], wide.products[1])
    np.testing.assert_array_equal(narrow.events[1], wide.events[1])


def test_a_report_counts_for_every_product_with_every_event() -> None:
    frame = pl.DataFrame({"report": [1, 1, 2, 3], "product": ["A", "B", "A", "B"], "event": ["X", "Y", "Y", "Y"]})
    counts = count_reports(ReportRows(frame))
    assert counts.crossed == 1
    assert {pair: figures[0] for pair, figures in as_dict(counts).items()} == {
        ("A", "X"): 1,
        ("A", "Y"): 2,
        ("B", "X"): 1,
        ("B", "Y"): 2,
    }
    assert counts.table()["d"].min() == 0


def test_nothing_to_count(tmp_path: Path) -> None:
    empty = pl.DataFrame(schema={"report": pl.String, "product": pl.String, "event": pl.String})
    counts = count_reports(ReportRows(empty))
    assert counts.reports == 0
    assert counts.table().height == 0


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda f: ReportRows(f / "nowhere.csv"), "no file"),
        (lambda f: ReportRows(f), "no file"),
        (lambda f: count_reports(ReportRows(f / "other" / "x.csv")), "Columns are missing: product, event"),
        (lambda f: count_reports(ReportRows(f / "other" / "broken.parquet")), "cannot be read"),
        (lambda f: ReportRows(f / "other" / "x.csv", Columns("report", "report")), "named twice"),
    ],
    ids=["missing", "empty_folder", "columns", "broken", "twice"],
)
def test_input_that_cannot_be_used(tmp_path: Path, make: object, words: str) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "x.csv").write_text("report,drug\n1,A\n")
    (tmp_path / "other" / "broken.parquet").write_bytes(b"PAR1 but no more")
    with pytest.raises(TrialOpsError, match=words):
        make(tmp_path)  # type: ignore[operator]
