"""Vaults for tests: a folder that is home and object store at once, as in the embedded default."""

from __future__ import annotations

import base64
import multiprocessing
from pathlib import Path
from random import Random

from pydantic import SecretStr

from trialops.settings import Settings
from trialops.stores.master_key import GivenKey, KeyFile
from trialops.stores.objects import open_store
from trialops.stores.vault import Vault, open_vault

MASTER = bytes(range(32))


def vault_in(home: Path, master: bytes | None = None, *, study: str = "") -> Vault:
    """The vault of a home; without a master key, one in the home's key file."""
    key = KeyFile(home / "vault") if master is None else GivenKey(master)
    return Vault(open_store(str(home)), key, study=study)


def settle_vault(home: Path, seed: int = 0) -> None:
    """Make the vault of a home with pseudonyms that follow from a seed.

    Which sites are held out depends on their pseudonyms: with those of chance a small trial's result would be another
    in every run of the tests.
    """
    home.mkdir(parents=True, exist_ok=True)
    _ = open_vault(Settings(home=home), pseudonym_key=Random(seed).randbytes(72)[40:]).id


def revisions(home: Path) -> list[Path]:
    """Files of the keyring, oldest first."""
    return sorted((home / "vault" / "keyring").glob("*.json"))


def pod(home: Path, objects_url: str, key: bytes | None = MASTER) -> Settings:
    """Settings of a pod: a home of its own, shared objects, and the master key it was given."""
    given = "" if key is None else base64.b64encode(key).decode()
    return Settings(home=home, objects_url=objects_url, vault_key=SecretStr(given) if given else None)


def use(home: str, objects_url: str, given: bool, results: multiprocessing.Queue[tuple[str, bytes, str]]) -> None:
    """Open the vault in a process of its own; report its id, something it sealed, and a pseudonym."""
    vault = open_vault(pod(Path(home), objects_url, MASTER if given else None))
    results.put((vault.id, vault.encrypt("raw", b"from a worker", "c"), vault.pseudonym("subject", "1")))
