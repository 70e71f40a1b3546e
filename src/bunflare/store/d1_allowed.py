"""What the platform lets a user's SQL do: functions, pragmas, virtual tables.

Its own list of functions and of what each pragma may be given, as in workerd's `util/sqlite.c++`.
What else our SQLite has would work here, and fail there.
"""

from __future__ import annotations

from collections.abc import Callable

import apsw

# The last are what SQLite alters tables with; no statement can call those.
_NAMES = """
abs changes char coalesce concat concat_ws format glob hex ifnull iif instr last_insert_rowid
length like likelihood likely lower ltrim max_scalar min_scalar nullif octet_length printf quote
random randomblob replace round rtrim sign soundex substr substring total_changes trim typeof
unhex unicode unlikely upper zeroblob
date time datetime julianday unixepoch strftime timediff
current_date current_time current_timestamp
avg count group_concat max min string_agg sum total
row_number rank dense_rank percent_rank cume_dist ntile lag lead first_value last_value
nth_value
acos acosh asin asinh atan atan2 atanh ceil cos cosh degrees exp floor ln log log2 mod pi pow
radians sin sinh sqrt tan tanh trunc
json jsonb json_array jsonb_array json_array_length json_extract jsonb_extract -> ->>
json_insert jsonb_insert json_object jsonb_object json_patch jsonb_patch json_remove
jsonb_remove json_replace jsonb_replace json_set jsonb_set json_type json_valid json_quote
json_group_array jsonb_group_array json_group_object jsonb_group_object json_each json_tree
match highlight bm25 snippet rtreecheck
sqlite_rename_column sqlite_rename_table sqlite_rename_test sqlite_drop_column
sqlite_rename_quotefix
sqlite_add_constraint sqlite_drop_constraint sqlite_find_constraint sqlite_fail
"""
_FUNCTIONS = frozenset(_NAMES.split())
#: What dumps of SQLite's own shell have, in files.
_IN_FILES = frozenset({"unistr"})

_TRUTHS = ("true", "false", "yes", "no", "on", "off", "1", "0")

#: The virtual tables of our SQLite that files may have. The others are tables that are always
#: there, and tell of the file (`dbstat`).
_KEPT = ("fts3", "fts4", "fts4aux", "fts5", "fts5vocab", "geopoly", "rtree", "rtree_i32")
_CREATED = frozenset({"fts5", "fts5vocab", "rtree"})
_INTERNAL = "_cf_"


def ours(name: str | None) -> bool:
    """Whether a table, or what belongs to one, is the platform's own."""
    return name is not None and name.lower().startswith(_INTERNAL)


def _nothing(value: str | None) -> bool:
    return value is None


def _truth(value: str | None) -> bool:
    return value is None or value.strip("'\"").lower().startswith(_TRUTHS)


def _name(value: str | None) -> bool:
    return value is not None and not ours(value)


def _perhaps_name(value: str | None) -> bool:
    return not ours(value)


def _perhaps_mask(value: str | None) -> bool:
    if value is None:
        return True
    try:
        int(value, 0)
    except ValueError:
        return False
    return True


#: What each pragma may be given.
_PRAGMAS: dict[str, Callable[[str | None], bool]] = {
    "data_version": _nothing,
    "page_size": _nothing,
    "case_sensitive_like": _truth,
    "foreign_keys": _truth,
    "defer_foreign_keys": _truth,
    "ignore_check_constraints": _truth,
    "legacy_alter_table": _truth,
    "recursive_triggers": _truth,
    "reverse_unordered_selects": _truth,
    "foreign_key_check": _perhaps_name,
    "foreign_key_list": _name,
    "index_info": _name,
    "index_list": _name,
    "index_xinfo": _name,
    "table_info": _name,
    "table_xinfo": _name,
    "table_list": _perhaps_name,
    "quick_check": _perhaps_name,
    "optimize": _perhaps_mask,
}


def may_run(pragma: str, value: str | None) -> bool:
    """Whether a user may run ``PRAGMA pragma = value``."""
    allowed = _PRAGMAS.get(pragma.lower())
    return allowed is not None and allowed(value)


def may_call(function: str, *, file: bool) -> bool:
    """Whether a user's statement, or one of a ``file``, may call a function."""
    # In a column's default, SQLite names it as the user has written it.
    name = function.lower()
    return name in _FUNCTIONS or (file and name in _IN_FILES)


def may_create(module: str | None) -> bool:
    """Whether there may be a virtual table of a kind."""
    return module is not None and module.lower() in _CREATED


def drop_others(connection: apsw.Connection) -> None:
    """Have a connection know no virtual tables but those that the platform may have."""
    connection.drop_modules(_KEPT)
