"""Every error of bunflare, once.

Each system has one class; where the platform answers with a JavaScript ``TypeError`` or
``RangeError``, or where an argument has a wrong type or value, the raised class also is Python's
``TypeError`` or ``ValueError``, so that both ``except KVError`` and ``except TypeError`` work.
Bindings raise these; entrances (HTTP, CLI) translate them.
"""

from typing import Any, Self


class JsError(Exception):
    """An error as Workers catch it: what ``pyodide.ffi`` calls ``JsException``.

    Made by hand as ``JsError(name, message)``. What bindings raise is one too, so that a Worker's
    ``except JsException`` finds it.
    """

    #: JavaScript's name of its kind.
    name: str
    message: str
    stack: str

    def __init__(self, *args: object) -> None:
        super().__init__(*args)
        if type(self) is JsError:
            given = [str(one) for one in args] or ["Error"]
            self.name, self.message, self.stack = (*given, "", "")[:3]

    def __getattr__(self, attribute: str) -> Any:
        if attribute == "name":
            if isinstance(self, TypeError):
                return "TypeError"
            return "RangeError" if isinstance(self, ValueError) else "Error"
        if attribute == "message":
            return str(self)
        if attribute == "stack":
            return ""
        raise AttributeError(attribute)

    @property
    def js_error(self) -> Self:
        return self

    def __str__(self) -> str:
        if type(self) is not JsError:
            return super().__str__()
        return f"{self.name}: {self.message}" if self.message else self.name


class BunflareError(JsError):
    """Base of every error that bunflare raises."""


class StateError(BunflareError):
    """The state cannot be used as asked (closed, used after a fork, used in a wrong place)."""


class DirectoryError(BunflareError):
    """The data directory cannot be used: not a directory, not writable, not ours."""


class FutureFormatError(DirectoryError):
    """The data directory was written by a newer bunflare; it was left untouched."""


class BackupError(BunflareError):
    """A backup or a snapshot cannot be made, is none, or is damaged."""


class DatabaseError(BunflareError):
    """The database refused an operation."""


class DatabaseBusy(DatabaseError):
    """Another process held the write lock for longer than the time a writer may wait."""


class DatabaseCorrupt(DatabaseError):
    """A database file is damaged or is not a SQLite database."""


class DatabaseFull(DatabaseError):
    """The disk (or its quota) is full; the write was undone as a whole."""


class DatabaseReadOnly(DatabaseError):
    """The data directory cannot be written to; reads still work."""


class ValuesError(BunflareError):
    """A value cannot be stored, or a stored value cannot be read."""


class ValueNotSerializable(ValuesError, TypeError):
    """The value has a type that the platform's structured clone would refuse too."""


class ValueCorrupt(ValuesError, ValueError):
    """A stored text is not what the codec writes nor plain JSON."""


class StoredError(BunflareError):
    """An exception that was stored, of a class that is not one of Python's own."""

    def __init__(self, name: str, message: str = "") -> None:
        super().__init__(f"{name}: {message}" if message else name)
        #: The name of its class, and what it said.
        self.name = name
        self.message = message


class ConfigError(BunflareError):
    """A wrangler file is wrong. The message starts with ``file:line:`` where it is known."""


class ImportRefused(BunflareError):
    """A state cannot be imported: it is none, or something of the same name is there already."""


class FetchError(BunflareError):
    """A Request, Response, Headers or body was built or used wrongly."""


class FetchTypeError(FetchError, TypeError):
    """The Fetch standard throws a ``TypeError`` here."""


class FetchRangeError(FetchError, ValueError):
    """The Fetch standard throws a ``RangeError`` here."""


class FetchSyntaxError(FetchError, ValueError):
    """The standard throws a ``SyntaxError`` of the DOM here."""


class BodyUsedError(FetchTypeError, OSError):
    """The body of this Request or Response was read already."""


class FetchStatusError(FetchError, OSError):
    """``raise_for_status`` of a response whose status tells of an error."""

    def __init__(self, status: int, status_text: str, url: str) -> None:
        kind = "Client" if status < 500 else "Server"
        super().__init__(f"{status} {kind} Error: {status_text} for url: {url}")
        self.status = status
        self.status_text = status_text
        self.url = url


class KVError(BunflareError):
    """Workers KV refused an operation. ``status`` is the platform's HTTP status, if it has one."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class KVTypeError(KVError, TypeError):
    """An argument of a Workers KV operation has a wrong type."""


class KVValueError(KVError, ValueError):
    """An argument of a Workers KV operation is outside the platform's limits."""


class D1Error(BunflareError):
    """D1 refused a statement. The message is the platform's: ``D1_ERROR: …``."""


class D1TypeError(D1Error, TypeError):
    """A parameter of a D1 statement, or an argument, has a type that D1 does not take."""


class D1ValueError(D1Error, ValueError):
    """An argument of a D1 operation has a value that D1 does not take."""


class CacheError(BunflareError):
    """The Cache API refused an operation."""


class CacheTypeError(CacheError, TypeError):
    """The Cache API throws a ``TypeError`` here."""


class CacheValueError(CacheError, ValueError):
    """An argument of a Cache API operation is outside the platform's limits."""


class R2Error(BunflareError):
    """R2 refused an operation.

    ``code`` is the platform's number of the error (None where its runtime itself refuses), and
    ``action`` the method that was called.
    """

    def __init__(self, message: str, code: int | None = None, action: str | None = None) -> None:
        super().__init__(message if code is None else f"{action}: {message} ({code})")
        self.code = code
        self.action = action


class R2TypeError(R2Error, TypeError):
    """An argument of an R2 operation has a wrong type."""


class R2ValueError(R2Error, ValueError):
    """An argument of an R2 operation is outside the platform's limits, or does not fit."""


class QueueError(BunflareError):
    """Queues refused an operation. ``status`` is the platform's HTTP status, if it has one."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class QueueTypeError(QueueError, TypeError):
    """Queues throw a ``TypeError`` here."""


class QueueValueError(QueueError, ValueError):
    """An argument of a queue's operation is outside the platform's limits."""


class WorkerError(BunflareError):
    """A Worker cannot be loaded or answered something that is not a response."""


class DurableObjectError(BunflareError):
    """A Durable Object, or a call of one, failed."""


class DurableObjectTypeError(DurableObjectError, TypeError):
    """The platform throws a ``TypeError`` here."""


class DurableObjectValueError(DurableObjectError, ValueError):
    """An argument is outside the platform's limits."""


class DurableObjectSqlError(DurableObjectError):
    """SQLite refused a statement of ``storage.sql``."""


class DurableObjectReset(DurableObjectError):
    """The object that was called was reset while the call was under way.

    ``retryable`` says that a further call meets a new instance.
    """

    retryable = True
    #: False if an alarm whose handler it has ended is not to be tried again.
    retry_alarm = True


class DurableObjectAbort(BaseException):
    """Ends the code of an object that has called ``ctx.abort()``; no ``except Exception`` stops
    it."""


class WorkflowError(BunflareError):
    """Workflows refused an operation.

    ``code`` is the platform's name of the error, if it has one.
    """

    def __init__(self, message: str, code: str | None = None) -> None:
        super().__init__(message if code is None else f"({code}) {message}")
        self.code = code


class WorkflowTypeError(WorkflowError, TypeError):
    """An argument of a Workflows operation has a wrong type."""


class WorkflowValueError(WorkflowError, ValueError):
    """An argument of a Workflows operation is outside the platform's limits."""


class WorkflowTimeoutError(WorkflowError, TimeoutError):
    """A step, or the waiting for an event, has taken too long."""


class WorkflowFatalError(WorkflowError):
    """A step is wrong in a way that no retry changes."""


class WorkflowChangedError(WorkflowError):
    """The code of a workflow does not ask for the steps that its instance has behind it."""


class NonRetryableError(WorkflowError):
    """Raised by a step: it has failed for good, whatever retries it was given."""
