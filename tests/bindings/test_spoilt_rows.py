"""What other programs have spoilt is said in an error of ours, and spoils nothing else."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest

import bunflare


def spoil(directory: Path, sql: str) -> None:
    connection = apsw.Connection(str(directory / "data.sqlite"))
    try:
        connection.execute(sql)
    finally:
        connection.close()


@pytest.mark.parametrize("text", ["{", "[1, 2", "nan?"])
async def test_metadata_of_keys(state: bunflare.State, directory: Path, text: str) -> None:
    kv = state.kv("A")
    await kv.put("bad", "value", metadata={"a": 1})
    await kv.put("good", "value", metadata={"a": 1})
    spoil(directory, f"UPDATE kv SET metadata = '{text}' WHERE key = 'bad'")
    with pytest.raises(bunflare.ValueCorrupt, match="the metadata that is stored cannot be read"):
        await kv.list()
    with pytest.raises(bunflare.ValueCorrupt):
        await kv.get_with_metadata("bad")
    assert await kv.get("bad") == "value"
    assert (await kv.get_with_metadata("good")).metadata == {"a": 1}


@pytest.mark.parametrize("column", ["http_metadata", "custom_metadata", "bunflare_checksums"])
@pytest.mark.parametrize("text", ["{", "[1]", '{"sha1": 5}'])
async def test_what_belongs_to_objects(
    state: bunflare.State, directory: Path, column: str, text: str
) -> None:
    bucket = state.r2("files")
    for key in ("bad", "good"):
        await bucket.put(key, b"x", http_metadata={"content_type": "a/b"})
    spoil(directory, f"UPDATE r2_objects SET {column} = '{text}' WHERE key = 'bad'")
    if text == '{"sha1": 5}' and column != "bunflare_checksums":
        assert (await bucket.head("bad")) is not None
    else:
        with pytest.raises(bunflare.ValueCorrupt, match="stored cannot be read"):
            await bucket.head("bad")
    found = await bucket.head("good")
    assert found is not None
    assert found.http_metadata is not None
    assert found.http_metadata.content_type == "a/b"
