"""Command lines that people have in their fingers and scripts, as wrangler 4 documents them."""

from __future__ import annotations

import shlex
from pathlib import Path

import click
import pytest

from bunflare.cli import cli
from tests.cli.forks import forks

UNDERSTOOD = """
kv namespace create MY --preview --binding MY --update-config --use-remote
kv namespace delete --binding MY --preview --skip-confirmation
kv namespace delete --namespace-id 1 -y
kv namespace rename old --new-name new
kv key put k v --binding MY --ttl 60 --metadata '{}' --local --persist-to state
kv key put k --path file --namespace-id 1 --expiration 9000000000 --preview false
kv key get k --binding MY --text --env staging -c wrangler.toml
kv key list --binding MY --prefix p
kv bulk put file --binding MY --ttl 60
kv bulk get file --namespace-id 1
kv bulk delete file --binding MY --force
r2 bucket create b --location weur --storage-class Standard --jurisdiction eu --binding B
r2 bucket info b --json -J eu
r2 bucket delete b
r2 object put b/k --file file --ct text/plain --cd inline --ce gzip --cl en --cc no-store
r2 object put b/k --pipe --content-type text/plain --expires 2030-01-01T00:00:00Z -s Standard -y
r2 object get b/k --file file --local --jurisdiction eu
r2 object delete b/k -y --local
r2 bulk put b --filename file --concurrency 20 --content-type text/plain -s InfrequentAccess
d1 create db --location weur --jurisdiction eu --update-config --binding DB --use-remote
d1 execute db --command 'SELECT 1' --local --json --yes --preview
d1 execute db --file file --persist-to state -y
d1 export db --local --output out.sql --table a --table b --no-data -y
d1 migrations create db message
d1 migrations apply db --local --preview
d1 migrations list db --local --persist-to state
d1 time-travel info db --timestamp 2026-01-01T00:00:00Z --json
d1 time-travel restore db --bookmark x
d1 delete db -y
queues list --page 2
queues create q --delivery-delay-secs 1 --message-retention-period-secs 60
queues consumer add q w --batch-size 1 --batch-timeout 1 --message-retries 1 --max-concurrency 1
queues consumer worker add q w --dead-letter-queue d --retry-delay-secs 1
queues consumer worker remove q w
queues consumer http add q --batch-size 1 --message-retries 1 --visibility-timeout-secs 1
queues consumer http list q --json
queues pause-delivery q
queues purge q --force
workflows list --local --port 8787 --page 1 --per-page 5
workflows trigger w '{}' --id i --local
workflows instances list w --status complete --reverse
workflows instances describe w latest --step-output false --truncate-output-limit 10
workflows instances restart w i --from-step-name s --from-step-count 1 --from-step-type do
workflows instances send-event w i --type t --payload '{}'
workflows instances terminate w i --rollback
workflows instances terminate-all w --status paused
workflows delete w --port 8787
"""

# They are rules of Cloudflare's servers, or services there.
MEANINGLESS = """
r2 bucket catalog compaction enable b default --target-size 128
r2 bucket cors set b --file cors.json
r2 bucket dev-url enable b -y
r2 bucket domain add b --domain example.com --zone-id z
r2 bucket lifecycle add b name prefix --expire-days 1
r2 bucket local-uploads enable b
r2 bucket lock list b
r2 bucket notification create b --event-type object-create --queue q
r2 bucket sippy disable b
r2 bucket update storage-class b -s Standard
r2 sql query w 'SELECT 1'
d1 insights db --timePeriod 1d --json
queues subscription create q --source kv --events x
"""


def parsed(line: str) -> dict[str, object]:
    """What a command would be called with."""
    command: click.Command = cli
    context = click.Context(cli)
    words = shlex.split(line)
    while isinstance(command, click.Group):
        name, found, words = command.resolve_command(context, words)
        assert found is not None
        command, context = found, click.Context(found, context, info_name=name)
    return command.make_context(command.name, words).params


@pytest.mark.parametrize("line", UNDERSTOOD.strip().splitlines())
def test_it_is_understood(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("file", "wrangler.toml"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    parsed(line)


@pytest.mark.parametrize(
    ("words", "preview", "value"),
    [
        ("--preview false v", False, "v"),
        ("--preview=false v", False, "v"),
        ("--preview true v", True, "v"),
        ("v --no-preview", False, "v"),
        ("false --preview", True, "false"),
        ("--preview -- false", True, "false"),
        ("false", None, "false"),
    ],
)
def test_booleans_are_said_as_there(words: str, preview: bool | None, value: str) -> None:
    found = parsed(f"kv key put k --binding B {words}")
    assert (found["preview"], found["value"]) == (preview, value)


def test_what_means_nothing_here_says_why(tmp_path: Path) -> None:
    with forks() as run:
        for line in MEANINGLESS.strip().splitlines():
            outcome = run(tmp_path, *shlex.split(line))
            assert outcome.code == 1, line
            assert "means nothing here: " in outcome.told
            assert outcome.told.startswith("error: ")
    assert not list(tmp_path.iterdir())
