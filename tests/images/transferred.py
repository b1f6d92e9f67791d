"""A home in which a transfer has come as far as the report function: validated, cleansed, distributed."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.support.homes import leave, live_in
from trialops.intake.sdtm import read_folder
from trialops.stores import step
from trialops.stores.objects import open_store
from trialops.stores.sealed import seal
from trialops.synthetic import generate
from trialops.transfer.checkpoints import Checkpoints
from trialops.transfer.config import TransferConfig, parse_config
from trialops.transfer.policy import transfer_policy
from trialops.transfer.tables import chain, cleanse

RUN = "night-2024-04-02"
TRIAL = "TRIALOPS01"
AS_OF = datetime(2024, 4, 2, 3, 0, tzinfo=UTC)


def config(folder: Path) -> TransferConfig:
    """The trial's jobs; only names and places count here."""
    return parse_config(
        {
            "trial": TRIAL,
            "region": "eu-west-1",
            "account": "123456789012",
            "flows": [{"name": "site-101", "site": "101"}],
            "landing": str(folder / "landing"),
            "cleansed": str(folder / "cleansed"),
            "backup": {"vault": "raw", "resource": "arn:aws:s3:::raw", "role": "arn:aws:iam::123456789012:role/backup"},
            "datasets": [{"id": "dm", "table": "DM"}, {"id": "ae", "table": "AE"}],
            "task": "arn:aws:datasync:eu-west-1:123456789012:task/task-0123456789abcdef0",
            "function": {
                "start": "https://f.example/api/reports/{instance}",
                "status": "https://f.example/api/reports/{instance}",
            },
        }
    )


@dataclass(frozen=True)
class Transferred:
    """A home, the final repository beside it, what the function is asked for, and who takes part."""

    home: Path
    repository: Path
    request: dict[str, Any]
    subjects: tuple[str, ...]


def transfer(folder: Path) -> Transferred:
    """Do by the transfer's own steps what comes before the report; a copy stands for DataSync."""
    home, repository = folder / "home", folder / "repository"
    generate(folder / "trial", subjects=60, sites=3, seed=8, formats=("sdtm",))
    tables = read_folder(folder / "trial" / "sdtm").tables
    with pytest.MonkeyPatch.context() as patch:
        live_in(home, patch, RUN)
        try:
            with step("transfer") as run:
                sealed = seal(tables, vault=run.vault, objects=run.objects)
                link = chain(run.objects, TRIAL).append({"run_id": RUN, "trial": TRIAL, "files": [], "sealed": sealed})
                target = open_store(str(folder / "cleansed"))
                evidence = cleanse(run, config(folder), transfer_policy(), target, link.sequence, sealed["digest"])
                kept = Checkpoints(run.objects, "test")
                claimed, _ = kept.claim(RUN, "cleanse", "", "", AS_OF)
                kept.advance(claimed, "succeeded", AS_OF, state="succeeded", evidence=evidence)
        finally:
            leave()
    shutil.copytree(folder / "cleansed", repository)
    asked = {
        "run_id": RUN,
        "trial": TRIAL,
        "snapshot": evidence["digest"],
        "rows": evidence["rows"],
        "validated_version": link.sequence,
        "degraded": False,
    }
    return Transferred(home, repository, asked, tuple(tables["DM"]["USUBJID"].to_list()))
