"""Cloudflare's stateful platform for Python: `open` a directory and use what lives in it.

>>> import bunflare
>>> async with bunflare.open() as state:
...     await state.kv("GREETINGS").put("hello", "world")
"""

from .bindings.cache import Cache, CacheStorage
from .bindings.kv import KVKey, KVLimits, KVList, KVNamespace, KVValue
from .clock import Clock, ManualClock, SystemClock
from .errors import (
    BodyUsedError,
    BunflareError,
    CacheError,
    CacheTypeError,
    CacheValueError,
    ConfigError,
    DatabaseBusy,
    DatabaseCorrupt,
    DatabaseError,
    DatabaseFull,
    DatabaseReadOnly,
    DirectoryError,
    FetchError,
    FetchRangeError,
    FetchTypeError,
    FutureFormatError,
    KVError,
    KVTypeError,
    KVValueError,
    StateError,
    StoredError,
    ValueCorrupt,
    ValueNotSerializable,
    ValuesError,
    WorkerError,
)
from .state import State, StateTransaction, open  # noqa: A004
from .store.database import Database, get_database
from .web import Blob, File, FormData, Headers, Request, Response

__version__ = "0.1.0"

__all__ = [
    "Blob",
    "BodyUsedError",
    "BunflareError",
    "Cache",
    "CacheError",
    "CacheStorage",
    "CacheTypeError",
    "CacheValueError",
    "Clock",
    "ConfigError",
    "Database",
    "DatabaseBusy",
    "DatabaseCorrupt",
    "DatabaseError",
    "DatabaseFull",
    "DatabaseReadOnly",
    "DirectoryError",
    "FetchError",
    "FetchRangeError",
    "FetchTypeError",
    "File",
    "FormData",
    "FutureFormatError",
    "Headers",
    "KVError",
    "KVKey",
    "KVLimits",
    "KVList",
    "KVNamespace",
    "KVTypeError",
    "KVValue",
    "KVValueError",
    "ManualClock",
    "Request",
    "Response",
    "State",
    "StateError",
    "StateTransaction",
    "StoredError",
    "SystemClock",
    "ValueCorrupt",
    "ValueNotSerializable",
    "ValuesError",
    "WorkerError",
    "get_database",
    "open",
]
