"""The example with a D1 database."""

from __future__ import annotations

from pathlib import Path

import bunflare

QUOTES = Path(__file__).parents[2] / "examples" / "quotes"


async def test_its_migrations_make_what_its_worker_asks_for(state: bunflare.State) -> None:
    db = state.d1("quotes")
    assert len(await db.migrate(QUOTES / "migrations")) == 2
    names: dict[str, str] = {}
    for line in (QUOTES / "src" / "entry.py").read_text().splitlines():
        name, sign, text = line.partition(' = "')
        if sign and name.isupper():
            names[name] = text.removesuffix('"')
    added = await db.prepare(names["ADD"]).bind("Ada", "Hello, engine").run()
    assert added.meta.changes == 1
    found = await db.prepare(names["SEARCH"]).bind('"engine"').all()
    assert found.results == [{"author": "Ada", "text": "Hello, engine"}]
    assert await db.prepare(names["RANDOM"]).first("author")
    exported = await db.export_sql()
    assert exported is not None
    assert "CREATE VIRTUAL TABLE search" in exported
