"""``env``: a Worker's bindings, made from its configuration on a state."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from ..config import Config
from ..errors import WorkerError
from ..state import State
from .facade import D1, KV, R2, BindingFacade
from .js_values import from_entries, to_js
from .queues import QUEUE, QueueFacade


class Env:
    """Bindings, variables and secrets as attributes; ``env["NAME"]`` works as well."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.__dict__.update(values)

    def add(self, name: str, value: Any) -> None:
        """One binding more."""
        self.__dict__[name] = value

    def become(self, other: Env) -> None:
        """Have what another one has, and nothing else."""
        self.__dict__.clear()
        self.__dict__.update(other.__dict__)

    def __getitem__(self, name: str) -> Any:
        return self.__dict__[name]

    def __contains__(self, name: str) -> bool:
        return name in self.__dict__

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"env has no {name!r}; the configuration declares {sorted(self.__dict__)}"
        )

    @contextmanager
    def patched(self, changes: dict[str, Any]) -> Iterator[None]:
        """Have other values for a while: ``workers.patch_env``."""
        before = dict(self.__dict__)
        self.__dict__.update(changes)
        try:
            yield
        finally:
            self.__dict__.clear()
            self.__dict__.update(before)

    def __repr__(self) -> str:
        return f"<env {' '.join(sorted(self.__dict__))}>"


class UnavailableBinding:
    """A binding that is declared but that bunflare cannot offer: it fails when it is used."""

    def __init__(self, name: str, kind: str, remedy: str | None = None) -> None:
        self.__dict__["_message"] = f'the binding "{name}" ({kind}) ' + (
            remedy
            or "is not available in bunflare; guard the code that uses it, or give env a stand-in "
            "in your tests"
        )

    def _refuse(self) -> NoReturn:
        raise WorkerError(self.__dict__["_message"])

    def __getattr__(self, name: str) -> NoReturn:
        self._refuse()

    def __call__(self, *args: object, **kwargs: object) -> NoReturn:
        self._refuse()


def make_env(config: Config, state: State) -> Env:
    """The env that the configuration of a Worker declares."""
    values: dict[str, Any] = to_js(config.vars, dict_converter=from_entries)
    for namespace in config.kv_namespaces:
        values[namespace.binding] = BindingFacade(state.kv(namespace.namespace), KV)
    for bucket in config.r2_buckets:
        values[bucket.binding] = BindingFacade(state.r2(bucket.bucket), R2)
    for database in config.d1_databases:
        name = database.database_name or database.database_id or database.binding
        values[database.binding] = BindingFacade(state.d1(name), D1)
    for producer in config.queues.producers:
        queue = state.queue(producer.queue, producer.delivery_delay)
        values[producer.binding] = QueueFacade(queue, QUEUE)
    for name, kind in config.other_bindings:
        values[name] = UnavailableBinding(name, kind)
    return Env(values)
