"""Keys of R2 and their files: every key works, no two meet, and none leads out of the bucket."""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

import bunflare
from bunflare import R2Bucket, State
from tests.bindings.r2_tools import (
    MIB,
    OURS,
    beside,
    chunks,
    contents,
    names,
    objects_on_disk,
    read,
    written,
)
from tests.support import files

#: Keys that have hurt somebody: here they are all legal, and all at once.
NASTY = [
    *("a", "a/b", "a/b/c", "x/y", "x", "dir/", "dir", "dir//", "dir/file"),
    *(".", "..", "../x", "../../x", "./q", "q", "a/../b", "a/..", "/..", "../", "..a", "v1..v2"),
    *("a/./b", "a/.", "...", ".hidden", "a/.hidden", ".a/b"),
    *("/", "//", "///", "/etc/passwd", "/a", "//a", "p//c", "p/c", "p///c", "/p/c", "p/c/"),
    *("~", "~/x", "-", "--help", "-rf", "*", "?", "$HOME", "`x`", "a b", " a", "a ", " ", "'", '"'),
    *("\0", "a\0", "a\0b", "\0/\0", "\n", "a\nb", "\r\n", "\t", "\x1b[31m", "\x7f", "\u0085"),
    *("k" * 255, "k" * 256, "k" * 1024, "k" * 255 + "/x", "k" * 256 + "/x", "d/" + "k" * 300),
    *("é" * 127, "é" * 128, "é" * 512, "🙂" * 64, "🙂" * 256, "a/" * 512, "/" * 1024, "." * 256),
    *("A", "a/B", "README", "readme", "Readme", "É", "é", "E\u0301", "e\u0301", "Å", "\u212b"),
    *("CON", "con", "NUL", "nul.txt", "COM1", "LPT1.x", "aux/x", "a/PRN", "a.", "a./b", "a /b"),
    *("a:b", "C:\\x", "c:/x", "a\\b", "..\\x", "\\\\host\\x", "a|b", "a<b>", 'a"b', "a*b?"),
    *("%", "%%", "%2F", "a%2Fb", "%2f", "%00", "%2E%2E", "%25", "a%", "%41", "=", "+", "&", "#"),
    *("__multipart__/id/1", "__multipart__", ".tmp", "x.tmp", ".staging/x", "tmp/x", "r2", "r2/x"),
    *("data.sqlite", "../data.sqlite", "../../data.sqlite", "bucket", "bucket/x", "@", "!", "_"),
    *("\ufeff", "\u200b", "\u202e", "\ufffd", "\uffff", "\U0010ffff", "🙂", "日本/語", "\u2028"),
]

#: Parts of keys that are put together at random.
SEGMENTS = st.sampled_from(
    [
        "",
        ".",
        "..",
        "a",
        "A",
        "b",
        "%",
        "%2F",
        "%2E",
        "\0",
        "~",
        "CON",
        "é",
        "e\u0301",
        "k" * 255,
        "k" * 256,
        "🙂" * 70,
        "a.",
        "a ",
        " ",
        "-",
        "=",
        "\\",
        ":",
    ]
) | st.text(st.characters(exclude_categories=["Cs"]), max_size=6)


@pytest.fixture(autouse=True)
def _clean(directory: Path) -> Iterator[None]:
    """Directories may be a thousand deep, which is deeper than pytest's own cleaning goes."""
    yield
    subprocess.run(["rm", "-rf", str(directory)], check=True)


def fits(key: str) -> bool:
    return 0 < len(key.encode()) <= 1024


KEYS = st.one_of(
    st.lists(SEGMENTS, min_size=1, max_size=5).map("/".join).filter(fits),
    st.sampled_from(NASTY),
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=300).filter(fits),
)


def outside(root: Path, directory: Path) -> dict[str, bytes]:
    """All files below ``root`` but the database's, the bucket's, and nobody's."""
    mine = directory.relative_to(root)
    return {
        path: data
        for path, data in files(root).items()
        if not Path(path).is_relative_to(mine / "r2" / "bucket")
        and not (Path(path).parent == mine and Path(path).name in OURS)
    }


async def check(bucket: R2Bucket, expected: dict[str, bytes], directory: Path) -> None:
    assert await contents(bucket) == expected
    assert await names(bucket) == sorted(expected, key=str.encode)
    for key, value in expected.items():
        head = await bucket.head(key)
        assert head is not None
        assert (head.key, head.size) == (key, len(value))
    # One file for one object, of the same bytes.
    assert sorted(objects_on_disk(directory).values()) == sorted(expected.values())


# -- ordinary keys -----------------------------------------------------------------------------

ORDINARY = [
    *("a", "key", "README.md", "index.html", "dir/file.txt", "p/q/r/s/t", "photo (1).jpg"),
    *("v1..v2", "2026-01-01T00-00.log", "a-b_c.d", "UPPER", "über/straße.txt", "日本語", "a=b&c"),
    *("x/y.tar.gz", "k" * 200, "deep/" * 20 + "file", "user@host", "a,b;c", "[x]", "{y}", "(z)"),
]


async def test_ordinary_keys_are_plain_files(bucket: R2Bucket, directory: Path) -> None:
    for key in ORDINARY:
        for value in (key.encode(), os.urandom(100_000)):
            await bucket.put(key, value)
            path = directory / "r2" / "bucket" / key
            assert path.read_bytes() == value
            assert stat.S_ISREG(path.lstat().st_mode)
    assert set(objects_on_disk(directory)) == set(ORDINARY)
    for key in ORDINARY:
        await bucket.delete(key)
    assert objects_on_disk(directory) == {}
    assert beside(directory) == {}


async def test_no_file_can_be_read_by_other_users(bucket: R2Bucket, directory: Path) -> None:
    await bucket.put("dir/key", "value")
    await bucket.put("large", bytes(MIB))
    assert directory.stat().st_mode & 0o077 == 0


# -- all keys ----------------------------------------------------------------------------------


async def test_all_nasty_keys_live_together(
    bucket: R2Bucket, directory: Path, tmp_path: Path
) -> None:
    assert len(set(NASTY)) == len(NASTY)
    assert all(fits(key) for key in NASTY)
    before = outside(tmp_path, directory)
    expected = {key: f"{number} {key}".encode() for number, key in enumerate(NASTY)}
    for key, value in expected.items():
        await bucket.put(key, value)
    await check(bucket, expected, directory)
    assert outside(tmp_path, directory) == before
    # Overwritten in another order, and in another way.
    for number, key in enumerate(reversed(NASTY)):
        expected[key] = f"again {number}".encode() * 10_000
        await bucket.put(key, chunks(expected[key]))
    await check(bucket, expected, directory)
    # One half goes.
    for key in NASTY[::2]:
        await bucket.delete(key)
        del expected[key]
    await check(bucket, expected, directory)
    # The other half as well, and what was under them.
    await bucket.delete(list(expected))
    await check(bucket, {}, directory)
    assert outside(tmp_path, directory) == before
    assert not (tmp_path / "x").exists()


async def test_nasty_keys_outlive_the_state(directory: Path, clock: bunflare.ManualClock) -> None:
    expected = {key: key.encode() for key in NASTY}
    async with bunflare.open(directory, durability="normal", clock=clock) as state:
        for key, value in expected.items():
            await state.r2("bucket").put(key, value)
    async with bunflare.open(directory, durability="normal", clock=clock) as state:
        await check(state.r2("bucket"), expected, directory)


async def test_the_name_of_a_file_is_a_key_of_its_own(bucket: R2Bucket, directory: Path) -> None:
    """Whatever a key is escaped to is a key itself, and means another object."""
    expected: dict[str, bytes] = {}
    for number, key in enumerate(NASTY):
        expected[key] = f"first {number}".encode()
        await bucket.put(key, expected[key])
    for generation in range(2):
        for name in list(objects_on_disk(directory)):
            if name not in expected and fits(name):
                expected[name] = f"{generation} {name}".encode()
                await bucket.put(name, expected[name])
        await check(bucket, expected, directory)
    assert len(expected) > len(NASTY)
    for key in NASTY:
        await bucket.delete(key)
        del expected[key]
    await check(bucket, expected, directory)


async def test_a_throw_away_state_goes_however_deep_its_keys_are() -> None:
    for key in ("/" * 1024, "a/" * 511 + "a"):
        state = bunflare.open(":memory:")
        directory = state.database.directory.path
        try:
            await state.r2("bucket").put(key, "value")
            await state.close()
            assert not directory.exists()
        finally:
            subprocess.run(["rm", "-rf", str(directory)], check=True)


async def test_parts_take_any_key(small: R2Bucket, directory: Path, tmp_path: Path) -> None:
    before = outside(tmp_path, directory)
    expected: dict[str, bytes] = {}
    for key in NASTY[::3]:
        upload = await small.create_multipart_upload(key)
        first = await upload.upload_part(1, b"1" * 50)
        last = await upload.upload_part(2, key[:10])
        await upload.complete([first, last])
        expected[key] = b"1" * 50 + key[:10].encode()
    await check(small, expected, directory)
    assert outside(tmp_path, directory) == before


async def test_files_are_copied_under_any_key(bucket: R2Bucket, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"value" * 30_000)
    for key in NASTY[::5]:
        await bucket.upload_file(key, source)
        await bucket.copy(key, "copy")
        assert await read(bucket, "copy") == source.read_bytes()
        await bucket.download_file(key, tmp_path / "target")
        assert (tmp_path / "target").read_bytes() == source.read_bytes()


@hypothesis.given(
    keys=st.lists(KEYS, min_size=1, max_size=6, unique=True),
    large=st.booleans(),
    order=st.randoms(use_true_random=False),
)
async def test_any_key_works(
    tmp_path_factory: pytest.TempPathFactory, keys: list[str], large: bool, order: Any
) -> None:
    root = tmp_path_factory.mktemp("keys")
    directory = root / ".bunflare"
    async with bunflare.open(directory, durability="normal") as state:
        bucket = state.r2("bucket")
        before = outside(root, directory)
        expected: dict[str, bytes] = {}
        for _ in range(2):
            order.shuffle(keys)
            for number, key in enumerate(keys):
                value = f"{number} {key}".encode()
                expected[key] = value * (70_000 // len(value) + 1) if large else value
                await bucket.put(key, expected[key])
        await check(bucket, expected, directory)
        for key in keys[:3]:
            assert key in await names(bucket, prefix=key)
            await bucket.delete(key)
            del expected[key]
            assert await bucket.get(key) is None
        await check(bucket, expected, directory)
        await bucket.delete(list(expected))
        await check(bucket, {}, directory)
        assert outside(root, directory) == before
    subprocess.run(["rm", "-rf", str(root)], check=True)


async def test_a_lone_surrogate_becomes_a_replacement_character(bucket: R2Bucket) -> None:
    """As at JavaScript's border, and as in Workers KV."""
    stored = await written(bucket, "a\ud800b", "value")
    assert stored.key == "a\ufffdb"
    assert await read(bucket, "a\ufffdb") == b"value"
    assert await names(bucket, prefix="a\udfff") == ["a\ufffdb"]


# -- what others have put into the directory ---------------------------------------------------


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A directory that is no business of a bucket."""
    place = tmp_path / "secret"
    place.mkdir()
    (place / "file").write_bytes(b"secret")
    (place / "b").write_bytes(b"secret too")
    return place


async def harmless(work: Any) -> None:
    """Work that may be refused, with an error of ours, but not with anything else."""
    with contextlib.suppress(bunflare.BunflareError):
        await work


async def test_a_directory_that_is_a_link_is_not_followed(
    bucket: R2Bucket, directory: Path, secret: Path
) -> None:
    await bucket.put("plain", "value")
    place = directory / "r2" / "bucket"
    (place / "link").symlink_to(secret, target_is_directory=True)
    (place / "up").symlink_to("../..", target_is_directory=True)
    before = files(secret)
    database = (directory / "data.sqlite").stat().st_ino
    for key in ("link/file", "link/new", "link/deep/new", "up/data.sqlite", "up/new"):
        assert await bucket.get(key) is None
        for value in (b"value", os.urandom(100_000)):
            await harmless(bucket.put(key, value))
            found = await bucket.get(key)
            if found is not None:
                assert await read(bucket, key) == value
            await harmless(bucket.delete(key))
            assert await bucket.get(key) is None
    assert files(secret) == before
    assert (directory / "data.sqlite").stat().st_ino == database
    assert not (directory / "new").exists()
    assert await contents(bucket) == {"plain": b"value"}


async def test_a_file_that_is_a_link_is_not_followed(
    bucket: R2Bucket, directory: Path, secret: Path
) -> None:
    await bucket.put("plain", "value")
    place = directory / "r2" / "bucket"
    before = files(secret)
    for number, value in enumerate((b"value", os.urandom(100_000))):
        key = f"leaf{number}"
        (place / key).symlink_to(secret / "file")
        assert await bucket.get(key) is None
        await harmless(bucket.put(key, value))
        if await bucket.get(key) is not None:
            assert await read(bucket, key) == value
        await harmless(bucket.delete(key))
        (place / f"dangling{number}").symlink_to(secret / "made")
        await harmless(bucket.put(f"dangling{number}", value))
        await harmless(bucket.delete(f"dangling{number}"))
    assert files(secret) == before


@pytest.mark.parametrize("size", [10, 100_000])
async def test_an_object_whose_directory_became_a_link_is_not_read_through_it(
    state: State, bucket: R2Bucket, directory: Path, secret: Path, size: int
) -> None:
    value = os.urandom(size)
    await bucket.put("a/b", value)
    await bucket.put("a/file", value)
    place = directory / "r2" / "bucket"
    (place / "a").rename(place / "moved")
    (place / "a").symlink_to(secret, target_is_directory=True)
    before = files(secret)
    for key in ("a/b", "a/file"):
        await harmless(read_is(bucket, key, value))
        await harmless(bucket.put(key, b"new" * size))
        await harmless(bucket.delete(key))
    await harmless(bucket.check(digests=True))
    await harmless(bucket.repair())
    await harmless(bucket.adopt())
    assert files(secret) == before
    assert b"secret" not in b"".join(
        data for data in (await contents(bucket)).values() if data is not None
    )


async def read_is(bucket: R2Bucket, key: str, value: bytes) -> None:
    found = await read(bucket, key)
    assert found in (value, None)


@pytest.mark.parametrize("size", [10, 100_000])
async def test_an_object_whose_file_became_a_link_is_not_read_through_it(
    bucket: R2Bucket, directory: Path, secret: Path, size: int
) -> None:
    value = os.urandom(size)
    await bucket.put("key", value)
    path = directory / "r2" / "bucket" / "key"
    path.unlink()
    (secret / "file").write_bytes(b"s" * size)  # of the same size, to be as tempting as can be
    path.symlink_to(secret / "file")
    before = files(secret)
    await harmless(read_is(bucket, "key", value))
    await harmless(bucket.put("key", b"n" * size))
    await harmless(read_is(bucket, "key", b"n" * size))
    await harmless(bucket.delete("key"))
    assert files(secret) == before


async def test_neither_a_pipe_nor_a_directory_in_the_way_holds_anything_up(
    bucket: R2Bucket, directory: Path
) -> None:
    await bucket.put("plain", "value")
    place = directory / "r2" / "bucket"
    os.mkfifo(place / "pipe")
    (place / "folder").mkdir()
    (place / "folder" / "stranger").write_bytes(b"stranger")
    for key in ("pipe", "folder", "pipe/x"):
        assert await bucket.get(key) is None
        for value in (b"value", os.urandom(100_000)):
            await bucket.put(key, value)
            assert await read(bucket, key) == value
        await bucket.delete(key)
    assert (place / "folder" / "stranger").read_bytes() == b"stranger"
    assert await contents(bucket) == {"plain": b"value"}


# -- names of buckets --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../x", "../../x", "a/b", "/abs", "a/../..", "a\0b", "x/", "k" * 300, "a\\b"],
)
async def test_the_name_of_a_bucket_leads_nowhere_else(
    state: State, directory: Path, tmp_path: Path, name: str
) -> None:
    other = state.r2("other")
    await other.put("key", "kept")
    before = {
        path: data
        for path, data in files(tmp_path).items()
        if not path.startswith((".bunflare/data.sqlite", ".bunflare/r2/"))
    }
    with contextlib.suppress(bunflare.R2Error):
        bucket = state.r2(name)
        await bucket.put("key", "value")
        await bucket.put("other/key", os.urandom(100_000))
        assert await read(bucket, "key") == b"value"
        assert await names(bucket) == ["key", "other/key"]
        await bucket.delete(["key", "other/key"])
    assert await contents(other) == {"key": b"kept"}
    assert objects_on_disk(directory, "other") == {"key": b"kept"}
    after = {
        path: data
        for path, data in files(tmp_path).items()
        if not path.startswith((".bunflare/data.sqlite", ".bunflare/r2/"))
    }
    assert after == before


@pytest.mark.parametrize("name", [None, 12, b"bucket"])
async def test_the_name_of_a_bucket_is_text(state: State, name: Any) -> None:
    with pytest.raises(TypeError):
        state.r2(name)
