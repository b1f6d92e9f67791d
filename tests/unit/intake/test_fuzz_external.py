"""A short, seeded run of the coverage-guided fuzzers; longer ones are started by hand."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import malformed

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "runs"), [("hl7", 1500), ("vcf", 600)])
def test_fuzz(name: str, runs: int, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for i, case in enumerate(getattr(malformed, name)()):
        if len(case.data) < 4000:
            (corpus / f"{i:03d}").write_bytes(case.data)
    command = [sys.executable, str(ROOT / "tests" / "fuzz" / f"fuzz_{name}.py"), str(corpus)]
    options = [
        f"-runs={runs}",
        "-seed=7",
        "-max_len=2000",
        f"-artifact_prefix={tmp_path}/",
        "-timeout=60",
        "-rss_limit_mb=0",
    ]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False, timeout=250, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-3000:]
    # On a busy machine a batch may end a little later than asked for.
    told = re.search(r"Done (\d+) runs", done.stderr)
    assert told and int(told[1]) >= runs, done.stderr[-3000:]
