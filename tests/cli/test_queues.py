"""``bunflare queues``."""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

import bunflare
from bunflare.cli import cli
from tests.cli.process import run

WRANGLER = """
name = "w"
main = "entry.py"
[[queues.producers]]
binding = "JOBS"
queue = "jobs"
[[queues.consumers]]
queue = "jobs"
max_batch_size = 7
dead_letter_queue = "dead"
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "wrangler.toml").write_text(WRANGLER)
    return tmp_path


def queues(project: Path, *arguments: str, code: int = 0) -> tuple[str, str]:
    """What a command prints, run in this process: most of a process is its start."""
    with contextlib.chdir(project):
        result = CliRunner().invoke(cli, ["queues", *arguments])
    told = result.stderr
    if isinstance(result.exception, bunflare.BunflareError):
        told += f"error: {result.exception}\n"
    elif result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, told
    return result.stdout, told


def test_it_is_a_process(project: Path) -> None:
    run(project, "queues", "message", "send", "jobs", "1")
    assert json.loads(run(project, "queues", "list", "--json")[0])[1]["backlog"] == 1
    assert "does not exist" in run(project, "queues", "info", "x", code=1)[1]


def test_what_goes_into_a_pipe_is_plain_and_in_full(project: Path) -> None:
    long = "x" * 200
    queues(project, "message", "send", "jobs", json.dumps(long))
    heads = {
        ("list",): ["queue", "backlog"],
        ("message", "peek", "jobs"): ["id", "timestamp"],
        ("consumer", "list", "jobs"): ["type", "worker"],
        ("info", "jobs"): ["queue:", "jobs"],
    }
    for words, head in heads.items():
        out, _ = queues(project, *words)
        assert out.splitlines()[0].split()[:2] == head
        assert json.loads(queues(project, *words, "--json")[0])
    assert long in queues(project, "message", "peek", "jobs")[0]


def test_messages_are_sent_looked_at_and_purged(project: Path) -> None:
    queues(project, "message", "send", "JOBS", '{"a": [1]}')
    queues(project, "message", "send", "jobs", "plain", "--content-type", "text")
    (project / "file").write_bytes(b"\0\xff")
    sending = ("--path", "file", "--content-type", "bytes", "--delay-secs", "60")
    _, told = queues(project, "message", "send", "jobs", *sending)
    assert told == "Sent to queue jobs; 3 messages wait there.\n"
    found = json.loads(queues(project, "message", "peek", "jobs", "--json")[0])
    assert [(one["body"], one["state"]) for one in found] == [
        ({"a": [1]}, "ready"),
        ("plain", "ready"),
        ([0, 255], "delayed"),
    ]
    assert (
        len(json.loads(queues(project, "message", "peek", "jobs", "--limit", "1", "--json")[0]))
        == 1
    )
    _, told = queues(project, "message", "purge", "jobs", "--force")
    assert told == "Purged queue 'jobs' (3 messages)\n"
    assert json.loads(queues(project, "message", "peek", "jobs", "--json")[0]) == []


def test_what_is_wrong_is_said_in_a_sentence(project: Path) -> None:
    queues(project, "message", "send", "jobs", "1")
    for arguments, said, code in [
        (("message", "send", "jobs", "{"), "error: the body is not json", 1),
        (("message", "send", "jobs"), "give either BODY or --path", 2),
        (("message", "peek", "jobz"), "does not exist. Did you mean 'jobs'?", 1),
        (("message", "send", "jobs", "1", "--delay-secs", "-1"), "is invalid", 1),
        (("message", "requeue", "jobs"), "nothing was sent back", 1),
        (("update", "jobs"), "--delivery-delay-secs", 2),
        (("update", "jobs", "--message-retention-period-secs", "5"), "retention", 1),
        (("create", "jobs"), "exists already", 1),
    ]:
        assert said in queues(project, *arguments, code=code)[1]


def test_queues_are_made_listed_told_about_and_deleted(project: Path) -> None:
    out, _ = queues(project, "create", "mail-out", "--delivery-delay-secs", "30")
    assert 'queue = "mail-out"\nbinding = "MAIL_OUT"' in out
    queues(project, "message", "send", "mail-out", "1")
    queues(project, "update", "mail-out", "--message-retention-period-secs", "3600")
    listed = json.loads(queues(project, "list", "--json")[0])
    assert [(one["queue"], one["backlog"]) for one in listed] == [
        ("dead", 0),
        ("jobs", 0),
        ("mail-out", 1),
    ]
    info = json.loads(queues(project, "info", "mail-out", "--json")[0])
    assert (info["delivery delay (s)"], info["retention (s)"]) == (30, 3600)
    info = json.loads(queues(project, "info", "jobs", "--json")[0])
    assert (info["producers"], info["consumers"]) == (["JOBS"], ["worker"])
    _, told = queues(project, "delete", "mail-out", "--force")
    assert told == "Deleted queue 'mail-out' (1 message)\n"
    assert "mail-out" not in queues(project, "list")[0]


def test_delivery_is_paused_and_resumed(project: Path) -> None:
    queues(project, "message", "send", "jobs", "1")
    queues(project, "pause-delivery", "jobs")
    assert json.loads(queues(project, "info", "jobs", "--json")[0])["delivery"] == "paused"
    queues(project, "resume-delivery", "jobs")
    assert json.loads(queues(project, "info", "jobs", "--json")[0])["delivery"] == "active"


def test_consumers_are_those_of_the_file_and_of_who_pulls(project: Path) -> None:
    options = ("--message-retries", "5", "--visibility-timeout-secs", "60")
    queues(project, "consumer", "http", "add", "jobs", *options, "--dead-letter-queue", "dead")
    worker, pulled = json.loads(queues(project, "consumer", "list", "jobs", "--json")[0])
    assert (worker["type"], worker["worker"], worker["batch size"]) == ("worker", "w", 7)
    assert (pulled["type"], pulled["retries"]) == ("http_pull", 5)
    queues(project, "consumer", "http", "remove", "jobs")
    assert len(json.loads(queues(project, "consumer", "list", "jobs", "--json")[0])) == 1


def test_dead_letters_are_sent_back(project: Path) -> None:
    async def die() -> None:
        async with bunflare.open(project / ".bunflare") as state:
            queue = state.queue("jobs")
            await queue.configure(max_retries=0, dead_letter_queue="dead")
            await queue.send_batch([1, 2, 3])
            await queue.ack(retries=[one.lease_id for one in await queue.pull()])

    asyncio.run(die())
    dead = json.loads(queues(project, "message", "peek", "dead", "--json")[0])
    assert [one["origin"] for one in dead] == ["jobs"] * 3
    first = dead[0]["id"]
    _, told = queues(project, "message", "requeue", "dead", "--id", first)
    assert told == "Sent 1 message to queue jobs.\n"
    _, told = queues(project, "message", "requeue", "dead", "--to", "other")
    assert told == "Sent 2 messages to queue other.\n"
    assert len(json.loads(queues(project, "message", "peek", "other", "--json")[0])) == 2


def test_a_consumer_is_added_to_the_file_or_to_nothing(project: Path) -> None:
    path = project / "wrangler.toml"
    before = path.read_text()
    for words in (("consumer", "add"), ("consumer", "worker", "add")):
        added = (*words, "dead", "w", "--batch-size", "3")
        out, told = queues(project, *added, code=1)
        assert "NOTHING WAS CHANGED" in told
        assert str(path) in told
        assert "--update-config" in told
        assert out == '[[queues.consumers]]\nqueue = "dead"\nmax_batch_size = 3\n'
        entry = {"consumers": [{"queue": "dead", "max_batch_size": 3}]}
        out, told = queues(project, *added, "--json", code=1)
        assert json.loads(out) == {"changed": False, "config": str(path), "queues": entry}
        assert "NOTHING WAS CHANGED" in told
        assert path.read_text() == before
        assert json.loads(queues(project, "consumer", "list", "dead", "--json")[0]) == []
        out, told = queues(project, *added, "--update-config", "--json")
        assert json.loads(out) == {"changed": True, "config": str(path), "queues": entry}
        assert "NOTHING" not in told
        (found,) = json.loads(queues(project, "consumer", "list", "dead", "--json")[0])
        assert found["batch size"] == 3
        path.write_text(before)


def test_to_forget_how_a_queue_is_pulled_says_whether_it_was_known(project: Path) -> None:
    queues(project, "consumer", "http", "add", "jobs")
    for changed in (True, False):
        out, _ = queues(project, "consumer", "http", "remove", "jobs", "--json")
        assert json.loads(out)["changed"] is changed


def test_a_new_name_that_is_nearly_another_is_mentioned(project: Path) -> None:
    _, told = queues(project, "message", "send", "jobz", "1")
    assert told.startswith("'jobz' is a new queue. Did you mean 'jobs'?\nSent to queue jobz;")
    _, told = queues(project, "message", "send", "jobz", "1")
    assert told.startswith("Sent to queue jobz;")
