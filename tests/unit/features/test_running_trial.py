"""A trial that runs is cut again and again; whoever enters the training set must not depend on how they fared."""

from __future__ import annotations

import hashlib
from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest

from trialops.features.labels import LEFT_EARLY, WINDOW_OPEN, attrition, label
from trialops.models.task import load_task
from trialops.privacy.deidentify import HIPAAComplianceOperator
from trialops.synthetic import domains
from trialops.synthetic.population import simulate
from trialops.synthetic.protocol import FIRST_ACTIVATION, plan_sites

SUBJECTS, SEED = 2500, 4
#: The date that decides whether a row is there at a cut, and those that are filled in only later.
ROW = {"DM": "RFICDTC", "DS": "DSDTC", "EX": "EXSTDTC", "SV": "SVSTDTC"}
LATER = {
    "DM": ("RFENDTC", "RFXENDTC", "RFPENDTC", "DTHDTC", "RFSTDTC", "RFXSTDTC"),
    "EX": ("EXENDTC",),
    "SV": ("SVENDTC",),
}


class Names:
    """A vault that forgets nothing and knows no key."""

    def pseudonyms(self, kind: str, values: list[str]) -> list[str]:
        made = [hashlib.sha256(f"{kind}/{value}".encode()).hexdigest()[:20] for value in values]
        return [name.translate(str.maketrans("0123456789", "ghijklmnop")) for name in made]

    def offset_days(self, subject: str) -> int:
        return 0


@pytest.fixture(scope="module")
def delivered() -> dict[str, pl.DataFrame]:
    """The finished trial, as delivered."""
    layout = plan_sites(SEED, SUBJECTS, 30)
    p = simulate(SEED, layout, layout.order)
    ids = domains.subject_ids(p, layout)
    return {
        "DM": domains.demographics(p, layout, ids),
        "DS": domains.disposition(p, ids),
        "EX": domains.exposure(p, ids),
        "SV": domains.visits(p, ids),
    }


def cut(tables: dict[str, pl.DataFrame], day: int | None) -> dict[str, pl.DataFrame]:
    """Clean tables of the trial as they are on a day after the first site opened; None when it is over."""
    if day is not None:
        text = (FIRST_ACTIVATION + timedelta(days=day)).isoformat()
        tables = {
            name: frame.filter(pl.col(ROW[name]).str.slice(0, 10) <= text).with_columns(
                pl.when(pl.col(c).str.slice(0, 10) <= text).then(pl.col(c)).otherwise(pl.lit("")).alias(c)
                for c in LATER.get(name, ())
                if c in frame.columns
            )
            for name, frame in tables.items()
        }
    blank = {n: f.with_columns(pl.col(pl.String).replace("", None)) for n, f in tables.items()}
    return HIPAAComplianceOperator().run(blank, "strict", Names()).tables


def share(clean: dict[str, pl.DataFrame]) -> tuple[int, float, int]:
    """Subjects in the training set, their share of events, and how many at risk wait for their window."""
    labels = label(clean, load_task())
    waiting = dict(labels.group_by("excluded").len().iter_rows()).get(WINDOW_OPEN, 0)
    chosen = labels["label"].drop_nulls()
    assert attrition(labels)["subjects"][-1] == len(chosen)
    return len(chosen), float(chosen.mean() or 0.0), waiting


def as_if_all_outcomes_counted(clean: dict[str, pl.DataFrame]) -> float:
    """The share among those whose outcome is there, which is what an early cut shows."""
    over = {name: frame.drop("CUTDY", strict=False) for name, frame in clean.items()}
    done = over["DS"].filter(pl.col("DSCAT") == "DISPOSITION EVENT")["USUBJID"].unique()
    known = label({n: f.filter(pl.col("USUBJID").is_in(done.implode())) for n, f in over.items()}, load_task())
    return float(known["label"].mean() or 0.0)


@pytest.mark.slow
def test_the_share_of_events_does_not_depend_on_when_the_trial_is_cut(delivered: dict[str, pl.DataFrame]) -> None:
    n_final, final, waiting = share(cut(delivered, None))
    assert waiting == 0 and n_final > 1500
    sizes = []
    for day in (120, 240, 320, 400):
        clean = cut(delivered, day)
        n, events, waiting = share(clean)
        sizes.append(n)
        assert waiting > 0
        if n:
            assert abs(events - final) < 2 * np.sqrt(final * (1 - final) / n)
        # Without the rule the leavers are far too many; so the test can fail.
        assert as_if_all_outcomes_counted(clean) - final > 4 * np.sqrt(final * (1 - final) / max(n, 200))
    assert sizes[0] == 0 < sizes[1] < 100 < sizes[2] < sizes[3] < n_final


def test_reasons_before_the_window_are_those_of_the_finished_trial(delivered: dict[str, pl.DataFrame]) -> None:
    final, early = (label(cut(delivered, day), load_task()) for day in (None, 400))
    both = early.join(final, on="subject_id", suffix="_final")
    entered = both.filter(pl.col("label").is_not_null())
    assert entered.height > 300 and entered["label"].equals(entered["label_final"], check_names=False)
    gone = both.filter(pl.col("excluded") == LEFT_EARLY)
    assert gone.height > 10 and (gone["excluded"] == gone["excluded_final"]).all()


def test_the_cut_is_coarse_and_no_mistyped_year_moves_it(delivered: dict[str, pl.DataFrame]) -> None:
    few = delivered["DM"]["USUBJID"][:200]
    delivered = {name: frame.filter(pl.col("USUBJID").is_in(few.implode())) for name, frame in delivered.items()}
    clean = cut(delivered, 400)["DM"]
    days = clean["CUTDY"].drop_nulls()
    assert days.dtype == pl.Int32 and (days % 14 == 0).all() and days.max() <= 400
    last = delivered["SV"]["SVSTDTC"].str.slice(0, 10).str.to_date().max()
    assert isinstance(last, date)
    wrong = dict(delivered)
    wrong["SV"] = wrong["SV"].with_row_index().with_columns(
        pl.when(pl.col("index") == 7).then(pl.lit("2033-01-01")).otherwise("SVSTDTC").alias("SVSTDTC")
    ).drop("index")  # fmt: skip
    moved = cut(wrong, None)["DM"]["CUTDY"] - cut(delivered, None)["DM"]["CUTDY"]
    assert moved.null_count() < moved.len() and moved.abs().max() <= 14  # by a visit, not by ten years
