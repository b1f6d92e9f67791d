"""Coverage-guided fuzzing of the FHIR parsers, a short run of it; and that a faulty parser would be found."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
RUNS = 2500
# No limit of memory: what the fuzzer measures is that of the process it was started from, whose peak it inherits.


def fuzz(folder: Path, sabotage: str = "") -> subprocess.CompletedProcess[str]:
    code = (
        f"import tests.fuzz.fuzz_fhir as f\n{sabotage}\nf.main(['-atheris_runs={RUNS}', '-seed=1', '-rss_limit_mb=0'])"
    )
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.slow
def test_the_parsers_survive_and_agree(tmp_path: Path) -> None:
    done = fuzz(tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert f"Done {RUNS}" in done.stderr
    covered = [int(n) for n in re.findall(r" cov: (\d+)", done.stderr)]
    # The seeds alone reach part of the parsers; the fuzzer has to have found its way further.
    assert covered[-1] > covered[0] > 50
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("sabotage", "error"),
    [
        ("f.fhir_json._DECODER = f.json.JSONDecoder(parse_int=lambda text: 7)", "AssertionError"),
        ("f.items = lambda document: iter(())", "AssertionError"),
        ("f.subject_of = lambda value: value['subject']['reference']", "KeyError"),
    ],
    ids=["a number misread", "items lost", "a key taken for granted"],
)
def test_a_faulty_parser_is_found(tmp_path: Path, sabotage: str, error: str) -> None:
    done = fuzz(tmp_path, sabotage)
    assert done.returncode != 0
    assert f"\n{error}" in done.stderr
