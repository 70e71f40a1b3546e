"""The files of R2: in their places, within the bucket, known by their marks."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import pytest

from bunflare.store.r2_files import Mark, R2Files


@pytest.fixture(params=["here", "without nameless files", "on a volume that folds names"])
def files(tmp_path: Path, request: pytest.FixtureRequest) -> R2Files:
    (tmp_path / "r2").mkdir()
    (tmp_path / "staging").mkdir()
    made = R2Files(tmp_path / "r2", tmp_path / "staging")
    if request.param == "without nameless files":
        made._nameless = False
    elif request.param == "on a volume that folds names":
        made._folding = True
    return made


def mark(data: bytes, mtime: int = 1_700_000_000_123_456_789) -> Mark:
    return Mark(secrets.token_hex(16), len(data), mtime)


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def read(files: R2Files, key: str, of: Mark) -> bytes | None:
    descriptor = files.open("b", key, of)
    if descriptor is None:
        return None
    try:
        return os.read(descriptor, 1000)
    finally:
        os.close(descriptor)


def test_a_file_is_found_by_its_mark_alone(files: R2Files, tmp_path: Path) -> None:
    first, second = mark(b"one"), mark(b"two", 1_700_000_000_123_456_790)
    files.place("b", "dir/key", first, b"one")
    assert read(files, "dir/key", first) == b"one"
    assert read(files, "dir/key", second) is None
    files.place("b", "dir/key", second, b"two")
    assert read(files, "dir/key", first) is None
    assert read(files, "dir/key", second) == b"two"
    assert (tmp_path / "r2/b/dir/key").read_bytes() == b"two"
    assert names(tmp_path / "staging") == []


def test_a_file_system_that_keeps_whole_seconds_will_do(files: R2Files, tmp_path: Path) -> None:
    one = mark(b"one")
    files.place("b", "key", one, b"one")
    os.utime(tmp_path / "r2/b/key", ns=(0, one.mtime - one.mtime % 1_000_000_000))
    assert read(files, "key", one) == b"one"
    os.utime(tmp_path / "r2/b/key", ns=(0, one.mtime + 1))
    assert read(files, "key", one) is None


def test_a_staged_file_is_read_where_it_is_until_it_is_placed(
    files: R2Files, tmp_path: Path
) -> None:
    one = mark(b"one")
    (tmp_path / "staging" / one.version).write_bytes(b"one")
    os.utime(tmp_path / "staging" / one.version, ns=(0, one.mtime))
    assert read(files, "key", one) == b"one"
    files.place("b", "key", one, None)
    assert read(files, "key", one) == b"one"
    assert names(tmp_path / "staging") == []
    files.place("b", "key", one, None)  # once more, as after a crash
    assert files.holds("b", "key", one, None)


def test_a_key_and_one_below_it_are_both_files(files: R2Files, tmp_path: Path) -> None:
    one, two, three = mark(b"1"), mark(b"2"), mark(b"3")
    files.place("b", "a", one, b"1")
    files.place("b", "a/b", two, b"2")
    files.place("b", "a/b/c", three, b"3")
    assert [read(files, "a", one), read(files, "a/b", two), read(files, "a/b/c", three)] == [
        b"1",
        b"2",
        b"3",
    ]
    files.remove("b", "a")
    files.place("b", "a/b", two, b"2")  # back to its first path, and nowhere else
    assert (tmp_path / "r2/b/a/b").read_bytes() == b"2"
    assert names(tmp_path / "r2/b") == ["a", "a%2Fb%2Fc%"]


def test_the_one_below_may_come_first(files: R2Files) -> None:
    one, two = mark(b"1"), mark(b"2")
    files.place("b", "a/b", two, b"2")
    files.place("b", "a", one, b"1")
    assert read(files, "a", one) == b"1"
    files.remove("b", "a")
    assert read(files, "a", one) is None
    assert read(files, "a/b", two) == b"2"


def test_directories_that_are_empty_go_with_the_last_file(files: R2Files, tmp_path: Path) -> None:
    files.place("b", "a/b/c", mark(b"1"), b"1")
    files.place("b", "a/d", mark(b"1"), b"1")
    files.remove("b", "a/b/c")
    assert names(tmp_path / "r2/b/a") == ["d"]
    files.remove("b", "a/d")
    assert names(tmp_path / "r2/b") == []
    files.remove("b", "a/d")
    files.remove("nothing", "a")


def test_links_are_neither_followed_nor_written_through(files: R2Files, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    bucket = tmp_path / "r2" / "b"
    bucket.mkdir()
    (bucket / "dir").symlink_to(outside)
    (bucket / "file").symlink_to(outside / "secret")
    assert files.open_any("b", "dir/secret", None) is None
    assert files.open_any("b", "file", None) is None
    one = mark(b"one")
    for key in ("dir/secret", "dir/new", "file"):
        files.place("b", key, one, b"one")
        assert read(files, key, one) == b"one"
        files.remove("b", key)
    (bucket / "link").symlink_to(outside)
    files.remove("b", "link/secret")
    assert (outside / "secret").read_bytes() == b"secret"
    assert names(outside) == ["secret"]
    assert files.all_files("b") == []


def test_a_reader_of_the_old_file_is_not_disturbed(files: R2Files) -> None:
    one = mark(b"one")
    files.place("b", "key", one, b"one")
    descriptor = files.open("b", "key", one)
    assert descriptor is not None
    files.place("b", "key", mark(b"two"), b"two")
    files.remove("b", "key")
    assert os.read(descriptor, 10) == b"one"
    os.close(descriptor)


def test_what_is_not_a_file_is_not_read(files: R2Files, tmp_path: Path) -> None:
    (tmp_path / "r2/b").mkdir()
    os.mkfifo(tmp_path / "r2/b/pipe")
    assert files.open_any("b", "pipe", None) is None
    assert files.all_files("b") == []


def test_flushing_takes_files_directories_and_what_is_gone(files: R2Files) -> None:
    keys = {("b", f"dir/{number}") for number in range(50)}
    for bucket, key in keys:
        files.place(bucket, key, mark(b"1"), b"1")
    files.sync({("b", "dir/1"), ("b", "gone/far/away"), ("nothing", "at all")})
    files.sync(keys)


def test_a_write_that_fails_leaves_nothing(files: R2Files, tmp_path: Path) -> None:
    too_late = Mark("version", 1, 2**120)
    with pytest.raises(OverflowError):
        files.place("b", "key", too_late, b"1")
    assert files.all_files("b") == []
    assert names(tmp_path / "staging") == []


def test_capital_letters_are_escaped_where_a_volume_folds_them(
    files: R2Files, tmp_path: Path
) -> None:
    one, two = mark(b"1"), mark(b"2")
    files.place("b", "KEY", one, b"1")
    files.place("b", "key", two, b"2")
    assert (read(files, "KEY", one), read(files, "key", two)) == (b"1", b"2")
    expected = ["%4B%45%59", "key"] if files.folding else ["KEY", "key"]
    assert names(tmp_path / "r2/b") == expected
    assert [files.key_of((name,)) for name in expected] == ["KEY", "key"]
