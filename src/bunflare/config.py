"""The configuration of a Worker: wrangler.toml, wrangler.json or wrangler.jsonc.

https://developers.cloudflare.com/workers/wrangler/configuration/
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from .config_check import Report, check, warn_unknown
from .config_rules import ExportConfig, check_exports, glob_within
from .config_source import KeyPath, Source, find_config
from .errors import ConfigError

__all__ = ["Config", "find_config", "load_config"]


@dataclass(frozen=True, slots=True)
class KVNamespaceConfig:
    binding: str
    id: str | None = None
    preview_id: str | None = None
    remote: bool = False

    @property
    def namespace(self) -> str:
        """The name under which the state has it."""
        return self.preview_id or self.id or self.binding


@dataclass(frozen=True, slots=True)
class R2BucketConfig:
    binding: str
    bucket_name: str | None = None
    preview_bucket_name: str | None = None
    jurisdiction: str | None = None
    remote: bool = False

    @property
    def bucket(self) -> str:
        """The name under which the state has it."""
        return self.preview_bucket_name or self.bucket_name or self.binding


@dataclass(frozen=True, slots=True)
class D1DatabaseConfig:
    binding: str
    database_name: str | None = None
    database_id: str | None = None
    preview_database_id: str | None = None
    migrations_dir: str = "migrations"
    migrations_table: str = "d1_migrations"
    migrations_pattern: str | None = None
    database_internal_env: str | None = None
    remote: bool = False

    @property
    def migrations_glob(self) -> str:
        """Which files within ``migrations_dir`` are migrations."""
        return glob_within(self.migrations_dir, self.migrations_pattern)


@dataclass(frozen=True, slots=True)
class DurableObjectConfig:
    #: The name of the binding, which other tables call ``binding``.
    name: str
    class_name: str
    script_name: str | None = None
    environment: str | None = None


@dataclass(frozen=True, slots=True)
class DurableObjectsConfig:
    bindings: tuple[DurableObjectConfig, ...] = ()


@dataclass(frozen=True, slots=True)
class RenamedClass:
    # ``from`` is a keyword of Python; see `_rename_from`.
    from_: str
    to: str


@dataclass(frozen=True, slots=True)
class TransferredClass:
    from_: str
    from_script: str
    to: str


@dataclass(frozen=True, slots=True)
class MigrationConfig:
    tag: str
    new_classes: tuple[str, ...] = ()
    new_sqlite_classes: tuple[str, ...] = ()
    renamed_classes: tuple[RenamedClass, ...] = ()
    deleted_classes: tuple[str, ...] = ()
    transferred_classes: tuple[TransferredClass, ...] = ()


@dataclass(frozen=True, slots=True)
class QueueProducerConfig:
    binding: str
    queue: str
    #: Seconds.
    delivery_delay: float = 0
    remote: bool = False


@dataclass(frozen=True, slots=True)
class QueueConsumerConfig:
    queue: str
    type: Literal["worker", "http_pull"] = "worker"
    max_batch_size: int = 10
    #: Seconds.
    max_batch_timeout: float = 5
    max_retries: int = 3
    dead_letter_queue: str | None = None
    #: None: as many as the backlog asks for.
    max_concurrency: int | None = None
    visibility_timeout_ms: int = 30_000
    #: Seconds.
    retry_delay: float = 0


@dataclass(frozen=True, slots=True)
class QueuesConfig:
    producers: tuple[QueueProducerConfig, ...] = ()
    consumers: tuple[QueueConsumerConfig, ...] = ()


@dataclass(frozen=True, slots=True)
class WorkflowConfig:
    binding: str
    name: str
    class_name: str
    script_name: str | None = None
    limits: dict[str, Any] = field(default_factory=dict)
    schedules: Any = None
    remote: bool = False


@dataclass(frozen=True, slots=True)
class ServiceConfig:
    binding: str
    service: str
    entrypoint: str | None = None
    environment: str | None = None
    props: dict[str, Any] = field(default_factory=dict)
    remote: bool = False


@dataclass(frozen=True, slots=True)
class SimpleLimit:
    limit: int
    #: Seconds.
    period: int


@dataclass(frozen=True, slots=True)
class RateLimitConfig:
    #: The name of the binding, which other tables call ``binding``.
    name: str
    namespace_id: str
    simple: SimpleLimit


@dataclass(frozen=True, slots=True)
class HyperdriveConfig:
    binding: str
    id: str | None = None
    #: The database that it stands for here.
    localConnectionString: str | None = None


@dataclass(frozen=True, slots=True)
class VersionMetadataConfig:
    binding: str


@dataclass(frozen=True, slots=True)
class AssetsConfig:
    directory: str | None = None
    binding: str | None = None
    html_handling: Literal[
        "auto-trailing-slash", "force-trailing-slash", "drop-trailing-slash", "none"
    ] = "auto-trailing-slash"
    not_found_handling: Literal["single-page-application", "404-page", "none"] = "none"
    run_worker_first: bool | tuple[str, ...] = False


@dataclass(frozen=True, slots=True)
class TriggersConfig:
    crons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DevConfig:
    ip: str | None = None
    port: int | None = None
    host: str | None = None
    inspector_port: Any = None
    inspector_ip: Any = None
    local_protocol: Literal["http", "https"] = "http"
    upstream_protocol: Any = None
    enable_containers: Any = None
    container_engine: Any = None
    generate_types: Any = None


@dataclass(frozen=True, slots=True)
class Config:
    """A Worker's settings in one environment."""

    #: The wrangler file, and the directory it lies in, from which its paths count.
    path: Path
    root: Path
    environment: str | None
    name: str | None = None
    #: The Worker's main module.
    main: Path | None = None
    compatibility_date: str | None = None
    compatibility_flags: tuple[str, ...] = ()
    #: Variables, with the secrets of ``.dev.vars`` over them.
    vars: dict[str, Any] = field(default_factory=dict)
    kv_namespaces: tuple[KVNamespaceConfig, ...] = ()
    r2_buckets: tuple[R2BucketConfig, ...] = ()
    d1_databases: tuple[D1DatabaseConfig, ...] = ()
    durable_objects: DurableObjectsConfig = DurableObjectsConfig()
    migrations: tuple[MigrationConfig, ...] = ()
    #: By the names of classes.
    exports: dict[str, ExportConfig] = field(default_factory=dict)
    queues: QueuesConfig = QueuesConfig()
    workflows: tuple[WorkflowConfig, ...] = ()
    services: tuple[ServiceConfig, ...] = ()
    ratelimits: tuple[RateLimitConfig, ...] = ()
    hyperdrive: tuple[HyperdriveConfig, ...] = ()
    version_metadata: VersionMetadataConfig | None = None
    assets: AssetsConfig | None = None
    triggers: TriggersConfig = TriggersConfig()
    dev: DevConfig = DevConfig()
    #: Bindings of the platform's other products: their names, with the key that declares them.
    other_bindings: tuple[tuple[str, str], ...] = ()
    #: What is odd but does no harm, each as ``file:line: …``.
    warnings: tuple[str, ...] = ()

    def bindings(self) -> Iterator[tuple[str, str]]:
        """All names in ``env`` that are not variables, each with the key that declares it."""
        yield from ((one.binding, "kv_namespaces") for one in self.kv_namespaces)
        yield from ((one.binding, "r2_buckets") for one in self.r2_buckets)
        yield from ((one.binding, "d1_databases") for one in self.d1_databases)
        yield from (
            (one.name, "durable_objects")
            for one in self.durable_objects.bindings
            if one.script_name in (None, self.name)
        )
        yield from ((one.binding, "workflows") for one in self.workflows)
        yield from self.own_bindings()
        yield from ((one.binding, "queues") for one in self.queues.producers)
        yield from self.other_bindings

    def own_bindings(self) -> Iterator[tuple[str, str]]:
        """The bindings that the runtime itself is."""
        yield from (
            (one.name, "durable_objects")
            for one in self.durable_objects.bindings
            if one.script_name not in (None, self.name)
        )
        yield from ((one.binding, "services") for one in self.services)
        yield from ((one.name, "ratelimits") for one in self.ratelimits)
        yield from ((one.binding, "hyperdrive") for one in self.hyperdrive)
        if self.version_metadata is not None:
            yield self.version_metadata.binding, "version_metadata"
        if self.assets is not None and self.assets.binding is not None:
            yield self.assets.binding, "assets"


# An environment takes these from the top level if it does not have them itself …
_INHERITED: dict[str, Any] = {
    "name": str,
    "main": str,
    "compatibility_date": str,
    "compatibility_flags": tuple[str, ...],
    "migrations": tuple[MigrationConfig, ...],
    "exports": dict[str, ExportConfig],
    "assets": AssetsConfig,
    "triggers": TriggersConfig,
}
# … and not these, which name things that environments must not share by accident.
_OWN: dict[str, Any] = {
    "vars": dict[str, Any],
    "kv_namespaces": tuple[KVNamespaceConfig, ...],
    "r2_buckets": tuple[R2BucketConfig, ...],
    "d1_databases": tuple[D1DatabaseConfig, ...],
    "durable_objects": DurableObjectsConfig,
    "queues": QueuesConfig,
    "workflows": tuple[WorkflowConfig, ...],
    "services": tuple[ServiceConfig, ...],
    "ratelimits": tuple[RateLimitConfig, ...],
    "hyperdrive": tuple[HyperdriveConfig, ...],
    "version_metadata": VersionMetadataConfig,
}
# Bindings of other products, which a Worker may declare and never use.
_OTHER_BINDINGS = frozenset(
    {
        *("agent_memory", "ai", "ai_search", "ai_search_namespaces", "analytics_engine_datasets"),
        "artifacts",
        *("browser", "dispatch_namespaces", "flagship", "images", "media"),
        *("mtls_certificates", "pipelines", "secrets_store_secrets", "send_email"),
        *("stream", "unsafe_hello_world", "vectorize", "vpc_networks"),
        *("vpc_services", "worker_loaders"),
    }
)
# Known to wrangler, and without meaning for a Worker that runs here.
_IGNORED = frozenset(
    {
        *("$schema", "account_id", "alias", "base_dir", "build", "cache", "cloudchamber"),
        *("compliance_region", "connect", "containers", "data_blobs", "define", "env"),
        *("find_additional_modules", "first_party_worker", "jsx_factory", "jsx_fragment"),
        *("keep_names", "keep_vars", "legacy_env", "limits", "logfwdr", "logpush", "minify"),
        *("no_bundle", "observability", "pages_build_output_dir", "placement"),
        *("preserve_file_names", "preview_urls", "previews", "python_modules", "route", "routes"),
        *("rules", "secrets", "send_metrics", "site", "streaming_tail_consumers"),
        *("tail_consumers", "text_blobs", "tsconfig", "unsafe", "upload_source_maps"),
        *("wasm_modules", "workers_dev"),
    }
)
_KNOWN = {*_INHERITED, *_OWN, *_OTHER_BINDINGS, *_IGNORED, "dev"}


def load_config(
    path: Path, environment: str | None = None, *, secrets: Sequence[Path] | None = None
) -> Config:
    """Read a wrangler file, for the top level or for one of its environments.

    ``secrets`` are files to read secrets from, instead of ``.dev.vars`` and its like.

    Raises `ConfigError`, which says everything that is wrong with file, line and key.
    """
    source = Source(path.absolute())
    report = Report(source)
    data = _rename_from(source.data)
    warn_unknown(data, _KNOWN, (), report)
    own, prefix = _environment(data, environment, source, report)
    values: dict[str, Any] = {}
    for key, kind in (_INHERITED | _OWN).items():
        if key in own:
            values[key] = check(kind, own[key], (*prefix, key), report)
        elif key in data and (key in _INHERITED or not prefix):
            values[key] = check(kind, data[key], (key,), report)
    if "dev" in data:
        values["dev"] = check(DevConfig, data["dev"], ("dev",), report)
    others = _other_bindings(own if prefix else data, prefix, report)
    if report.errors:
        raise ConfigError("\n".join(report.errors))
    root = source.path.parent
    if environment is not None and "name" not in own and "name" in values:
        values["name"] += f"-{environment}"
    if "main" in values:
        values["main"] = root / values["main"]
    declared = own.get("secrets", data.get("secrets"))
    values["vars"] = {
        **values.get("vars", {}),
        **_secrets(root, environment, declared, secrets),
    }
    config = Config(source.path, root, environment, **values, other_bindings=others)
    _refuse_duplicates(config, source)
    _check_rules(config, source)
    return replace(config, warnings=tuple(report.warnings))


def _environment(
    data: dict[str, Any], environment: str | None, source: Source, report: Report
) -> tuple[dict[str, Any], KeyPath]:
    """The table of the environment and where it stands; the top level for none."""
    if environment is None:
        return data, ()
    environments = data.get("env", {})
    if not isinstance(environments, dict) or not isinstance(environments.get(environment), dict):
        available = ", ".join(environments) if isinstance(environments, dict) else ""
        raise ConfigError(
            f'{source.at(("env",))}: there is no environment "{environment}"; '
            f"available: {available or 'none'}"
        )
    own: dict[str, Any] = environments[environment]
    prefix = ("env", environment)
    warn_unknown(own, _KNOWN, prefix, report)
    for key in (_OWN.keys() | _OTHER_BINDINGS) & data.keys() - own.keys():
        report.warn(
            (key,),
            f'exists at the top level, but not in the environment "{environment}", which does '
            f"not inherit it; add it to {'.'.join(prefix)} if it is needed there",
        )
    return own, prefix


def _other_bindings(
    table: dict[str, Any], prefix: KeyPath, report: Report
) -> tuple[tuple[str, str], ...]:
    found: list[tuple[str, str]] = []
    for key in sorted(_OTHER_BINDINGS & table.keys()):
        value = table[key]
        for index, item in enumerate(value if isinstance(value, list) else [value]):
            name = item.get("binding", item.get("name")) if isinstance(item, dict) else None
            if isinstance(name, str):
                found.append((name, key))
            else:
                where = (*prefix, key, index) if isinstance(value, list) else (*prefix, key)
                report.error((*where, "binding"), "is missing")
    return tuple(found)


def _secrets(
    root: Path, environment: str | None, declared: Any, files: Sequence[Path] | None
) -> dict[str, str]:
    """What ``.dev.vars`` says, or else the files named ``.env``.

    ``.dev.vars.<environment>`` takes the place of ``.dev.vars``; of the others each lies over the
    one before. Where the configuration declares ``secrets.required``, there are no others.
    https://developers.cloudflare.com/workers/local-development/environment-variables/
    """
    middle = [] if environment is None else [f".{environment}"]
    found: dict[str, str | None] = {}
    for file in files or ():
        found.update(_read(file, expand=True))
    for name in () if files else (*(f".dev.vars{one}" for one in middle), ".dev.vars"):
        if (root / name).is_file():
            found = _read(root / name, expand=False)
            break
    else:
        if (
            not files
            and os.environ.get("CLOUDFLARE_LOAD_DEV_VARS_FROM_DOT_ENV", "true").lower() != "false"
        ):
            for name in ("", *middle, ".local", *(f"{one}.local" for one in middle)):
                if (root / f".env{name}").is_file():
                    found.update(_read(root / f".env{name}", expand=True))
    required = declared.get("required") if isinstance(declared, dict) else None
    return {
        name: value or ""
        for name, value in found.items()
        if not isinstance(required, list) or name in required
    }


def _read(path: Path, *, expand: bool) -> dict[str, str | None]:
    from dotenv import dotenv_values

    return dotenv_values(path, interpolate=expand)


def _refuse_duplicates(config: Config, source: Source) -> None:
    seen: dict[str, str] = dict.fromkeys(config.vars, "vars")
    for name, kind in config.bindings():
        if name in seen:
            raise ConfigError(
                f'{source.at((kind,))}: the binding "{name}" is declared twice, in '
                f"{seen[name]} and in {kind}"
            )
        seen[name] = kind


def _check_rules(config: Config, source: Source) -> None:
    key = "d1_databases"
    try:
        for one in config.d1_databases:
            one.migrations_glob  # noqa: B018 - says what is wrong
        key = "exports"
        check_exports(config.exports, config.migrations)
    except ConfigError as error:
        raise ConfigError(f"{source.at((key,))}: {error}") from None


def _rename_from(value: Any) -> Any:
    """``from`` in the tables of migrations becomes ``from_``, which Python can spell."""
    if not isinstance(value.get("migrations"), list):
        return value
    migrations = [
        {key: _from(item) for key, item in one.items()} if isinstance(one, dict) else one
        for one in value["migrations"]
    ]
    return {**value, "migrations": migrations}


def _from(tables: Any) -> Any:
    if not isinstance(tables, list):
        return tables
    return [
        {"from_" if key == "from" else key: item for key, item in table.items()}
        if isinstance(table, dict)
        else table
        for table in tables
    ]
