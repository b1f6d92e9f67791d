"""The same arguments give the same bytes; blocks and trial size do not show in a subject's data."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import pyreadstat
import pytest

from trialops.errors import TrialOpsError
from trialops.synthetic import generate
from trialops.synthetic.draws import Draws


def _tree(folder: Path) -> dict[str, str]:
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


def test_same_arguments_same_bytes_and_seeds_differ(tmp_path: Path) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        generate(tmp_path / name, subjects=60, sites=4, seed=seed, defects=["unit_swap"])
    first, again, other = (_tree(tmp_path / n) for n in "abc")
    assert first == again
    shared = [f for f in first if f in other]
    assert len(shared) > 12 and all(first[f] != other[f] for f in shared if f.startswith("sdtm/") and "/" not in f[5:])


def test_replaces_an_earlier_trial_but_nothing_else(tmp_path: Path) -> None:
    generate(tmp_path / "a", subjects=40, sites=3, formats=["fhir", "hl7"])
    generate(tmp_path / "a", subjects=40, sites=3, formats=["sdtm"])
    assert not (tmp_path / "a" / "fhir").exists()
    (tmp_path / "a" / "thesis.txt").write_text("mine")
    with pytest.raises(TrialOpsError, match="other files"):
        generate(tmp_path / "a", subjects=40, sites=3)
    assert (tmp_path / "a" / "sdtm" / "dm.xpt").exists()


def test_files_do_not_depend_on_the_block(tmp_path: Path) -> None:
    for block in (17, 1000):
        generate(tmp_path / str(block), subjects=70, sites=4, seed=5, formats=["sdtm"], block=block)
    assert _tree(tmp_path / "17") == _tree(tmp_path / "1000")


def test_a_subject_does_not_depend_on_the_size_of_the_trial(tmp_path: Path) -> None:
    tables = {}
    for subjects in (40, 120):
        generate(tmp_path / str(subjects), subjects=subjects, sites=4, seed=5, formats=["sdtm"])
        tables[subjects] = {
            d: pyreadstat.read_xport(str(tmp_path / str(subjects) / "sdtm" / f"{d}.xpt"))[0]
            for d in ("dm", "lb", "ae", "ds")
        }
    for name, small in tables[40].items():
        large = tables[120][name]
        large = large[large["USUBJID"].isin(tables[40]["dm"]["USUBJID"])].reset_index(drop=True)
        pd.testing.assert_frame_equal(small, large)


def test_draws_have_their_distributions() -> None:
    draws = Draws(1, np.arange(20_000))
    u = draws.uniform("x", 3)
    assert u.min() > 0 and u.max() < 1
    assert abs(u.mean() - 0.5) < 0.01 and abs(np.corrcoef(u.T)[0, 1]) < 0.03
    assert abs(np.corrcoef(u[1:, 0], u[:-1, 0])[0, 1]) < 0.03
    assert abs(draws.normal("n").std() - 1) < 0.02
    assert abs(draws.gamma("g", 2.0).var() - 0.5) < 0.05
    counts = draws.poisson("p", np.full(20_000, 4.0), 30)
    assert abs(counts.mean() - 4) < 0.1 and abs(counts.var() - 4) < 0.25
    assert set(draws.integers("i", 2, 4)) == {2, 3, 4}
    share = np.bincount(draws.choice("c", [1.0, 3.0])) / 20_000
    assert abs(share[1] - 0.75) < 0.02
    assert not np.array_equal(draws.uniform("x"), Draws(2, np.arange(20_000)).uniform("x"))
    picked = Draws(1, np.array([77, 5])).uniform("x", 3)
    assert np.array_equal(picked, u[[77, 5]])


@pytest.mark.parametrize(
    "arguments",
    [
        {"formats": ["sas"]},
        {"formats": []},
        {"subjects": 0},
        {"sites": 99},
        {"defects": ["gremlin"]},
        {"formats": ["hl7"], "defects": ["unit_swap"]},
    ],
)
def test_arguments_that_cannot_be_met(tmp_path: Path, arguments: dict[str, object]) -> None:
    with pytest.raises(TrialOpsError) as caught:
        generate(tmp_path / "x", **{"subjects": 30, "sites": 3, **arguments})  # type: ignore[arg-type]
    assert caught.value.fix
    assert not (tmp_path / "x").exists()


def test_progress_reaches_the_end(tmp_path: Path) -> None:
    seen: list[float] = []
    generate(tmp_path / "x", subjects=50, sites=3, formats=["hl7"], block=20, progress=lambda _, f: seen.append(f))
    assert seen == [0.4, 0.8, 1.0]
