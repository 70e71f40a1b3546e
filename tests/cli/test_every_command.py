"""Every command there is, as a process, beside a server that runs on the same state."""

from __future__ import annotations

import asyncio
import json
import shlex
from pathlib import Path

from click import Context

import bunflare
from tests.cli.forks import Forks, forks
from tests.cli.process import run
from tests.cli.tree import COMMANDS, Words, takes
from tests.runtime.test_dev import dev, project

WRANGLER = """
name = "shop"
main = "src/entry.py"
compatibility_date = "2026-08-01"
[[kv_namespaces]]
binding = "KV"
[[r2_buckets]]
binding = "FILES"
bucket_name = "files"
[[d1_databases]]
binding = "DB"
database_name = "db"
[[durable_objects.bindings]]
name = "COUNTER"
class_name = "Counter"
[[migrations]]
tag = "v1"
new_sqlite_classes = ["Counter"]
[[queues.producers]]
binding = "JOBS"
queue = "jobs"
[[queues.consumers]]
queue = "mail"
[[workflows]]
name = "order"
binding = "ORDER"
class_name = "Order"
"""

WORKER = """
from workers import DurableObject, Response, WorkerEntrypoint, WorkflowEntrypoint
from js import caches

class Counter(DurableObject):
    async def fill(self):
        await self.ctx.storage.put("count", 1)
        self.ctx.storage.sql.exec("CREATE TABLE t (a); INSERT INTO t VALUES (7)")
        await self.ctx.storage.setAlarm(9_000_000_000_000)

    async def alarm(self):
        await self.env.KV.put("rang", "yes")

class Order(WorkflowEntrypoint):
    async def run(self, event, step):
        await step.wait_for_event("approval", "approve", timeout="1 hour")

class Default(WorkerEntrypoint):
    async def fetch(self, request):
        await self.env.COUNTER.getByName("one").fill()
        for path in ("a", "b"):
            kept = Response(path, headers={"cache-control": "max-age=3600"})
            await caches.default.put(f"https://example.com/{path}", kept)
        return Response("filled")

    async def queue(self, batch):
        pass
"""

# What is run, in this order with --json, and what it says; `!` is one that ends with 1.
BESIDE = """
state watch --off
kv key put greeting hello --binding KV       # greeting: 5 bytes
kv key get greeting --binding KV             # hello
kv key list --binding KV                     # greeting
kv bulk put keys.json --binding KV           # 2 keys were put
kv bulk get names.json --binding KV          # "1"
kv bulk delete names.json --binding KV -f    # 2 keys were deleted
kv key delete greeting --binding KV
kv namespace create OTHER                    # OTHER
kv namespace list                            # OTHER
kv namespace rename OTHER --new-name ANOTHER # ANOTHER
kv namespace delete ANOTHER -y               # was deleted
r2 bucket create pictures                    # "bucket_name": "pictures"
r2 object put files/a/quote.txt -f quote.txt # 13 bytes
r2 object head FILES/a/quote.txt             # "size": 13
r2 object get files/a/quote.txt -f out.txt   # "file": "out.txt"
r2 object copy files/a/quote.txt pictures/b  # pictures/b
r2 object list files --prefix a/             # a/quote.txt
r2 object sync site r2:files/site            # index.html
r2 bulk put files site --prefix bulk/        # 1 file was put
r2 bulk get files out --prefix bulk/         # 1 object was written
r2 object delete pictures/b
r2 bucket list                               # pictures
r2 bucket info FILES                         # "object_count": 3
r2 bucket verify files --digests             # "problems": []
r2 check files                               # "problems": []
r2 bucket repair files                       # "objects": 3
r2 repair files                              # "objects": 3
r2 bucket adopt files                        # []
r2 adopt files                               # []
r2 bucket delete pictures -y                 # was deleted
d1 migrations create DB 'make items'         # 0001_make_items.sql
d1 migrations list DB                        # 0001_make_items.sql
d1 migrations apply DB                       # 0001_make_items.sql
d1 execute DB --command 'SELECT 40 + 2'      # 42
d1 info DB                                   # "name": "db"
d1 list                                      # "DB"
d1 export DB --output db.sql                 # db.sql
d1 time-travel info DB                       # bookmark
d1 time-travel keep DB --days 7              # 7 days
d1 time-travel restore DB --timestamp 9000000000 # previous_bookmark
d1 create spare                              # "database_name": "spare"
d1 delete spare -y                           # Removed: spare
do list                                      # Counter
do storage put Counter one colour '"blue"'
do storage get Counter one colour            # "blue"
do storage list COUNTER one                  # colour
do storage delete Counter one colour
do sql Counter one 'SELECT a FROM t'         # 7
do history COUNTER --days 2                  # "days": 2
do alarms list                               # 9000000000000
do alarms fire COUNTER one
queues create letters                        # "queue": "letters"
queues update letters --delivery-delay-secs 1 # Updated
queues message send letters '[1]'            # 1 message waits there
queues message peek letters                  # "state"
queues message requeue letters --to JOBS     # Sent 1 message to queue jobs
queues message send letters 2
queues message purge letters -f              # (1 message)
queues purge jobs -f                         # (1 message)
queues pause-delivery JOBS                   # Paused
queues resume-delivery JOBS                  # Resumed
queues info JOBS                             # "delivery": "active"
queues list                                  # letters
queues consumer http add jobs                # Added
queues consumer http list jobs               # http_pull
queues consumer http remove jobs             # Removed
queues consumer list mail                    # worker
queues consumer worker list mail             # worker
! queues consumer worker add letters shop --batch-size 5 # "max_batch_size": 5
! queues consumer add letters shop           # NOTHING WAS CHANGED
! queues consumer worker remove mail shop    # remove it there
! queues consumer remove mail shop           # remove it there
queues delete letters -f                     # Deleted queue
workflows trigger ORDER '{"a": 1}' --id one  # "id": "one"
workflows list                               # order
workflows describe order                     # "instances"
workflows instances list order               # "one"
workflows instances describe order           # "params"
workflows instances send-event order one --type other # Sent
workflows instances pause order one          # Paused
workflows instances resume order one         # Resumed
workflows instances restart order one        # Restarted
workflows instances terminate order one      # Terminated
workflows instances delete order one         # Deleted
workflows trigger order --id two             # two
workflows instances terminate-all order      # Terminated 1 instance
workflows delete order -y                    # Deleted 1 instance
cache list                                   # https://example.com/a
cache purge https://example.com/a            # 1 response
state info                                   # "figures"
state check                                  # "problems": []
state repair                                 # "left": []
state snapshot create before                 # "before"
state snapshot list                          # "before"
state diff before                            # []
state branch ../branch --from before         # was made
state backup ../state.tar.gz                 # "files"
state export ../exported                     # KV.json
state prune                                  # "keys"
state vacuum                                 # data.sqlite
completion bash                              # _BUNFLARE_COMPLETE
init made                                    # was made
"""

AFTER = """
state watch --after 0 --count 1              # "KV"
state snapshot restore before -y             # is as it was
state snapshot drop before
state import ../branch --keep-existing       # "taken"
state restore ../state.tar.gz --replace      # "files"
"""

# What they print is a script for the shell, and a log.
RAW = {("completion",), ("dev",)}


def called(words: list[str]) -> Words:
    """The command of a line."""
    return next(
        tuple(words[:count])
        for count in range(len(words), 0, -1)
        if tuple(words[:count]) in COMMANDS
    )


def play(fork: Forks, directory: Path, script: str) -> set[Words]:
    """Run each line; which commands that were."""
    done: set[Words] = set()
    for line in script.strip().splitlines():
        text, _, expected = line.partition(" # ")
        words = shlex.split(text.removeprefix("! "))
        command = called(words)
        done.add(command)
        as_json = takes(command, "--json")
        code, out, told = fork(directory, *words, *(["--json"] if as_json else []))
        assert code == int(line.startswith("!")), (text, code, told)
        assert expected.strip() in out + told, (text, out, told)
        if line.startswith("!"):
            assert not out or json.loads(out)["changed"] is False, (text, out)
        elif as_json:
            # A program is told what was done, whatever people are.
            by_line = command in {("r2", "object", "list"), ("state", "watch")}
            for part in out.splitlines() if by_line and out else [out]:
                json.loads(part)
        else:
            assert command in RAW
    return done


async def switch_on(root: Path) -> None:
    """Have changes noted, which `state watch` would do and then wait for one."""
    async with bunflare.open(root / ".bunflare") as state:
        await state.changes.enable()


def test_every_command_runs_as_a_process_and_speaks_json(tmp_path: Path) -> None:
    root = tmp_path / "project"
    root.mkdir()
    project(root, WORKER, WRANGLER)
    (root / "site").mkdir()
    (root / "site/index.html").write_text("<p>")
    (root / "quote.txt").write_text("Less is more\n")
    (root / "keys.json").write_text('[{"key": "a", "value": "1"}, {"key": "b", "value": "2"}]')
    (root / "names.json").write_text('["a", "b"]')
    # Each imports what it needs, and nothing else.
    with dev(root) as server, forks(bare=True) as fork:
        assert server.text() == "filled"
        done = play(fork, root, BESIDE) | {("dev",)}
        assert run(root, "kv", "key", "get", "rang", "--binding", "KV")[0] == "yes"
        asyncio.run(switch_on(root))
        run(root, "kv", "key", "put", "a", "1", "--binding", "KV")
    with forks(bare=True) as fork:
        done |= play(fork, root, AFTER)
    assert COMMANDS.keys() - done == set()


def test_every_command_takes_json() -> None:
    """Beside those that print a script, or a log."""
    assert {words for words in COMMANDS if not takes(words, "--json")} == RAW


def test_help_says_of_the_lists_that_are_json_in_pipes_that_they_are(tmp_path: Path) -> None:
    run(tmp_path, "kv", "key", "put", "a", "hello", "--namespace-id", "N")
    said = {
        words
        for words, command in COMMANDS.items()
        for option in command.get_params(Context(command))
        if "--json" in option.opts and "into a pipe" in (getattr(option, "help", None) or "")
    }
    assert said == {("kv", "namespace", "list"), ("kv", "key", "list")}
    assert json.loads(run(tmp_path, "kv", "namespace", "list")[0])[0]["id"] == "N"
    assert json.loads(run(tmp_path, "kv", "key", "list", "--namespace-id", "N")[0])


def test_json_says_what_was_done(tmp_path: Path) -> None:
    def told(*words: str) -> object:
        return json.loads(run(tmp_path, *words, "--json")[0])

    (tmp_path / "raw").write_bytes(b"\xff")
    namespace = ("--namespace-id", "N")
    assert told("kv", "key", "put", "a", "hello", *namespace) == {
        "namespace_id": "N",
        "key": "a",
        "size": 5,
    }
    assert told("kv", "key", "get", "a", *namespace) == {"key": "a", "value": "hello"}
    run(tmp_path, "kv", "key", "put", "b", "--path", "raw", "--metadata", "[1]", *namespace)
    raw = told("kv", "key", "get", "b", *namespace)
    assert raw == {"key": "b", "value": "/w==", "base64": True, "metadata": [1]}
    # Which is what can be put again.
    (tmp_path / "keys.json").write_text(json.dumps([raw]))
    assert told("kv", "bulk", "put", "keys.json", *namespace) == {"namespace_id": "N", "keys": 1}
    assert told("kv", "key", "delete", "b", *namespace) == {"namespace_id": "N", "key": "b"}
    assert told("queues", "message", "send", "jobs", "1") == {"queue": "jobs", "backlog": 1}
    assert told("queues", "purge", "jobs") == {"queue": "jobs", "messages": 1}
    made = told("init")
    assert isinstance(made, dict)
    assert made["changed"][0] == str(tmp_path / "wrangler.toml")
    put = told("r2", "object", "put", "files/raw", "--file", "raw")
    got = told("r2", "object", "get", "files/raw", "--file", "again")
    assert got == {"file": "again", **put}  # type: ignore[dict-item]
    # The bytes go where JSON would.
    run(tmp_path, "r2", "object", "get", "files/raw", "--pipe", "--json", code=2)
