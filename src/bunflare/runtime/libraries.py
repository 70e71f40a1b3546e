"""Which installed packages are made for Workers, and so import ``workers``, ``js`` or ``pyodide``.

Other libraries must not find these: they would take them for a browser. One that is made for
Workers says so where it describes itself, and has such an import statement.
"""

from __future__ import annotations

import re
import sys
from functools import cache
from importlib.machinery import PathFinder
from pathlib import Path

_STATEMENT = re.compile(rb"^[ \t]*(?:from|import)[ \t]+(?:workers|js|pyodide)\b", re.MULTILINE)


@cache
def directory(top: str) -> str | None:
    """The directory of the installed package of that name, if it is made for Workers."""
    described = [one for place in tuple(sys.path) if (one := _descriptions(place).get(top.lower()))]
    if not any(b"cloudflare" in one.read_bytes().lower() for one in described):
        return None
    spec = PathFinder.find_spec(top)
    if spec is None or not spec.submodule_search_locations:
        return None
    [place, *_] = spec.submodule_search_locations
    # bunflare itself only provides them.
    if Path(place) == Path(__file__).parents[1]:
        return None
    sources = Path(place).rglob("*.py")
    return place if any(_STATEMENT.search(one.read_bytes()) for one in sources) else None


@cache
def _descriptions(place: str) -> dict[str, Path]:
    """The files that describe what is installed in a directory, by the names to import."""
    found = Path(place or ".")
    if not found.is_dir():
        return {}
    # What is installed under another name than it is imported by is not found.
    return {
        one.name.partition("-")[0].lower(): one / "METADATA" for one in found.glob("*.dist-info")
    }
