"""Every kind of defect that the generator injects: what is found, for the right reason, and what else is alarmed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.defect_hunt import (
    ALL_RULES,
    FINDINGS,
    NOTED,
    QUARANTINED,
    REFUSED,
    ROWS,
    SITES,
    SUBJECTS,
    UNSEEN,
    Hunt,
    false_alarms,
    hunt,
    is_found,
    units,
)
from trialops.synthetic import generate
from trialops.synthetic.defects import KINDS

SEEDS = (1, 2, 3)
SUBJECTS_OF = {"sound": 160, "rows": 160, "layout": 70}
TOGETHER = (*QUARANTINED, *ROWS, *SUBJECTS, "digit_preference", *NOTED)
"""Kinds that can be injected at once: they choose rows and subjects of their own."""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def hunts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Hunt]]:
    """Per seed: a sound trial, one with all row defects, one with layout defects, two that cannot be read."""
    found: dict[str, list[Hunt]] = {"sound": [], "rows": [], "layout": [], **{kind: [] for kind in REFUSED}}
    for seed in SEEDS:
        for name, defects in (
            ("sound", ()),
            ("rows", TOGETHER),
            ("layout", ("one_class_label", "tiny_site")),
            *((kind, (kind,)) for kind in REFUSED),
        ):
            folder = tmp_path_factory.mktemp(f"{name}-{seed}")
            size = SUBJECTS_OF.get(name, 40)
            generate(folder, subjects=size, sites=6, formats=["sdtm"], seed=seed, defects=defects)
            found[name].append(hunt(folder))
    return found


def of_kind(hunts: dict[str, list[Hunt]], kind: str) -> list[Hunt]:
    if kind in REFUSED:
        return hunts[kind]
    return hunts["layout" if kind in ("one_class_label", "tiny_site") else "rows"]


def test_every_kind_has_a_way_to_be_found() -> None:
    ways = {*QUARANTINED, *ROWS, *SUBJECTS, *SITES, *FINDINGS, *NOTED, *REFUSED, *UNSEEN}
    assert ways == set(KINDS)
    assert len(ways - set(UNSEEN)) >= 20


def test_found_and_false_alarms_by_kind(hunts: dict[str, list[Hunt]]) -> None:
    """At least 95 % of each kind found, at most 1 % false alarms, over all seeds; the table is what the page shows."""
    lines, weak = [], []
    total_found = total = 0
    for kind in KINDS:
        if kind in UNSEEN:
            continue
        sought = [(h, u) for h in of_kind(hunts, kind) for u in sorted(units(h, kind))]
        seen = sum(is_found(h, kind, u) for h, u in sought)
        wrong = judged = 0
        for h in [*of_kind(hunts, kind), *hunts["sound"]]:
            w, j = false_alarms(h, kind)
            wrong, judged = wrong + w, judged + j
        rate = wrong / judged if judged else 0.0
        total_found, total = total_found + seen, total + len(sought)
        lines.append(f"{kind:22} {seen:4} of {len(sought):4}   {wrong:4} of {judged:7}  {rate:.4%}")
        assert len(sought) >= len(SEEDS), kind
        if seen < 0.95 * len(sought) or rate > 0.01:
            weak.append(lines[-1])
    print("\n".join(lines))
    print(f"all kinds: {total_found} of {total}")
    assert not weak, weak
    assert total_found >= 0.95 * total


def test_a_sound_trial_raises_next_to_no_alarm(hunts: dict[str, list[Hunt]]) -> None:
    for sound in hunts["sound"]:
        assert not sound.quarantine and not sound.error
        assert len(sound.alarms) <= 0.001 * sound.rows


def test_no_alarm_of_one_kind_is_another_kinds(hunts: dict[str, list[Hunt]]) -> None:
    """A trial without a kind does not fail the kind's rules: detection is not bought with rules that always fire."""
    for kind, rules in ALL_RULES.items():
        if kind == "tiny_site":  # a small site can be there by chance
            continue
        for sound in hunts["sound"]:
            assert not rules & sound.failed, kind


def test_the_generator_writes_what_a_hunt_reads(tmp_path: Path) -> None:
    generate(tmp_path, subjects=60, sites=3, seed=9, formats=["sdtm"], defects=["unit_swap"])
    found = hunt(tmp_path)
    assert {r["kind"] for r in found.truth} == {"unit_swap"} and found.rows > 1_000
