"""``ctx.storage.sql``: an object's own tables.

https://developers.cloudflare.com/durable-objects/api/sql-storage/
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import DurableObjectSqlError, DurableObjectTypeError
from ..store.object_statement import Rows

if TYPE_CHECKING:
    from .object_data import ObjectData

_new = object.__new__


@dataclass(frozen=True, slots=True)
class SqlStep:
    """What `SqlCursor.next` gives: a row, or that there are no more."""

    done: bool
    value: dict[str, Any] | None = None


class SqlCursor(Rows):
    """The rows of a query, each a dict; read from the database as one goes through them."""

    __slots__ = ()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return self

    def __next__(self) -> dict[str, Any]:
        row = self.row()
        return dict(zip(self.names, row, strict=True))

    def next(self) -> SqlStep:
        """One row more."""
        for row in self:
            return SqlStep(False, row)
        return SqlStep(True)

    def to_array(self) -> list[dict[str, Any]]:
        """The rest of the rows."""
        return list(self)

    def one(self) -> dict[str, Any]:
        """The only row. Raises `DurableObjectSqlError` if there are more, or none."""
        rows = [row for _, row in zip(range(2), self, strict=False)]
        if len(rows) == 1:
            return rows[0]
        got = "multiple" if rows else "no"
        raise DurableObjectSqlError(
            f"Expected exactly one result from SQL query, but got {got} results."
        )

    def raw(self) -> SqlRawCursor:
        """The rest of the rows as lists, in which columns of the same name are kept apart."""
        return SqlRawCursor(self)

    @property
    def column_names(self) -> list[str]:
        return list(self.names)

    @property
    def rows_read(self) -> int:
        """Rows read so far, also those that were only looked at once the last one is read."""
        return self.read

    @property
    def rows_written(self) -> int:
        """Rows written, those of indexes included."""
        return self.written


def _counted(written: int) -> SqlCursor:
    """The cursor of a statement without rows (`Kind.plain`)."""
    cursor = _new(SqlCursor)
    cursor.written = written
    return cursor


class SqlRawCursor:
    """Rows as lists."""

    __slots__ = ("_rows",)

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def __iter__(self) -> Iterator[list[Any]]:
        return self

    def __next__(self) -> list[Any]:
        return list(self._rows.row())

    def to_array(self) -> list[list[Any]]:
        return list(self)

    @property
    def column_names(self) -> list[str]:
        return list(self._rows.names)


class SqlStorage:
    """SQL on an object's own database. Every statement runs at once, without awaiting."""

    __slots__ = ("_data",)

    def __init__(self, data: ObjectData) -> None:
        self._data = data

    def exec(self, query: str, *bindings: Any) -> SqlCursor:
        """Run one statement, or several, of which only the last one may take ``bindings``.

        ``bindings`` are None, bool, int, float, str or bytes-like. What is forbidden to D1 is
        forbidden here. Raises `DurableObjectSqlError` with SQLite's message.
        """
        if query.__class__ is not str and not isinstance(query, str):
            raise DurableObjectTypeError(f"a query is a string, not {type(query).__name__}")
        data = self._data
        file = data.file or data.sql()
        if not data.scheduled:
            data.touch()
        kind = file.kinds.get(query)
        if kind is None or not kind.plain or not file.open:
            return SqlCursor(file, query, bindings)
        # The same in fewer steps, for what is done by the thousand. To tell the driver that it is
        # the user's takes a tenth of its time: SQLite has found nothing forbidden in this text.
        try:
            file.execute(query, bindings)
        except Exception as error:
            raise file.failed(error, bindings) from error
        if kind.appends or file.rows_changed() == 1:
            # Such a cursor tells nothing but this one number, so there is one for all of them.
            return kind.one or kind.share(_counted(kind.written(1)))
        return _counted(kind.written(file.rows_changed()))

    @property
    def database_size(self) -> int:
        """Bytes of the object's database."""
        file = self._data.sql()
        return file.size
