"""``bunflare init``, as a process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.cli.process import run
from tests.runtime.test_dev import dev
from tests.support import files


def test_a_project_is_made_that_passes_its_test_and_runs(tmp_path: Path) -> None:
    out = run(tmp_path, "init", "My App")[0]
    project = tmp_path / "My App"
    assert "My App' && bunflare dev" in out
    made = {name for name in files(project) if not name.startswith(".bunflare/")}
    assert made == {
        ".gitignore",
        "pyproject.toml",
        "src/entry.py",
        "tests/test_worker.py",
        "wrangler.toml",
    }
    assert ".bunflare/\n" in (project / ".gitignore").read_text()
    assert 'name = "my-app"' in (project / "wrangler.toml").read_text()
    tested = subprocess.run(
        [sys.executable, "-m", "pytest", "-q"],
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
    )
    assert tested.returncode == 0, tested.stdout
    assert "1 passed" in tested.stdout
    with dev(project) as server:
        assert server.fetch()[2] == b"1 visits\n"
    before = files(project)
    assert "was made" not in run(project, "init")[0]
    after = files(project)
    for name in made:
        assert after[name] == before[name]


def test_an_existing_project_gets_what_it_lacks(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / ".gitignore").write_text("dist")
    (tmp_path / "src").mkdir()
    (tmp_path / "src/entry.py").write_text("# mine\n")
    out = run(tmp_path / "src", "init")[0]
    assert f"{tmp_path / '.bunflare'} was made" in out
    assert (tmp_path / ".bunflare" / "data.sqlite").exists()
    assert (tmp_path / ".gitignore").read_text() == "dist\n.bunflare/\n"
    assert (tmp_path / "wrangler.toml").exists()
    assert (tmp_path / "src/entry.py").read_text() == "# mine\n"
    # Its Worker is another, which the test does not fit.
    assert not (tmp_path / "tests").exists()
    assert (tmp_path / "pyproject.toml").read_text() == ""
    assert "is there already" in run(tmp_path, "init")[0]
    assert (tmp_path / ".gitignore").read_text() == "dist\n.bunflare/\n"


def test_a_wrangler_file_stays_as_it_is(tmp_path: Path) -> None:
    text = '{"name": "mine", "main": "worker.py"} // hello\n'
    (tmp_path / "wrangler.jsonc").write_text(text)
    told = run(tmp_path, "init")[1]
    assert "worker.py is not there" in told
    assert (tmp_path / "wrangler.jsonc").read_text() == text
    assert {path.name for path in tmp_path.iterdir()} == {
        ".bunflare",
        ".gitignore",
        "wrangler.jsonc",
    }


def test_a_program_needs_no_worker(tmp_path: Path) -> None:
    (tmp_path / "project" / ".git").mkdir(parents=True)
    run(tmp_path, "init", "project", "--no-worker")
    names = {path.name for path in (tmp_path / "project").iterdir()}
    assert names == {".bunflare", ".git", ".gitignore"}


def test_an_impossible_place_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / ".bunflare").write_text("a file")
    told = run(tmp_path, "init", code=1)[1]
    assert told.startswith("error: ")
    assert "not a directory" in told
    (tmp_path / "file").touch()
    run(tmp_path, "init", "file", code=2)
    assert "not a directory" in run(tmp_path, "init", "file/below", code=1)[1].lower()
