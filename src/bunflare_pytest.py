"""What pytest loads in every project. It takes part only where there is a wrangler file.

A module of its own, outside of the package: a project without one does not pay for an import of
bunflare.
"""

from __future__ import annotations

from pathlib import Path

import pytest

_NAMES = ("wrangler.json", "wrangler.jsonc", "wrangler.toml")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini(
        "bunflare_config",
        "wrangler files of the Workers under test, the first one's being `env` and `worker` "
        "(default: the nearest one from the working directory up to pytest's root)",
        type="paths",
        default=[],
    )
    parser.addini("bunflare_env", "environment of the first wrangler file", default="")


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    files = list(early_config.getini("bunflare_config")) or _nearest(
        early_config.invocation_params.dir, early_config.rootpath
    )
    if files:
        from bunflare.testing.plugin import register

        register(early_config, files, early_config.getini("bunflare_env") or None)


def _nearest(start: Path, root: Path) -> list[Path]:
    for directory in (start, *start.parents):
        if not directory.is_relative_to(root):
            break
        for name in _NAMES:
            if (directory / name).is_file():
                return [directory / name]
    return [root / name for name in _NAMES if (root / name).is_file()][:1]
