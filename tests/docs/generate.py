"""``make docs``: writes what is generated from the code."""

from __future__ import annotations

import asyncio
from pathlib import Path

import bunflare
from bunflare.store.describe import schema_page

DOCS = Path(__file__).parents[2] / "docs"


async def pages() -> dict[str, str]:
    """The generated pages by their names."""
    async with bunflare.open(":memory:") as state:
        return {"schema.md": schema_page(state.database.view)}


def main() -> None:
    for name, text in asyncio.run(pages()).items():
        (DOCS / name).write_text(text)


if __name__ == "__main__":
    main()
