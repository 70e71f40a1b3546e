"""``bunflare d1``."""

from __future__ import annotations

import json
import os
import time
from datetime import UTC, datetime
from pathlib import Path

import apsw
import pytest
from click.testing import CliRunner, Result

from bunflare.cli import cli
from tests.cli.process import on_terminal


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


def refused(*arguments: str | os.PathLike[str]) -> str:
    """What a command that fails says."""
    result = CliRunner().invoke(cli, ["d1", *map(str, arguments)])
    assert result.exit_code != 0
    return f"{result.output} {result.exception}"


def test_an_export_that_cannot_be_whole_says_which_table_it_is(project: Path) -> None:
    sql = (
        "CREATE TABLE t (a); CREATE VIRTUAL TABLE words USING fts5 (a, content='t');"
        "INSERT INTO words (rowid, a) VALUES (1, 'x'); DROP TABLE t; CREATE TABLE u (b)"
    )
    d1("execute", "DB", "--command", sql)
    told = refused("export", "DB", "--output", "out.sql")
    assert "the rows of the table words cannot be read" in told
    assert not (project / "out.sql").exists()
    d1("export", "DB", "--output", "out.sql", "--table", "u")
    assert "CREATE TABLE u (b);" in (project / "out.sql").read_text()


def test_a_database_from_its_first_migration_to_its_export(project: Path) -> None:
    made = Path(d1("migrations", "create", "DB", "make quotes").output.strip())
    assert made == project / "steps" / "0001_make_quotes.sql"
    made.write_text("CREATE TABLE quotes (id INTEGER PRIMARY KEY, text)")
    assert "0001_make_quotes.sql" in d1("migrations", "list", "quotes").output
    d1("migrations", "apply", "quotes", "--local", "--persist-to", project / ".bunflare")
    assert d1("migrations", "list", "quotes").output == "nothing\n"
    insert = "INSERT INTO quotes (text) VALUES ('Less is more')"
    assert d1("execute", "DB", "--command", insert).stderr == "1 row changed\n"
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
    assert d1("list").output.splitlines()[2].split() == ["copy", "8192"]
    listed = json.loads(d1("list", "--json").output)
    assert [one["name"] for one in listed] == ["copy", "quotes"]
    assert json.loads(d1("info", "quotes", "--json").output)["tables"] == 2


def test_databases_are_made_and_removed_with_their_history(project: Path) -> None:
    made = d1("create", "other").output
    assert 'database_name = "other"' in made
    assert (project / ".bunflare" / "d1" / "other.sqlite").is_file()
    assert "already" in refused("create", "other")
    asked = on_terminal(project, "d1", "delete", "other", typed="n\n")
    assert "Remove other and all of its history?" in asked
    assert "nothing was done" in asked
    assert (project / ".bunflare" / "d1" / "other.sqlite").is_file()
    d1("delete", "other", "--skip-confirmation")
    assert list((project / ".bunflare" / "d1").iterdir()) == []
    assert "there is no database" in refused("delete", "other", "-y")


def test_a_database_in_use_is_not_removed(project: Path) -> None:
    d1("create", "other")
    with apsw.Connection(str(project / ".bunflare" / "d1" / "other.sqlite")) as connection:
        connection.execute("SELECT 1 FROM sqlite_schema").fetchall()
        assert "in use" in refused("delete", "other", "-y")
    connection.close()
    assert d1("info", "other").output


def test_a_time_is_gone_back_to_and_that_is_undone(project: Path) -> None:
    d1("execute", "quotes", "--command", "CREATE TABLE t (a); INSERT INTO t VALUES (1)")
    time.sleep(0.002)
    moment = datetime.now(UTC).isoformat()
    time.sleep(0.002)
    dropped = d1("execute", "quotes", "--command", "DROP TABLE t; SELECT 1 WHERE 0")
    assert (dropped.stdout, dropped.stderr) == ("nothing\n", "done\n")
    at = ("quotes", "--timestamp", moment, "--json")
    named = json.loads(d1("time-travel", "info", *at).output)
    found = json.loads(d1("time-travel", "restore", *at).output)
    assert found["bookmark"] > found["previous_bookmark"] > named["bookmark"]
    assert "1" in d1("execute", "quotes", "--command", "SELECT a FROM t").output
    d1("time-travel", "restore", "quotes", "--bookmark", found["previous_bookmark"])
    gone = refused("execute", "quotes", "--command", "SELECT a FROM t")
    assert "no such table: t" in gone
    assert "'x' is no time" in refused("time-travel", "restore", "quotes", "--timestamp", "x")


def test_a_history_that_is_not_wanted_is_not_kept(project: Path) -> None:
    d1("execute", "quotes", "--command", "CREATE TABLE t (a)")
    mark = d1("time-travel", "info", "quotes").output.strip()
    d1("time-travel", "keep", "quotes", "--days", "0")
    assert "switched off" in refused("time-travel", "restore", "quotes", "--bookmark", mark)
    d1("time-travel", "keep", "quotes", "--days", "7", "--megabytes", "10")
    mark = d1("time-travel", "info", "quotes").output.strip()
    d1("time-travel", "restore", "quotes", "--bookmark", mark)


def test_an_import_that_takes_long_shows_how_far_it_is(project: Path) -> None:
    lines = "".join(f"INSERT INTO t VALUES ('{'x' * 90}');\n" for _ in range(50_000))
    (project / "in.sql").write_text(f"CREATE TABLE t (a);\n{lines}")
    shown = on_terminal(project, "d1", "execute", "quotes", "--file", "in.sql")
    assert "in.sql  [" in shown
    assert "100%" in shown
    assert "MB/s" in shown


def test_a_new_name_that_is_nearly_another_is_mentioned(project: Path) -> None:
    told = "'quote' is a new database. Did you mean 'quotes'?\n"
    made = d1("execute", "quote", "--command", "CREATE TABLE a (b)")
    assert (made.stdout, made.stderr) == ("", f"{told}done\n")
    assert d1("execute", "quote", "--command", "SELECT * FROM a").stderr == ""
    assert d1("execute", "other", "--command", "CREATE TABLE a (b)").stderr == "done\n"
    (project / "migrations").mkdir()
    (project / "migrations" / "0001_a.sql").write_text("CREATE TABLE a (b)")
    assert "'quoets' is a new database." in d1("migrations", "apply", "quoets").stderr


def test_migrations_of_a_pattern(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrangler = project / "wrangler.toml"
    for name in ("0000_first", "0001_second"):
        (project / "steps" / name).mkdir(parents=True)
        (project / "steps" / name / "migration.sql").write_text(f"CREATE TABLE t{name} (a)")
    told = d1("migrations", "list", "DB")
    assert told.stdout == "nothing\n"
    assert 'set migrations_pattern to "steps/*/migration.sql"' in told.stderr
    plain = wrangler.read_text()
    wrangler.write_text(f'{plain}migrations_pattern = "./steps/*/migration.sql"\n')
    names = ["0000_first/migration.sql", "0001_second/migration.sql"]
    assert json.loads(d1("migrations", "list", "DB", "--json").output) == [
        {"Name": one} for one in names
    ]
    assert d1("migrations", "apply", "DB").output.split()[2:] == names
    assert d1("migrations", "list", "DB").output == "nothing\n"
    refusal = refused("migrations", "create", "DB", "third")
    assert "0002_third.sql" in refused("migrations", "create", "DB", "third")
    assert "does not match the configured migrations_pattern" in refusal
    wrangler.write_text(f'{plain}migrations_pattern = "other/*.sql"\n')
    assert 'must start with "steps/"' in refused("migrations", "list", "DB")
    wrangler.write_text(f'{plain}migrations_pattern = "steps/**/*.sql"\n')
    assert d1("migrations", "create", "DB", "third").output.strip().endswith("0002_third.sql")


def test_wide_characters_are_given_their_room(project: Path) -> None:
    rows = "VALUES ('日本', 'a'), ('cafe\u0301', 'b'), ('plain', 'c')"
    shown = d1("execute", "DB", "--command", f"WITH t(x, y) AS ({rows}) SELECT * FROM t").stdout
    # On a terminal the second column stands below the other: 日本 takes four places.
    assert shown.splitlines() == [
        *("x      y", "-----  -", "日本   a", "cafe\u0301   b", "plain  c"),
    ]
    long = "日" * 100
    told = on_terminal(project, "d1", "execute", "DB", "--command", f"SELECT '{long}' AS x, 1 AS y")
    assert f"{'日' * 29}…" in told
    assert "日" * 30 not in told
