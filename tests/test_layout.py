"""The house's rules that a machine can see."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

SOURCES = Path(__file__).parents[1] / "src" / "bunflare"
STATEMENT = re.compile(
    r"^\s*(SELECT\s.+\sFROM|INSERT\s+INTO|UPDATE\s.+\sSET|DELETE\s+FROM|CREATE\s+(TABLE|INDEX)|PRAGMA\s)",
    re.IGNORECASE | re.DOTALL,
)


def modules() -> list[Path]:
    found = sorted(SOURCES.rglob("*.py"))
    assert len(found) > 30
    return found


def test_imports_only_point_down() -> None:
    result = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"],
        cwd=SOURCES.parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout


def test_sql_stands_in_the_store_alone() -> None:
    for path in modules():
        if path.is_relative_to(SOURCES / "store"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert not STATEMENT.match(node.value), f"{path}:{node.lineno}"


def test_every_module_says_what_it_is_for() -> None:
    for path in modules():
        text = path.read_text()
        if text.strip():
            assert ast.get_docstring(ast.parse(text)), path


def test_a_module_is_read_in_one_sitting() -> None:
    for path in modules():
        assert len(path.read_text().splitlines()) <= 500, path


def test_the_import_of_the_library_needs_no_web_stack() -> None:
    heavy = (
        "uvicorn",
        "click",
        "httptools",
        "uvloop",
        "dotenv",
        "python_multipart",
        "asyncinotify",
        "websockets",
    )
    code = f"import sys, bunflare; print(*[m for m in {heavy} if m in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == ""
