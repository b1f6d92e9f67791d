"""The map of requirements names what exists, and its page is current."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from trialops.governance.compliance import ROOT, Requirement, main, missing, render, requirements

PAGE = ROOT / "docs" / "validation" / "compliance.md"


def test_everything_named_exists() -> None:
    assert missing() == []


def test_the_page_is_current(tmp_path: Path) -> None:
    assert PAGE.read_text("utf-8") == render(), "python -m trialops.governance.compliance docs/validation/compliance.md"
    assert main([str(tmp_path / "page.md")]) == 0 and (tmp_path / "page.md").read_text() == render()


def test_what_does_not_exist_is_named() -> None:
    one = requirements()[1]
    asked: list[Requirement] = [
        replace(one, modules=("trialops/nowhere.py",), tests=()),
        replace(
            one, modules=(), tests=("tests/nowhere.py", "tests/unit/governance/test_audit.py::test_nothing_of_the_kind")
        ),
    ]
    found = missing(asked=asked)
    assert len(found) == 3 and "test_nothing_of_the_kind" in found[2]


@pytest.mark.parametrize("regime", ["164.308", "164.310", "164.312", "164.514", "Part 11", "GDPR", "SOC 2"])
def test_every_regime_is_there_and_does_not_claim_everything(regime: str) -> None:
    mine = [r for r in requirements() if regime in r.regime]
    assert mine and len({r.id for r in mine}) == len(mine)
    assert all(r.note for r in mine if r.state != "covered")


def test_the_articles_asked_for_are_there() -> None:
    ids = " ".join(r.id for r in requirements() if r.regime.startswith("GDPR"))
    assert all(
        f"{n}" in ids
        for n in ("Art. 5(1)", "Art. 15", "16", "Art. 17", "Art. 18", "Art. 25", "Art. 30", "32", "Art. 33", "Art. 35")
    )
    part11 = " ".join(r.id for r in requirements() if "Part 11" in r.regime)
    assert all(f"11.10({c})" in part11 for c in "abcdefghik") and all(
        f"11.{n}" in part11 for n in (30, 50, 70, 100, 200, 300)
    )
    soc = " ".join(r.id for r in requirements() if r.regime.startswith("SOC"))
    assert (
        all(f"CC6.{n}" in soc for n in range(1, 9)) and all(f"CC7.{n}" in soc for n in range(1, 6)) and "CC8.1" in soc
    )
