"""Installed packages: those that are made for Workers, and all others."""

from __future__ import annotations

from pathlib import Path

from .test_dev import dev, project

WORKER = """
import sys
import foreign
import for_workers
import for_workers.part
from workers import Response, WorkerEntrypoint

class Default(WorkerEntrypoint):
    async def fetch(self, request):
        import importlib
        later = importlib.import_module("for_workers.later")
        assert foreign.IN_A_BROWSER is False
        assert not {"js", "workers", "pyodide"} & set(sys.modules)
        return Response.json([for_workers.word(), for_workers.part.there(), later.TEXT])
"""


def installed(place: Path, name: str, summary: str, **modules: str) -> None:
    """A package as pip leaves it."""
    description = place / f"{name}-1.0.dist-info"
    description.mkdir(parents=True)
    (description / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\n\n{summary}\n")
    (place / name).mkdir()
    for module, source in modules.items():
        (place / name / f"{module}.py").write_text(source)


def test_a_package_made_for_workers_finds_the_platform_and_others_do_not(tmp_path: Path) -> None:
    place = tmp_path / "installed"
    installed(
        place,
        "for_workers",
        "Greetings for Cloudflare Workers",
        __init__="from workers import env\nfrom . import part\ndef word():\n    return env.WORD\n",
        part="def there():\n    from js import Object\n    return Object.keys({'a': 1})\n",
        later="from pyodide.ffi import to_js\nTEXT = str(to_js('x'))\n",
    )
    detects = "try:\n    import js\n    IN_A_BROWSER = True\nexcept ImportError:\n"
    installed(place, "foreign", "Anything", __init__=f"{detects}    IN_A_BROWSER = False\n")
    project(tmp_path, WORKER, 'name = "a"\nmain = "src/entry.py"\nvars = { WORD = "hello" }')
    with dev(tmp_path, PYTHONPATH=str(place)) as server:
        assert server.text() == '["hello", ["a"], "x"]'
        # A reload is a new Worker, whose library has the new `env`.
        (tmp_path / "wrangler.toml").write_text(
            'name = "a"\nmain = "src/entry.py"\nvars = { WORD = "again" }'
        )
        assert server.process.stdout is not None
        while "Reloaded" not in server.process.stdout.readline():
            continue
        assert server.text() == '["again", ["a"], "x"]'


def test_packages_that_pywrangler_has_put_beside_the_worker_are_found(tmp_path: Path) -> None:
    project(
        tmp_path,
        """
        import only_there
        from workers import Response, WorkerEntrypoint

        class Default(WorkerEntrypoint):
            async def fetch(self, request):
                return Response(only_there.TEXT)
        """,
    )
    (tmp_path / "python_modules" / "workers").mkdir(parents=True)
    (tmp_path / "python_modules" / "workers" / "__init__.py").write_text("raise ImportError")
    (tmp_path / "python_modules" / "only_there.py").write_text("TEXT = 'found'")
    with dev(tmp_path) as server:
        assert server.text() == "found"
