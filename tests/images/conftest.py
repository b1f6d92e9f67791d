"""Fixtures of the tests of the images."""

from __future__ import annotations

import pytest

from tests.images.image_engine import engine
from tests.images.transferred import Transferred, transfer

__all__ = ["engine"]


@pytest.fixture(scope="session")
def transferred(tmp_path_factory: pytest.TempPathFactory) -> Transferred:
    """A transfer that has come as far as its reports; tests share it, and what they make is what is there."""
    return transfer(tmp_path_factory.mktemp("transferred"))
