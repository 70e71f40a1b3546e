"""The pytest plugin: real projects whose tests run in a pytest of their own."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

WRANGLER = """
name = "sample"
main = "src/entry.py"
vars = { GREETING = "hello" }
kv_namespaces = [{ binding = "KV", id = "x" }]
d1_databases = [{ binding = "DB", database_name = "db" }]
triggers.crons = ["0 * * * *"]
durable_objects.bindings = [{ name = "COUNTER", class_name = "Counter" }]
migrations = [{ tag = "v1", new_sqlite_classes = ["Counter"] }]
ai = { binding = "AI" }

[env.staging]
vars = { GREETING = "from staging" }
kv_namespaces = [{ binding = "KV", id = "y" }]
"""

ENTRY = """
import asyncio
from js import Object, caches
from pyodide.ffi import to_js
from workers import DurableObject, Response, WorkerEntrypoint, env, fetch, wait_until
import helper

KV = env.KV
GREETING = env.GREETING

class Counter(DurableObject):
    async def add(self):
        count = (await self.ctx.storage.get("count") or 0) + 1
        await self.ctx.storage.put("count", count)
        return count

class Admin(WorkerEntrypoint):
    async def level(self):
        return self.ctx.props["level"]

class Default(WorkerEntrypoint):
    async def fetch(self, request):
        path = request.url.split("localhost")[1]
        if path == "/fail":
            raise ZeroDivisionError("in the Worker")
        if path == "/later":
            wait_until(self.later())
            return Response("soon")
        if path == "/elsewhere":
            return await fetch("https://example.com/")
        count = int(await KV.get("count") or 0) + 1
        await self.env.KV.put("count", str(count), expirationTtl=60)
        return Response(f"{GREETING} {env.GREETING} {count} {helper.NAME}")

    async def later(self):
        await asyncio.sleep(0.001)
        await self.env.KV.put("later", "done")

    async def scheduled(self, controller):
        await self.env.KV.put("cron", f"{controller.cron} {controller.scheduledTime}")
"""


@pytest.fixture
def sample(pytester: pytest.Pytester) -> pytest.Pytester:
    """A project with a Worker."""
    pytester.makefile(".toml", wrangler=WRANGLER)
    pytester.mkdir("src").joinpath("entry.py").write_text(ENTRY)
    (pytester.path / "src" / "helper.py").write_text("NAME = 'helper'")
    (pytester.path / "migrations").mkdir()
    (pytester.path / "migrations" / "0001_begin.sql").write_text("CREATE TABLE entries(name);")
    return pytester


TESTS = """
import importlib
import asyncio
import pytest
import entry
from entry import Default
from js import JSON
from pyodide.ffi import JsProxy
from workers import Response, WorkerEntrypoint, env as module_env

pytestmark = pytest.mark.{mark}

@{fixture}
async def seeded(env):
    await env.KV.put("seed", "1")

@pytest.mark.parametrize("again", range(3))
async def test_each_test_has_its_own_state(worker, env, state, again):
    assert env is module_env and issubclass(Default, WorkerEntrypoint)
    response = await worker.fetch("/")
    assert await response.text() == "hello hello 1 helper"
    assert await (await worker.fetch("/")).text() == "hello hello 2 helper"
    assert await env.KV.get("seed") is None
    assert await state.kv("x").get("count") == "2"
    assert await env.COUNTER.getByName("a").add() == 1
    assert (await env.DB.prepare("SELECT count(*) AS n FROM entries").first()).n == 1

async def test_fixtures_of_the_project_run_in_the_same_loop(seeded, env):
    assert await env.KV.get("seed") == "1"

async def test_time_is_moved(worker, env, clock):
    await worker.fetch("/")
    await clock.advance(minutes=5)
    assert await env.KV.get("count") is None
    before = clock.now()
    await clock.advance(hours=1)
    hour = 3_600_000
    assert await env.KV.get("cron") == f"0 * * * * {{(before // hour + 1) * hour}}"

async def test_events(worker, env):
    await worker.scheduled(cron="*/5 * * * *", time=7)
    assert await env.KV.get("cron") == "*/5 * * * * 7"
    assert await worker.entrypoint("Admin", level=3).level() == 3
    await worker.fetch("/later", method="POST", body="x")
    await worker.wait()
    assert await env.KV.get("later") == "done"
    with pytest.raises(ZeroDivisionError, match="in the Worker"):
        await worker.fetch("/fail")
    with pytest.raises(Exception, match="AI"):
        await env.AI.run("model")

async def test_names_of_the_worker_are_replaced(worker, monkeypatch):
    async def fetch(url):
        return Response(f"not {{url}}")
    monkeypatch.setattr("entry.fetch", fetch)
    assert await (await worker.fetch("/elsewhere")).text() == "not https://example.com/"
    monkeypatch.setattr("helper.NAME", "patched")
    assert await (await worker.fetch("/")).text() == "hello hello 1 patched"

class TestInAClass:
    async def test_it_works_too(self, worker):
        assert (await worker.fetch("/")).status == 200

async def test_that_is_none_of_the_workers(tmp_path):
    assert importlib.import_module("entry") is entry
    with pytest.raises(ImportError):
        importlib.import_module("js")
"""

CONFTEST = """
import pytest
from js import JSON
from workers import env as module_env

async def pytest_bunflare_prepare(state, env):
    assert env is module_env
    await env.DB.prepare("INSERT INTO entries VALUES('prepared')").run()

@pytest.fixture
def anyio_backend():
    return "asyncio"

def pytest_sessionfinish():
    try:
        module_env.KV.get
    except Exception as error:
        assert "inside of a test" in str(error)
    else:
        raise AssertionError
"""


LOOP = "asyncio_default_fixture_loop_scope=function"


@pytest.mark.parametrize(
    ("mark", "fixture", "options"),
    [
        ("asyncio", "pytest.fixture", ("--asyncio-mode=auto", "-o", LOOP)),
        (
            "asyncio(loop_scope='module')",
            "__import__('pytest_asyncio').fixture(loop_scope='module')",
            ("--import-mode=importlib", "-o", LOOP),
        ),
        ("anyio", "pytest.fixture", ("-p", "no:asyncio")),
    ],
)
def test_tests_of_a_worker_have_its_bindings(
    sample: pytest.Pytester, mark: str, fixture: str, options: tuple[str, ...]
) -> None:
    sample.makeconftest(CONFTEST)
    sample.makepyfile(test_sample=TESTS.format(mark=mark, fixture=fixture))
    result = sample.runpytest_subprocess(*options, "-W", "error")
    result.assert_outcomes(passed=9)
    result.stdout.fnmatch_lines(["bunflare: *wrangler.toml"])


def test_strict_mode_wants_marks_and_synchronous_tests_are_told(sample: pytest.Pytester) -> None:
    sample.makepyfile(
        """
        import pytest

        @pytest.mark.asyncio
        async def test_marked(worker):
            response = await worker.fetch("/")
            assert await response.text() == "from staging from staging 1 helper"

        def test_synchronous(env):
            pass

        @pytest.mark.asyncio
        async def test_failing(worker):
            await worker.fetch("/fail")
        """
    )
    result = sample.runpytest_subprocess("-o", "bunflare_env=staging")
    result.assert_outcomes(passed=1, errors=1, failed=1)
    result.stdout.fnmatch_lines(
        ["*a test of a Worker is asynchronous*", "*entry.py:*: ZeroDivisionError"]
    )


@pytest.mark.parametrize("mark", ["asyncio", "asyncio(loop_scope='module')"])
def test_a_mark_for_what_is_not_installed_is_said_to_be_that(
    sample: pytest.Pytester, mark: str
) -> None:
    sample.makepyfile(
        f"import pytest\n\n@pytest.mark.{mark}\nasync def test(worker):\n    raise AssertionError\n"
    )
    # As pytest is where nobody has installed pytest-asyncio.
    result = sample.runpytest_subprocess("-p", "no:asyncio")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*which is not there: pip install pytest-asyncio"])


def test_an_installed_package_of_that_name_does_not_get_in_the_way(
    sample: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = sample.mkdir("elsewhere") / "site-packages"
    for name in ("workers", "js"):
        (installed / name).mkdir(parents=True)
        (installed / name / "__init__.py").write_text("raise ImportError('the installed one')")
    # What other libraries of the process see is left alone.
    (installed / "library.py").write_text("try:\n    import js\nexcept ImportError as e: found = e")
    monkeypatch.setenv("PYTHONPATH", str(installed))
    # Beside the Worker's modules, and not in a directory of their own.
    (sample.path / "src" / "test_beside.py").write_text(
        """
import pytest
import library
from workers import env, patch_env

@pytest.mark.asyncio
@pytest.mark.parametrize("number", [1, 2])
async def test_it(worker, number):
    assert str(library.found) == "the installed one"
    with patch_env(GREETING="patched"):
        assert await (await worker.fetch("/")).text() == "hello patched 1 helper"
        assert number < 2, "rewritten"
    assert env.GREETING == "hello"
"""
    )
    result = sample.runpytest_subprocess()
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*assert 2 < 2*"])


def test_a_project_without_a_configuration_is_left_alone(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import sys
        import pytest

        @pytest.fixture
        def env():
            return 5

        def test_it(env, request):
            assert env == 5
            assert "bunflare" not in sys.modules
            with pytest.raises(pytest.FixtureLookupError):
                request.getfixturevalue("clock")
        """
    )
    pytester.runpytest_subprocess().assert_outcomes(passed=1)


def test_fixtures_of_the_project_come_before_those_of_the_plugin(sample: pytest.Pytester) -> None:
    sample.makepyfile(
        """
        import pytest

        @pytest.fixture
        def clock():
            return 5

        def test_it(clock):
            assert clock == 5
        """
    )
    sample.runpytest_subprocess().assert_outcomes(passed=1)


def test_a_mistake_in_the_configuration_is_one_sentence(sample: pytest.Pytester) -> None:
    (sample.path / "wrangler.toml").write_text("main = 5")
    sample.makepyfile("def test_it(): pass")
    result = sample.runpytest_subprocess()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: bunflare: *wrangler.toml:1: *must be a string*"])


def test_several_workers_find_one_another(pytester: pytest.Pytester) -> None:
    for name, body in {
        "front": "async def fetch(self):\n"
        "    return Response(f'{await self.env.BACK.word()} {helper.NAME}')",
        "back": "def word(self):\n    return helper.NAME",
    }.items():
        directory = pytester.mkdir(name)
        (directory / "wrangler.toml").write_text(
            f'name = "{name}"\nmain = "entry.py"\n'
            'services = [{ binding = "BACK", service = "back" }]'
        )
        (directory / "helper.py").write_text(f"NAME = {name!r}")
        (directory / "entry.py").write_text(
            "from workers import Response, WorkerEntrypoint\nimport helper\n"
            f"class Default(WorkerEntrypoint):\n  {body}\n"
        )
    pytester.makeini(
        "[pytest]\nbunflare_config = front/wrangler.toml back/wrangler.toml\nasyncio_mode = auto\n"
        "asyncio_default_fixture_loop_scope = function\n"
    )
    pytester.makepyfile(
        """
        async def test_it(worker):
            assert await (await worker.fetch("/")).text() == "back front"
        """
    )
    pytester.runpytest_subprocess().assert_outcomes(passed=1)


def test_websockets_of_a_worker_are_talked_over(pytester: pytest.Pytester) -> None:
    shutil.copytree(Path(__file__).parents[2] / "examples" / "chat", pytester.path / "chat")
    pytester.makeini(
        "[pytest]\nbunflare_config = chat/wrangler.toml\nasyncio_mode = auto\n"
        "asyncio_default_fixture_loop_scope = function\n"
    )
    pytester.makepyfile(
        """
        import asyncio, json

        async def enter(worker, name):
            response = await worker.fetch(
                f"/rooms/lobby/socket?name={name}", headers={"Upgrade": "websocket"}
            )
            assert response.status == 101
            heard = asyncio.Queue()
            response.web_socket.addEventListener(
                "message", lambda event: heard.put_nowait(json.loads(event.data))
            )
            response.web_socket.accept()
            return response.web_socket, heard

        async def test_people_meet(worker, clock):
            ann, heard_by_ann = await enter(worker, "ann")
            assert (await heard_by_ann.get())["people"] == ["ann"]
            bob, heard_by_bob = await enter(worker, "bob")
            assert (await heard_by_bob.get())["history"] == []
            assert (await heard_by_ann.get())["people"] == ["ann", "bob"]
            await clock.advance(minutes=1)  # the room falls asleep
            ann.send("hello")
            assert (await heard_by_bob.get())["message"]["text"] == "hello"
            bob.close(1000)
            while (await heard_by_ann.get()).get("people") != ["ann"]:
                pass

        async def test_the_next_room_is_empty(worker):
            assert await (await worker.fetch("/rooms/lobby/messages")).json() == []
        """
    )
    pytester.runpytest_subprocess("-W", "error").assert_outcomes(passed=2)


def test_workflows_run_in_tests_without_waiting(pytester: pytest.Pytester) -> None:
    pytester.makefile(
        ".toml",
        wrangler="""
        name = "flows"
        main = "entry.py"
        workflows = [{ name = "order", binding = "ORDERS", class_name = "Order" }]
        """,
    )
    pytester.makepyfile(
        entry="""
        from workers import WorkerEntrypoint, WorkflowEntrypoint

        class Order(WorkflowEntrypoint):
            async def run(self, event, step):
                await step.sleep("a week", "1 week")
                return await step.do("pay", lambda: 1 / 0)

        class Default(WorkerEntrypoint):
            async def fetch(self, request): ...
        """,
        test_order="""
        import pytest
        from workers import env
        from bunflare.testing import WorkflowIntrospector

        ORDERS = env.ORDERS

        @pytest.mark.asyncio
        async def test_made_up(env):
            for workflow in (env.ORDERS, ORDERS):
                with WorkflowIntrospector(workflow) as test:
                    test.disable_sleeps()
                    test.mock_step_result("pay", "paid")
                    order = await env.ORDERS.create()
                    assert (await order.wait(30)).output == "paid"

        @pytest.mark.asyncio
        async def test_time(env, clock):
            order = await env.ORDERS.create({"id": "a"})
            await clock.advance(days=6)
            assert (await order.status()).status == "waiting"
            for _ in range(3):
                await clock.advance(days=1)
        """,
    )
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=2)
