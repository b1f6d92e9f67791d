"""Folders as values."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from trialops.stores.folders import folder_digest, replace_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "bundle"
    (made / "deep" / "er").mkdir(parents=True)
    (made / "bundle.json").write_text("{}")
    (made / "deep" / "er" / "booster.lgb").write_bytes(bytes(range(256)))
    return made


def test_digest_depends_on_names_and_contents_alone(folder: Path, tmp_path: Path) -> None:
    digest = folder_digest(folder)
    copy = tmp_path / "elsewhere" / "copy"
    shutil.copytree(folder, copy)
    (copy / "empty").mkdir()
    assert folder_digest(copy) == digest
    (copy / "bundle.json").write_text("{ }")
    assert folder_digest(copy) != digest
    (copy / "bundle.json").rename(copy / "bundle2.json")
    (copy / "bundle2.json").write_text("{}")
    assert folder_digest(copy) != digest


def test_bytes_cannot_move_between_name_and_content(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    (one / "a").write_text("b")
    (two / "ab").write_text("")
    assert folder_digest(one) != folder_digest(two)
    (tmp_path / "three").mkdir()
    assert len({folder_digest(tmp_path / name) for name in ("one", "two", "three")}) == 3


@pytest.mark.parametrize("before", ["nothing", "folder", "file", "dead attempt"])
def test_replaced_in_one_go(folder: Path, tmp_path: Path, before: str) -> None:
    target = tmp_path / "out" / "model"
    if before == "folder":
        target.mkdir(parents=True)
        (target / "old.json").write_text("old")
    elif before == "file":
        target.parent.mkdir()
        target.write_text("old")
    elif before == "dead attempt":
        (target.parent / ".model.partial").mkdir(parents=True)
        (target.parent / ".model.partial" / "half").write_text("half")
    replace_folder(folder, target)
    assert folder_digest(target) == folder_digest(folder)
    assert [path.name for path in target.parent.iterdir()] == ["model"]


def test_copy_that_fails_leaves_the_old_folder(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "model"
    replace_folder(folder, target)
    with pytest.raises(FileNotFoundError):
        replace_folder(tmp_path / "absent", target)
    assert folder_digest(target) == folder_digest(folder)
