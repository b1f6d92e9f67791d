"""Locked data: no signature, no change; authors cannot sign for themselves; an objection blocks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner

from pipelines.cli import cli
from tests.support.correction_home import CorrectionHome, correction_home
from tests.support.homes import leave
from trialops.errors import TrialOpsError
from trialops.governance.signatures import Signatures
from trialops.quality.correction.lock import Locks
from trialops.quality.correction.register import Register
from trialops.stores.chain_log import IntegrityError

PASSPHRASE = "a long enough passphrase 7"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CorrectionHome]:
    yield correction_home(tmp_path, monkeypatch, subjects=24)
    leave()


def trialops(home: CorrectionHome, *arguments: str) -> str:
    result = CliRunner().invoke(cli, ["--home", str(home.path), *arguments])
    assert result.exit_code == 0, result.output
    return result.output


def test_lock_sign_apply(home: CorrectionHome) -> None:
    home.data_pipeline()
    trialops(home, "corrections", "lock", "VS", "--reason", "interim analysis")
    before = home.tables()
    vs = home.raw()["VS"].filter(pl.col("VSTESTCD") == "PULSE").sort("USUBJID", "VSSEQ").row(5, named=True)
    record = f"VSSEQ={vs['VSSEQ']:.0f}"
    fresh = f"{vs['VSSTRESN'] + 1:.0f}"
    file = home.file(
        *(
            f"VS,{vs['USUBJID']},{record},{name},{vs[name]},{fresh},read wrong,Ann Author,2026-01-05"
            for name in ("VSORRES", "VSSTRESC", "VSSTRESN")
        )
    )
    assert home.correct(file, apply=True)[0] == "hold" and home.tables() == before
    run = f"run-{home.runs}"
    signing = Signatures(home.step().engine, home.step().vault, cost=2**4)
    signing.enrol(user="ann", printed_name="Ann Author", passphrase=PASSPHRASE)
    signing.enrol(user="quinn", printed_name="Quinn Quality", passphrase=PASSPHRASE, by="ann", by_passphrase=PASSPHRASE)
    mine = ("corrections", "sign", run, "--passphrase", PASSPHRASE, "--reason", "checked against source")
    trialops(home, *mine, "--user", "ann")
    assert home.correct(file, apply=True)[0] == "hold"  # she wrote the lines herself
    trialops(home, *mine, "--user", "quinn", "--reject")
    assert home.correct(file, apply=True)[0] == "hold"
    output = trialops(home, *mine, "--user", "quinn")
    assert "Quinn Quality" in output and str(vs["USUBJID"]) not in output
    decision, _ = home.correct(file, apply=True)
    assert decision == "apply"
    (entry,) = Register(home.step().vault, home.step().objects).entries()
    assert len(entry.signatures) == 2
    shown = trialops(home, "corrections", "show", run, "--reason", "monitoring visit")
    assert str(vs["USUBJID"]) in shown and fresh in shown
    listed = trialops(home, "corrections", "history", "--domain", "vs", "--reason", "audit")
    assert listed.count("read wrong") == 3
    asked = trialops(home, "corrections", "as-of", "VS", "--at", "2099-01-01")
    assert "records of" in asked
    actions = [event.action for event in home.step().trail.events()]
    assert {"data.lock", "sign", "data.correct", "corrections.show", "corrections.history"} <= set(actions)
    assert trialops(home, "corrections", "locks").startswith("locked: VS")
    trialops(home, "corrections", "unlock", "--reason", "analysis over")
    assert Locks(home.step().objects, "clean").locked() == frozenset()


def test_an_altered_register_is_found(home: CorrectionHome) -> None:
    home.begin()
    locks = Locks(home.step().objects, "clean")
    locks.change("lock", [], actor="me", reason="r")
    locks.change("unlock", ["LB"], actor="me", reason="r")
    assert "LB" not in locks.locked() and "AE" in locks.locked()
    key = "locks/clean/000001.json"
    home.step().objects.put(key, home.step().objects.get(key).replace(b'"actor":"me"', b'"actor":"you"'))
    with pytest.raises(IntegrityError, match="000002"):
        locks.locked()


@pytest.mark.parametrize(("action", "domains", "reason"), [("lock", ["QQ"], "r"), ("melt", [], "r"), ("lock", [], " ")])
def test_what_cannot_be_locked(home: CorrectionHome, action: str, domains: list[str], reason: str) -> None:
    home.begin()
    with pytest.raises(TrialOpsError):
        Locks(home.step().objects, "clean").change(action, domains, actor="me", reason=reason)
    assert Locks(home.step().objects, "clean").history() == []
