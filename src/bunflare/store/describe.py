"""The schema of a fresh store as a page of documentation."""

from __future__ import annotations

from .session import View

_INTRODUCTION = """\
# The schema of `data.sqlite`

Generated from a fresh store by `make docs`; do not edit. Tables and columns whose names do not
begin with `bunflare_` are a contract: they are never renamed, dropped or given another type.
"""

_OBJECTS = """
SELECT type, name, sql FROM sqlite_master
WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%'
ORDER BY instr('table index trigger', type), name LIKE 'bunflare_%', rowid
"""


def schema_page(view: View) -> str:
    """Markdown with every table, index and trigger as SQLite keeps them."""
    titles = {"table": "Tables", "index": "Indexes", "trigger": "Triggers"}
    parts = [_INTRODUCTION]
    shown = ""
    for kind, name, sql in view.all(_OBJECTS):
        if kind != shown:
            parts.append(f"\n## {titles[kind]}\n")
            shown = kind
        parts.append(f"\n### `{name}`\n\n```sql\n{sql.strip()};\n```\n")
    return "".join(parts)
