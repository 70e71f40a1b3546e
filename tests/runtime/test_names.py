"""Every public name of the published SDK, and those of ``js`` and ``pyodide`` that Workers use."""

from __future__ import annotations

import inspect
import math
from types import ModuleType
from typing import Any

import pytest

import bunflare
from bunflare.runtime.context import Background
from bunflare.runtime.env import Env
from bunflare.runtime.facade import KV, BindingFacade
from bunflare.runtime.sdk import make_modules
from bunflare.runtime.services import sent

# What the SDK's version 1.9 exports: classes with their public members, functions with their
# parameters, and other names with nothing.
SDK: dict[str, dict[str, str | None]] = {
    "workers": {
        "Blob": "size content_type js_object text bytes slice",
        "BlobEnding": None,
        "BlobValue": None,
        "Body": None,
        "Context": None,
        "DurableObject": "",
        "FetchKwargs": None,
        "FetchResponse": "body js_object headers formData form_data replace_body blob redirect "
        "from_json json text bytes buffer status status_text url ok redirected body_used clone "
        "raise_for_status",
        "File": "size content_type js_object text bytes slice name last_modified",
        "FormData": "append delete values keys items get_all js_object get pop setdefault update",
        "FormDataValue": None,
        "Headers": None,
        "JSBody": None,
        "Request": "js_object body body_used cf cache credentials destination headers integrity "
        "is_history_navigation keepalive method mode redirect referrer referrer_policy url buffer "
        "form_data blob bytes clone json text",
        "RequestInitCfProperties": None,
        "Response": "body js_object headers formData form_data replace_body blob redirect "
        "from_json json text bytes buffer status status_text url ok redirected body_used clone",
        "WorkerEntrypoint": "",
        "env": None,
        "fetch": "(resource, **)",
        "handler": "(func)",
        "import_from_javascript": "(module_name)",
        "patch_env": "(d, **)",
        "python_from_rpc": "(obj)",
        "python_to_rpc": "(value)",
        "waitUntil": None,
        "wait_until": None,
    },
    "workers.asgi": {
        "DEFAULT_OPTIONS": None,
        "NULL_BODY_STATUSES": None,
        "Options": "encode_body response_init",
        "acquire_js_buffer": None,
        "background_tasks": None,
        "close_stream_quietly": "(writer)",
        "fetch": "(app, req, env, ctx, *, options)",
        "logger": None,
        "process_request": "(app, req, env, ctx, state, options)",
        "process_websocket": "(app, req, env)",
        "request_to_scope": None,
        "run_in_background": "(coro)",
        "start_application": "(app)",
        "websocket": "(app, req, env)",
        "entrypoint": "(app, *, options)",
        "env": None,
    },
    "workers.blob": {"Blob": "", "BlobEnding": None, "BlobValue": None, "File": ""},
    "workers.entrypoints": {
        "DurableObject": "",
        "DurableObjectAbort": "",
        "DurableObjectContext": "",
        "WorkerEntrypoint": "",
        "handler": "(func)",
    },
    "workers.fetch": {"fetch": "(resource, **)"},
    "workers.formdata": {"FormData": "", "FormDataValue": None},
    "workers.gateway": {"BaseOptions": "encode_body", "EncodeBody": None},
    "workers.gateway.options": {"BaseOptions": "encode_body", "EncodeBody": None},
    "workers.request": {"Request": ""},
    "workers.response": {"FetchResponse": "", "Response": ""},
    "workers.rpc": {
        "JsDict": "",
        "python_from_rpc": "(obj)",
        "python_to_rpc": "(value)",
    },
    "workers.types": {
        "Body": None,
        "Context": None,
        "FetchKwargs": None,
        "Headers": None,
        "JSBody": None,
        "RequestInitCfProperties": None,
    },
    "workers.utils": {
        "HTTPMessageMapping": "",
        "RESPONSE_ACCEPTED_TYPES": None,
        "import_sdk_javascript_module_async": "(name)",
        "get_compat_flag": "(flag)",
        "import_from_javascript": "(module_name)",
        "patch_env": "(d, **)",
    },
    "workers.wsgi": {
        "DEFAULT_OPTIONS": None,
        "NULL_BODY_STATUSES": None,
        "logger": None,
        "Options": "encode_body",
        "fetch": "(app, req, env, ctx, *, options)",
        "entrypoint": "(app, *, options)",
        "build_environ": "(request, env, body)",
        "process_request": "(app, req, env, body, options)",
    },
}

JS = (
    "AbortController AbortSignal Array ArrayBuffer BigInt64Array BigUint64Array Blob Boolean "
    "CompressionStream Date DecompressionStream Error File FixedLengthStream Float32Array "
    "Float64Array FormData HTMLRewriter Headers IdentityTransformStream Infinity Int16Array "
    "Int32Array Int8Array JSON Map Math NaN Number Object Promise RangeError ReadableStream "
    "Request Response Set String SyntaxError TextDecoder TextDecoderStream TextEncoder "
    "TextEncoderStream TransformStream TypeError URL URLSearchParams Uint16Array Uint32Array "
    "Uint8Array Uint8ClampedArray WritableStream atob btoa caches clearInterval clearTimeout "
    "console crypto decodeURI decodeURIComponent encodeURI encodeURIComponent fetch "
    "globalThis isFinite isNaN navigator parseFloat parseInt performance queueMicrotask "
    "scheduler self setInterval setTimeout structuredClone undefined"
)

PYODIDE = {
    "pyodide": "__version__ create_proxy to_js",
    "pyodide.ffi": "ConversionError InternalError JsArray JsAsyncGenerator JsAsyncIterable "
    "JsAsyncIterator JsBigInt JsBuffer JsCallable JsCallableDoubleProxy JsDomElement "
    "JsDoubleProxy JsException JsFetchResponse JsGenerator JsIterable JsIterator JsMap "
    "JsMutableMap JsNull JsPromise JsProxy JsTypedArray can_run_sync create_once_callable "
    "create_proxy destroy_proxies jsnull run_sync to_js",
    "pyodide.http": "AbortError BodyUsedError FetchResponse HttpStatusError pyfetch",
    "pyodide.code": "eval_code eval_code_async find_imports relaxed_call relaxed_wrap run_js",
    "pyodide.webloop": "WebLoop",
    "_cloudflare_compat_flags": "any_flag_at_all",
    "_pyodide_entrypoint_helper": "cloudflareWorkersModule",
}


@pytest.fixture
def modules() -> dict[str, ModuleType]:
    return make_modules(Env({"NAME": "value"}), None, Background(), ("a_flag",))


def parameters(function: Any) -> str:
    told: list[str] = []
    keywords = False
    for one in inspect.signature(function).parameters.values():
        if one.kind is one.VAR_KEYWORD:
            told.append("**")
            continue
        if one.kind is one.KEYWORD_ONLY and not keywords:
            keywords = True
            told.append("*")
        told.append(one.name)
    return f"({', '.join(told)})"


@pytest.mark.parametrize(
    ("module", "name"), [(module, name) for module, names in SDK.items() for name in names]
)
def test_the_sdk_has_its_public_names(
    modules: dict[str, ModuleType], module: str, name: str
) -> None:
    ours = getattr(modules[module], name)
    expected = SDK[module][name]
    if expected is None:
        return
    if expected.startswith("("):
        # What we take beyond that has a default.
        positional = expected.replace(", **)", "").strip("()").split(", ")
        told = parameters(ours)
        assert [one for one in positional if one != "*"] == [
            one for one in told.strip("()").split(", ") if one in positional and one != "*"
        ]
        if "**" in expected:
            assert "**" in told
    else:
        assert isinstance(ours, type)
        missing = [
            member
            for member in expected.split()
            if not hasattr(ours, member)
            and member not in inspect.get_annotations(ours)
            and member not in _slots(ours)
        ]
        assert missing == []


def _slots(kind: type) -> set[str]:
    return {slot for one in kind.__mro__ for slot in getattr(one, "__slots__", ())}


@pytest.mark.parametrize("name", JS.split())
def test_javascript_has_its_globals(modules: dict[str, ModuleType], name: str) -> None:
    assert hasattr(modules["js"], name)


@pytest.mark.parametrize("module", PYODIDE)
def test_pyodide_has_its_names(modules: dict[str, ModuleType], module: str) -> None:
    for name in PYODIDE[module].split():
        assert hasattr(modules[module], name), name


async def test_promises_and_small_functions(modules: dict[str, ModuleType]) -> None:
    js: Any = modules["js"]
    promise = js.Promise
    assert await promise.resolve(5) == 5
    assert await promise.all([promise.resolve(1), 2]) == [1, 2]
    assert await promise.new(lambda resolve, reject: resolve("new")) == "new"
    assert await promise.resolve(1).then(lambda value: value + 1) == 2
    assert await promise.reject("no").catch(lambda error: error.message) == "no"
    settled = await promise.allSettled([promise.resolve(1), promise.reject("no")])
    assert [one.status for one in settled] == ["fulfilled", "rejected"]
    assert await promise.race([promise.resolve("first"), promise.new(lambda a, b: None)]) == "first"
    assert (js.parseInt("12px"), js.parseInt("0x1f"), js.parseInt("11", 2)) == (12, 31, 3)
    assert math.isnan(js.parseInt("x"))
    assert (js.parseFloat("3.5e1abc"), js.parseFloat("-Infinity")) == (35.0, -math.inf)
    assert js.encodeURIComponent("a b&ü") == "a%20b%26%C3%BC"
    assert js.decodeURIComponent("a%20b") == "a b"
    assert js.Math.round(2.5) == 3
    assert list(js.Float64Array.new(3)) == [0.0, 0.0, 0.0]
    assert js.Int16Array.new([1, 2]).nbytes == 4
    digest = await js.crypto.subtle.digest("SHA-256", b"abc")
    assert digest.to_bytes().hex().startswith("ba7816bf")
    key = await js.crypto.subtle.importKey(
        "raw", b"key", {"name": "HMAC", "hash": "SHA-256"}, False, ["sign", "verify"]
    )
    signature = await js.crypto.subtle.sign("HMAC", key, b"data")
    assert await js.crypto.subtle.verify("HMAC", key, signature, b"data")
    assert not await js.crypto.subtle.verify("HMAC", key, signature, b"other")
    mapped = modules["pyodide.ffi"].to_js({"a": {"b": 1}})
    assert js.Object.fromEntries(mapped).a == {"b": 1}
    value = js.Object.fromEntries([("a", js.Array.new(1, 2))])
    copy = js.structuredClone(value)
    assert copy == value
    assert copy.a is not value.a
    await promise.new(lambda resolve, reject: js.setTimeout(resolve, 1))
    assert js.globalThis.JSON is js.JSON
    moment = js.Date.new(2020, 1, 29, 13, 5)
    assert (moment.getUTCMonth(), moment.getDate(), moment.getHours(), moment.getDay()) == (
        *(1, 29, 13),
        6,
    )
    assert moment.toUTCString() == "Sat, 29 Feb 2020 13:05:00 GMT"
    assert js.Date.UTC(1970, 0, 2) == js.Date.UTC(1970, 0) + 86_400_000
    with pytest.raises(AttributeError):
        moment.getLost()
    numbers = js.Array.of(3, 1, 2)
    assert numbers.map(lambda one: one * 2).filter(lambda one: one > 2).join("-") == "6-4"
    assert (numbers.includes(1), numbers.indexOf(7), numbers.slice(1)) == (True, -1, [1, 2])
    assert numbers.concat([4], 5) == [3, 1, 2, 4, 5]
    assert (js.Number("5"), js.Number.isInteger(5.5)) == (5, False)
    assert math.isnan(js.Number("five"))
    assert js.String.fromCharCode(65, 66) == "AB"
    assert js.URLSearchParams.new("a=1&b=2").toString() == "a=1&b=2"
    data = js.Uint8Array.new(4)
    data.set(b"ab", 1)
    assert (data.to_bytes(), data.subarray(1, 3).to_bytes()) == (b"\0ab\0", b"ab")
    assert (js.Array.from_((1,)), js.Uint8Array.from_([1]).to_bytes()) == ([1], b"\1")
    made = js.Buffer.from_
    assert made("aGk", "base64").toString() == "hi"
    assert made(b"\xff\xfe").toString("base64url") == "__4"
    assert made("6869", "hex").toString("base64") == "aGk="
    ending = modules["workers"].BlobEnding.NATIVE
    assert await modules["workers"].Blob("a\r\nb", endings=ending).text() == "a\nb"


def test_the_console_has_all_its_methods(
    modules: dict[str, ModuleType], caplog: pytest.LogCaptureFixture
) -> None:
    console: Any = modules["js"].console
    caplog.set_level("DEBUG", "bunflare.worker")
    for name in ("log", "info", "warn", "error", "debug", "trace", "table", "group", "dir"):
        getattr(console, name)(name, 1)
        assert caplog.messages[-1] == f"{name} 1"
    said = len(caplog.messages)
    for name in ("groupEnd", "time", "timeEnd", "count", "clear"):
        getattr(console, name)("quiet")
    getattr(console, "assert")(True, "fine")
    assert len(caplog.messages) == said
    getattr(console, "assert")(1 > 2, "wrong")
    assert caplog.messages[-1] == "Assertion failed: wrong"
    with pytest.raises(AttributeError):
        console.shout("what")


def test_signals_tell_their_listeners_once(modules: dict[str, ModuleType]) -> None:
    js: Any = modules["js"]
    told: list[str] = []

    def gone(event: Any) -> None:
        told.append("gone")

    first, second = js.AbortController.new(), js.AbortController.new()
    first.signal.addEventListener("abort", lambda event: told.append(event.type))
    first.signal.addEventListener("abort", gone)
    first.signal.removeEventListener("abort", gone)
    first.signal.onabort = lambda event: told.append("on")
    either = js.AbortSignal.any([first.signal, second.signal])
    first.abort("enough")
    second.abort()
    first.abort()
    assert told == ["abort", "on"]
    assert (either.aborted, str(either.reason)) == (True, "AbortError: enough")
    assert js.AbortSignal.any([either]).aborted


async def test_streams_as_javascript_has_them(modules: dict[str, ModuleType]) -> None:
    js: Any = modules["js"]
    response = js.Response.new

    def start(controller: Any) -> None:
        controller.enqueue(js.TextEncoder.new().encode("one "))
        controller.enqueue(b"two")
        controller.close()

    stream = js.ReadableStream.new({"start": start})
    assert await response(stream).text() == "one two"
    reader = response("known").body.getReader()
    first = await reader.read()
    assert (first.done, first.value.to_bytes()) == (False, b"known")
    assert (await reader.read()).done
    # Written on one side, read on the other.
    both = js.TransformStream.new()
    writer = both.writable.getWriter()

    async def write() -> None:
        for i in range(50):
            await writer.write(b"%d," % i)
        await writer.close()

    writing = js.Promise.resolve(None).then(lambda _: write())
    assert (await response(both.readable).text()).startswith("0,1,2,")
    await writing
    upper = js.TransformStream.new(
        {"transform": lambda chunk, controller: controller.enqueue(bytes(chunk).upper())}
    )
    assert await response(response("shout").body.pipeThrough(upper)).text() == "SHOUT"
    zipped = response("x" * 100_000).body.pipeThrough(js.CompressionStream("gzip"))
    unzipped = response(zipped).body.pipeThrough(js.DecompressionStream("gzip"))
    assert len(await response(unzipped).text()) == 100_000
    fixed = js.FixedLengthStream.new(3)
    with pytest.raises(bunflare.errors.JsError, match="too many bytes"):
        await response("four").body.pipeTo(fixed.writable)
    got: list[Any] = []
    sink = js.WritableStream.new({"write": lambda chunk, _: got.append(bytes(chunk))})
    await response("sunk").body.pipeTo(sink)
    assert got == [b"sunk"]
    one, other = js.ReadableStream.from_([b"a", b"b"]).tee()
    assert await response(one).text() == await response(other).text() == "ab"
    failing = js.ReadableStream.new({"pull": lambda controller: controller.error("broken")})
    with pytest.raises(bunflare.errors.JsError, match="broken"):
        await response(failing).text()


async def test_values_that_may_not_cross_are_refused(
    state: bunflare.State, modules: dict[str, ModuleType]
) -> None:
    kv = BindingFacade(state.kv("ns"), KV)
    error: Any = modules["pyodide.ffi"].JsException

    async def awaitable() -> None:
        pass

    for value in ((1,), bytearray(b"x"), awaitable()):
        with pytest.raises(TypeError, match="cannot be sent over RPC"):
            await kv.put("key", value)
    for inner in ((1,), [(1,)], {"a": bytearray()}):
        with pytest.raises(TypeError, match="cannot be sent over RPC"):
            await kv.put("key", "value", metadata={"a": inner})
    with pytest.raises(error, match="DataCloneError: Could not serialize object of type"):
        await kv.put("key", object())
    # What a binding raises is found as JavaScript's, too.
    with pytest.raises(error) as caught:
        await kv.put("", "value")
    assert (caught.value.name, caught.value.message) == (
        "TypeError",
        "Key name cannot be empty.",
    )
    with pytest.raises(TypeError, match="not iterable"):
        iter(kv)
    with pytest.raises(TypeError, match="no len"):
        len(kv)
    assert bool(kv)
    with pytest.raises(error, match="DataCloneError"):
        sent(object())
    made = error("RangeError", "too far")
    assert (str(made), made.name, made.message) == ("RangeError: too far", "RangeError", "too far")


def test_pyodide_runs_code(modules: dict[str, ModuleType]) -> None:
    code: Any = modules["pyodide.code"]
    names: dict[str, Any] = {}
    assert code.eval_code("x = 5\nx + 1", names) == 6
    assert names["x"] == 5
    assert code.eval_code("x = 7", names) is None
    assert code.find_imports("import a.b\nfrom c import d\nfrom . import e") == ["a", "c"]


async def test_pyodide_runs_code_that_awaits(modules: dict[str, ModuleType]) -> None:
    code: Any = modules["pyodide.code"]
    source = "import asyncio\nawait asyncio.sleep(0)\nawait asyncio.sleep(0, 5)"
    assert await code.eval_code_async(source) == 5
