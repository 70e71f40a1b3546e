"""Files of rows: whole or absent, and swept when nobody names them."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

import bunflare
from bunflare.store import blobs


def test_a_draft_becomes_a_file_that_can_be_read(tmp_path: Path) -> None:
    directory = tmp_path / "blobs"
    with blobs.Draft(directory) as draft:
        draft.write(b"hello ")
        draft.write(memoryview(b"world"))
        draft.sync()
        draft.keep()
        assert draft.size == 11
    file = blobs.OpenFile(directory / draft.name)
    assert (file.size, file.read(0, 100), file.read(6, 3)) == (11, b"hello world", b"wor")
    blobs.remove(directory / draft.name)
    # What was open stays readable.
    assert file.read(0, 5) == b"hello"
    file.close()
    file.close()
    blobs.remove(directory / draft.name)


def test_a_draft_that_no_row_names_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with blobs.Draft(tmp_path) as draft:
            draft.write(b"half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_a_draft_that_is_being_written_is_no_leftover(tmp_path: Path) -> None:
    assert blobs.leftovers(tmp_path / "missing") == []
    draft = blobs.Draft(tmp_path)
    assert blobs.leftovers(tmp_path) == []
    draft.keep()
    draft.close()
    assert blobs.leftovers(tmp_path) == [draft.name]


def test_a_full_disk_is_said_plainly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with blobs.Draft(tmp_path) as draft:
        monkeypatch.setattr(os, "write", full)
        with pytest.raises(bunflare.DatabaseFull, match="full"):
            draft.write(b"data")
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(bunflare.DatabaseFull, match="full"):
            draft.sync()
