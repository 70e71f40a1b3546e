"""The configuration of a Worker: read, inherited, checked."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import bunflare
from bunflare.config import Config, find_config, load_config
from bunflare.config_source import strip_jsonc


def load(directory: Path, text: str, name: str = "wrangler.toml", env: str | None = None) -> Config:
    path = directory / name
    path.write_text(text)
    return load_config(path, env)


FULL_TOML = """
name = "worker"
main = "src/entry.py"
compatibility_date = "2026-11-01"
compatibility_flags = ["python_workers"]
kv_namespaces = [ { binding = "KV", id = "abc", preview_id = "def" }, { binding = "OTHER" } ]

[vars]
TITLE = "hello"
NESTED = { a = [1, 2] }

[[r2_buckets]]
binding = "BUCKET"
bucket_name = "pictures"

[[d1_databases]]
binding = "DB"
database_name = "main"
database_id = "id"

[[durable_objects.bindings]]
name = "COUNTER"
class_name = "Counter"

[[migrations]]
tag = "v1"
new_sqlite_classes = ["Counter"]
renamed_classes = [{ from = "A", to = "B" }]

[[queues.producers]]
binding = "QUEUE"
queue = "jobs"
delivery_delay = 5

[[queues.consumers]]
queue = "jobs"
max_batch_size = 20
max_concurrency = 3

[[workflows]]
binding = "FLOW"
name = "flow"
class_name = "Flow"

[[services]]
binding = "SERVICE"
service = "other"

[assets]
directory = "./public"
binding = "ASSETS"
run_worker_first = ["/api/*"]

[triggers]
crons = ["*/5 * * * *"]

[dev]
port = 8000

[ai]
binding = "AI"

[[send_email]]
name = "MAIL"
"""


def test_every_table_is_read(tmp_path: Path) -> None:
    config = load(tmp_path, FULL_TOML)
    assert config.warnings == ()
    assert config.name == "worker"
    assert config.main == tmp_path / "src/entry.py"
    assert config.root == tmp_path
    assert config.vars == {"TITLE": "hello", "NESTED": {"a": [1, 2]}}
    first, second = config.kv_namespaces
    assert (first.binding, first.id, first.preview_id, second.id) == ("KV", "abc", "def", None)
    assert config.r2_buckets[0].bucket_name == "pictures"
    assert config.d1_databases[0].migrations_table == "d1_migrations"
    assert config.durable_objects.bindings[0].class_name == "Counter"
    assert config.migrations[0].renamed_classes[0].from_ == "A"
    assert config.queues.producers[0].delivery_delay == 5
    consumer = config.queues.consumers[0]
    assert (consumer.max_batch_size, consumer.max_batch_timeout, consumer.max_retries) == (20, 5, 3)
    assert consumer.max_concurrency == 3
    assert config.workflows[0].name == "flow"
    assert config.services[0].service == "other"
    assert config.assets is not None
    assert config.assets.run_worker_first == ("/api/*",)
    assert config.triggers.crons == ("*/5 * * * *",)
    assert config.dev.port == 8000
    assert config.other_bindings == (("AI", "ai"), ("MAIL", "send_email"))
    assert [name for name, _ in config.bindings()] == [
        *("KV", "OTHER", "BUCKET", "DB", "COUNTER", "FLOW", "SERVICE", "ASSETS", "QUEUE"),
        *("AI", "MAIL"),
    ]


def test_jsonc_has_comments_and_trailing_commas(tmp_path: Path) -> None:
    text = """
    // a comment
    {
      "name": "w", /* another */
      "vars": { "URL": "https://a/*b*/ // c", },
      "kv_namespaces": [ { "binding": "KV", }, ],
    }
    """
    config = load(tmp_path, text, "wrangler.jsonc")
    assert config.vars == {"URL": "https://a/*b*/ // c"}
    assert config.kv_namespaces[0].binding == "KV"
    assert load(tmp_path, text, "wrangler.json").name == "w"


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(alphabet='a"\\/*,]}\n ', max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(alphabet='k"/*,', max_size=4), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(JSON_VALUES, st.data())
def test_comments_and_trailing_commas_change_nothing(value: Any, data: st.DataObject) -> None:
    text = json.dumps(value, indent=1)
    noise = st.sampled_from(["", " // it's, a ] comment }\n", '/* a \n, " comment */'])
    out, in_string, escaped = "", False, False
    for character in text:
        if not in_string and character in "]}" and out.rstrip()[-1:] not in "[{,:":
            out += data.draw(st.sampled_from(["", ","])) + data.draw(noise)
        out += character
        if in_string:
            in_string = escaped or character != '"'
            escaped = character == "\\" and not escaped
        elif character == '"':
            in_string = True
        elif character in "[{,:":
            out += data.draw(noise)
    stripped = strip_jsonc(out)
    assert json.loads(stripped) == value
    assert len(stripped) == len(out)
    assert stripped.count("\n") == out.count("\n")


# -- environments ------------------------------------------------------------------------------

ENVIRONMENTS = """
name = "worker"
main = "a.py"
compatibility_date = "2026-01-01"

[vars]
A = "top"

[[kv_namespaces]]
binding = "KV"
id = "top"

[triggers]
crons = ["0 0 * * *"]

[env.staging]
main = "b.py"

[env.staging.vars]
B = "staging"

[env.production]
name = "renamed"

[env.empty]
"""


def test_an_environment_inherits_what_may_be_shared(tmp_path: Path) -> None:
    config = load(tmp_path, ENVIRONMENTS, env="staging")
    assert (config.name, config.main) == ("worker-staging", tmp_path / "b.py")
    assert config.compatibility_date == "2026-01-01"
    assert config.triggers.crons == ("0 0 * * *",)
    assert (config.vars, config.kv_namespaces) == ({"B": "staging"}, ())
    [warning] = config.warnings
    assert warning.startswith(f"{tmp_path}/wrangler.toml:9: ")
    assert '"kv_namespaces"' in warning
    assert 'environment "staging"' in warning
    assert load(tmp_path, ENVIRONMENTS, env="production").name == "renamed"
    assert load(tmp_path, ENVIRONMENTS).vars == {"A": "top"}
    assert len(load(tmp_path, ENVIRONMENTS, env="empty").warnings) == 2


def test_an_unknown_environment_names_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(bunflare.ConfigError, match="available: staging, production, empty"):
        load(tmp_path, ENVIRONMENTS, env="prod")
    with pytest.raises(bunflare.ConfigError, match="available: none"):
        load(tmp_path, 'name = "x"', env="prod")


# -- secrets -----------------------------------------------------------------------------------


def test_secrets_lie_over_variables(tmp_path: Path) -> None:
    (tmp_path / ".dev.vars").write_text(
        "# secrets\nA='quoted $B'\nexport C=plain\nD=\"two\\nlines\"\n"
    )
    config = load(tmp_path, ENVIRONMENTS)
    assert config.vars == {"A": "quoted $B", "C": "plain", "D": "two\nlines"}
    (tmp_path / ".dev.vars.staging").write_text("S=1")
    assert load(tmp_path, ENVIRONMENTS, env="staging").vars == {"B": "staging", "S": "1"}
    assert load(tmp_path, ENVIRONMENTS, env="production").vars["C"] == "plain"


def test_dot_env_files_are_read_where_there_is_no_dev_vars(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text("A=1\nE=${A}2\n")
    (tmp_path / ".env.local").write_text("A=local")
    (tmp_path / ".env.staging").write_text("B=of the environment")
    assert load(tmp_path, ENVIRONMENTS).vars["E"] == "12"
    assert load(tmp_path, ENVIRONMENTS).vars["A"] == "local"
    assert load(tmp_path, ENVIRONMENTS, env="staging").vars["B"] == "of the environment"
    declared = 'secrets.required = ["A"]\n' + ENVIRONMENTS
    assert "E" not in load(tmp_path, declared).vars
    monkeypatch.setenv("CLOUDFLARE_LOAD_DEV_VARS_FROM_DOT_ENV", "false")
    assert "E" not in load(tmp_path, ENVIRONMENTS).vars
    monkeypatch.undo()
    (tmp_path / ".dev.vars").write_text("S=1")
    assert "E" not in load(tmp_path, ENVIRONMENTS).vars


# -- mistakes ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name = 5", 'wrangler.toml:1: "name" must be a string, not 5'),
        ("\n\n[[kv_namespaces]]\nid = 'x'", ':3: "kv_namespaces[0].binding" is missing'),
        (
            "[[kv_namespaces]]\nbinding='A'\n\n[[kv_namespaces]]\nbinding = 5",
            ':5: "kv_namespaces[1].binding" must be a string, not 5',
        ),
        ("kv_namespaces = [\n {binding='A'},\n {}]", ':1: "kv_namespaces[1].binding" is missing'),
        ("kv_namespaces = 'x'", '"kv_namespaces" must be an array, not "x"'),
        ("[vars]\n[assets]\nhtml_handling='x'", ':3: "assets.html_handling" must be one of "auto-'),
        ("assets.run_worker_first = 5", ':1: "assets.run_worker_first" must be true or false'),
        ("compatibility_flags = [1]", '"compatibility_flags[0]" must be a string, not 1'),
        ("[queues]\nconsumers = [{queue='q', max_batch_size='x'}]", "max_batch_size"),
        (
            "[queues]\nconsumers = [{queue='q', max_retries=true}]",
            "must be a whole number, not true",
        ),
        ("[ai]\n", ':1: "ai.binding" is missing'),
        ("vars = 5", '"vars" must be a table, not 5'),
        ("name = \n", "wrangler.toml:1:8: Invalid value"),
        (
            "[vars]\nA = 1\n[[kv_namespaces]]\nbinding = 'A'",
            ':3: the binding "A" is declared twice, in vars and in kv_namespaces',
        ),
        (
            '"""\n',
            "wrangler.toml:1",
        ),
    ],
)
def test_a_mistake_names_file_line_and_key(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(bunflare.ConfigError) as caught:
        load(tmp_path, text)
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"{tmp_path}/wrangler.toml:")


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(bunflare.ConfigError) as caught:
        load(tmp_path, "name = 1\nmain = 2\n[[kv_namespaces]]")
    assert len(str(caught.value).splitlines()) == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{\n "name": 5\n}', 'wrangler.jsonc:2: "name" must be a string'),
        (
            '{\n // c\n "kv_namespaces": [\n  {"binding": "A"},\n  {"binding":\n 5}]}',
            ':5: "kv_namespaces[1].binding" must be a string',
        ),
        (
            '{\n "vars": {},\n "kv_namespaces": [\n  {}]}',
            ':4: "kv_namespaces[0].binding" is missing',
        ),
        ('{\n "a" 5}', "wrangler.jsonc:2:6: Expecting ':' delimiter"),
        ("[]", "wrangler.jsonc:1: the configuration must be an object"),
        ('{\n "env": {"s": {\n "name": 5}}}', ':3: "env.s.name" must be a string'),
    ],
)
def test_a_mistake_in_json_names_file_line_and_key(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(bunflare.ConfigError) as caught:
        load(tmp_path, text, "wrangler.jsonc", env="s" if '"env"' in text else None)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "a = 1\nkv_namespace = []",
            ':2: "kv_namespace" is not a known key; did you mean "kv_namespaces"?',
        ),
        (
            "[[kv_namespaces]]\nbinding='A'\nidd='x'",
            ':3: "kv_namespaces[0].idd" is not a known key',
        ),
        ('x = """\nname = 5\n"""\n[env.s]\ntypo=1\n', '"x" is not a known key'),
        ('"quoted key" = 1', ':1: "quoted key" is not a known key'),
    ],
)
def test_an_unknown_key_is_a_warning(tmp_path: Path, text: str, message: str) -> None:
    warnings = load(tmp_path, text).warnings
    assert any(message in warning for warning in warnings)


def test_a_file_that_cannot_be_read_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(bunflare.ConfigError, match="does not exist"):
        load_config(tmp_path / "wrangler.toml")
    (tmp_path / "wrangler.toml").write_bytes(b"\xff")
    with pytest.raises(bunflare.ConfigError, match="cannot be read"):
        load_config(tmp_path / "wrangler.toml")


def test_the_nearest_file_is_found(tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    (tmp_path / "wrangler.toml").touch()
    assert find_config(inner) == tmp_path / "wrangler.toml"
    (tmp_path / "wrangler.jsonc").touch()
    assert find_config(inner) == tmp_path / "wrangler.jsonc"
    (tmp_path / "a" / "wrangler.toml").touch()
    assert find_config(inner) == tmp_path / "a" / "wrangler.toml"


def test_what_became_of_classes_is_read(tmp_path: Path) -> None:
    text = """
    {
      "name": "w",
      "exports": {
        "Room": { "type": "durable-object", "storage": "sqlite" },
        "Chat": { "type": "durable-object", "state": "renamed", "renamed_to": "Room" },
        "Gone": { "type": "durable-object", "state": "deleted" },
        "Theirs": { "type": "durable-object", "state": "transferred", "transferred_to": "other" },
        "Ours": {
          "type": "durable-object", "state": "expecting-transfer",
          "storage": "legacy-kv", "transfer_from": "other"
        }
      },
      "env": { "test": { "vars": {} } }
    }
    """
    config = load(tmp_path, text, "wrangler.jsonc")
    assert config.warnings == ()
    assert [name for name, one in config.exports.items() if one.live] == ["Room", "Ours"]
    assert config.exports["Chat"].renamed_to == "Room"
    assert load(tmp_path, text, "wrangler.jsonc", env="test").exports == config.exports


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("{ storage = 'sqlite' }", '"exports.A.type" is missing'),
        ("{ type = 'durable-object' }", 'is "created" and needs "storage"'),
        ("{ type = 'durable-object', storage = 'sql' }", 'must be one of "sqlite", "legacy-kv"'),
        ("{ type = 'durable-object', state = 'gone' }", 'must be one of "created", "deleted"'),
        (
            "{ type = 'durable-object', state = 'deleted', storage = 'sqlite' }",
            'is "deleted" and has no "storage"',
        ),
        (
            "{ type = 'durable-object', state = 'renamed', renamed_to = 'B' }",
            'is renamed to "B", which has to be in "exports"',
        ),
        ("5", "must be a table"),
    ],
)
def test_a_mistake_about_classes_is_said(tmp_path: Path, entry: str, message: str) -> None:
    with pytest.raises(bunflare.ConfigError, match=re.escape(message)):
        load(tmp_path, f"name = 'w'\nexports.A = {entry}")


def test_exports_and_migrations_exclude_each_other(tmp_path: Path) -> None:
    text = (
        "name = 'w'\nmigrations = [{ tag = 'v1', new_sqlite_classes = ['A'] }]\n"
        "exports.A = { type = 'durable-object', storage = 'sqlite' }"
    )
    with pytest.raises(
        bunflare.ConfigError, match='"exports" and "migrations" cannot both be there'
    ):
        load(tmp_path, text)


def test_the_newest_keys_are_known(tmp_path: Path) -> None:
    text = (
        "name = 'w'\ncache.enabled = true\nconnect = {}\n"
        "agent_memory = [{ binding = 'MEMORY', namespace = 'a' }]\n"
    )
    config = load(tmp_path, text)
    assert config.warnings == ()
    assert config.other_bindings == (("MEMORY", "agent_memory"),)
