"""``bunflare d1``."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bunflare.cli import cli


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "wrangler.toml").write_text(
        'name = "w"\nmain = "entry.py"\ncompatibility_date = "2026-01-01"\n'
        '[[d1_databases]]\nbinding = "DB"\ndatabase_name = "quotes"\ndatabase_id = "1"\n'
        'migrations_dir = "steps"\n'
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def d1(*arguments: str | os.PathLike[str]) -> Result:
    result = CliRunner().invoke(cli, ["d1", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result


def test_a_database_from_its_first_migration_to_its_export(project: Path) -> None:
    made = Path(d1("migrations", "create", "DB", "make quotes").output.strip())
    assert made == project / "steps" / "0001_make_quotes.sql"
    made.write_text("CREATE TABLE quotes (id INTEGER PRIMARY KEY, text)")
    assert "0001_make_quotes.sql" in d1("migrations", "list", "quotes").output
    d1("migrations", "apply", "quotes", "--local")
    assert d1("migrations", "list", "quotes").output == "nothing\n"
    d1("execute", "DB", "--command", "INSERT INTO quotes (text) VALUES ('Less is more')")
    mark = d1("time-travel", "info", "quotes").output.strip()
    shown = d1("execute", "DB", "--command", "SELECT * FROM quotes").output
    assert shown.splitlines() == ["id  text        ", "--  ------------", "1   Less is more"]
    found = json.loads(d1("execute", "DB", "--json", "--command", "SELECT 1 AS a; SELECT 2").output)
    assert [one["results"] for one in found] == [[{"a": 1}], [{"2": 2}]]
    d1("execute", "DB", "--command", "DELETE FROM quotes")
    d1("time-travel", "restore", "DB", "--bookmark", mark)
    d1("export", "DB", "--output", "out.sql", "--table", "quotes")
    text = (project / "out.sql").read_text()
    assert "Less is more" in text
    assert "d1_migrations" not in text
    d1("execute", "copy", "--file", "out.sql")
    listed = json.loads(d1("list", "--json").output)
    assert [one["name"] for one in listed] == ["copy", "quotes"]
    assert json.loads(d1("info", "quotes", "--json").output)[0]["tables"] == 2
