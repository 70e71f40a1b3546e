"""A D1 database in a Worker's ``env``."""

from __future__ import annotations

import json
from pathlib import Path

import bunflare
from bunflare.config import load_config
from bunflare.runtime.env import make_env


async def test_a_worker_sees_the_platforms_names_and_plain_rows(
    state: bunflare.State, tmp_path: Path
) -> None:
    config = tmp_path / "wrangler.toml"
    config.write_text(
        'name = "w"\nmain = "entry.py"\ncompatibility_date = "2026-01-01"\n'
        '[[d1_databases]]\nbinding = "DB"\ndatabase_name = "shop"\ndatabase_id = "1"\n'
    )
    db = make_env(load_config(config), state).DB
    await db.exec("CREATE TABLE t (a, user_name); INSERT INTO t VALUES (1, 'Ada')")
    insert = db.prepare("INSERT INTO t VALUES (?, ?)")
    results = await db.batch([insert.bind(2, "Bob"), db.prepare("SELECT * FROM t")])
    assert results[0].meta.last_row_id == 2
    assert results[1].results[0].user_name == "Ada"
    assert results[1]["results"][1].to_py() == {"a": 2, "user_name": "Bob"}
    assert results[1].meta.timings.sql_duration_ms >= 0
    assert await db.prepare("SELECT a FROM t").first("a") == 1
    raw = await db.prepare("SELECT a FROM t").raw({"columnNames": True})
    assert raw == [["a"], [1], [2]]
    # Blobs are lists of numbers there, which go back in as they came.
    blob = db.prepare("SELECT ? AS b, x'00ff' AS c")
    assert await blob.bind([0, 255]).first("b") == [0, 255]
    assert (await blob.bind(b"x").all()).results[0].to_py() == {"b": [120], "c": [0, 255]}
    assert await blob.bind([1]).raw() == [[[1], [0, 255]]]
    assert json.dumps((await blob.bind([]).all()).results) == '[{"b": [], "c": [0, 255]}]'
    session = db.withSession("first-primary")
    assert (await session.prepare("SELECT 1 AS one").run()).results[0].one == 1
    assert isinstance(session.getBookmark(), str)
    assert (state.directory / "d1" / "shop.sqlite").exists()
