"""JavaScript's streams: readable, writable and transforming ones."""

from __future__ import annotations

import asyncio
import zlib
from collections import deque
from collections.abc import AsyncIterable, Callable, Iterator, Mapping
from contextlib import contextmanager
from inspect import isawaitable
from typing import Any, Self

from ..web.readable import Readable
from ..web.streams import Sized, tee
from .js_values import JsException, PyProxy, Uint8Array


def _member(options: Any, name: str) -> Callable[..., Any] | None:
    """A method of what a stream is made of: a dict, or an object."""
    if isinstance(options, PyProxy):
        options = options.unwrap()
    if options is None:
        return None
    found = options.get(name) if isinstance(options, Mapping) else getattr(options, name, None)
    return found if callable(found) else None


async def _called(function: Callable[..., Any] | None, *args: Any) -> Any:
    if function is None:
        return None
    result = function(*args)
    return await result if isawaitable(result) else result


def _raisable(reason: Any) -> BaseException:
    return reason if isinstance(reason, BaseException) else JsException("Error", str(reason))


class _Pipe:
    """Chunks between one side and the other; few wait."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._chunks: deque[Any] = deque()
        self._changed = asyncio.Event()
        self._ended = False
        self._failure: BaseException | None = None

    @property
    def room(self) -> int:
        return self._most - len(self._chunks)

    @property
    def ended(self) -> bool:
        return self._ended

    def put(self, chunk: Any) -> None:
        if self._ended:
            raise JsException("TypeError", "This stream has been closed.")
        self._chunks.append(chunk)
        self._tell()

    def end(self, failure: BaseException | None = None) -> None:
        self._ended = True
        self._failure = self._failure or failure
        self._tell()

    async def get(self) -> Any:
        while not self._chunks:
            if self._failure is not None:
                raise self._failure
            if self._ended:
                raise StopAsyncIteration
            await self._wait()
        chunk = self._chunks.popleft()
        self._tell()
        return chunk

    async def until_room(self) -> None:
        while self.room <= 0 and not self._ended:
            await self._wait()
        if self._failure is not None:
            raise self._failure

    async def _wait(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    def _tell(self) -> None:
        self._changed.set()


class _Controller:
    """What a source puts chunks into."""

    def __init__(self, pipe: _Pipe) -> None:
        self._pipe = pipe
        self.byobRequest = None

    @property
    def desiredSize(self) -> int:
        return self._pipe.room

    def enqueue(self, chunk: Any) -> None:
        self._pipe.put(chunk)

    def close(self) -> None:
        self._pipe.end()

    terminate = close

    def error(self, reason: Any = None) -> None:
        self._pipe.end(_raisable(reason))


class ReadableStream(Readable):
    """``ReadableStream``: iterating gives its chunks."""

    def __init__(self, source: Any = None, strategy: Any = None) -> None:
        self._source = source
        self._pipe = _Pipe(1)
        self._controller = _Controller(self._pipe)
        self._started = False
        self._pull = _member(source, "pull")

    @classmethod
    def new(cls, source: Any = None, strategy: Any = None) -> Self:
        return cls(source, strategy)

    @classmethod
    def of(cls, pipe: _Pipe) -> Self:
        stream = cls()
        stream._pipe = pipe
        return stream

    @staticmethod
    def from_(source: Any) -> ReadableStream:
        """A stream of what an iterable gives, of either kind."""
        iterator = aiter(source) if isinstance(source, AsyncIterable) else None
        plain = None if iterator is not None else iter(source)

        async def pull(controller: _Controller) -> None:
            try:
                if iterator is not None:
                    controller.enqueue(await anext(iterator))
                elif plain is not None:
                    controller.enqueue(next(plain))
            except (StopIteration, StopAsyncIteration):
                controller.close()

        return ReadableStream({"pull": pull})

    locked = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        if not self._started:
            self._started = True
            await _called(_member(self._source, "start"), self._controller)
        if self._pull is not None and self._pipe.room > 0 and not self._pipe.ended:
            await _called(self._pull, self._controller)
        return await self._pipe.get()

    async def aclose(self) -> None:
        if not self._pipe.ended:
            self._pipe.end()
            await _called(_member(self._source, "cancel"), None)

    def tee(self) -> tuple[Any, Any]:
        one, other = tee(self)
        return ReadableStream.from_(one), ReadableStream.from_(other)


setattr(ReadableStream, "from", staticmethod(ReadableStream.from_))


class Writer:
    """Writes into a stream chunk by chunk."""

    def __init__(self, stream: WritableStream) -> None:
        self._stream = stream
        self.desiredSize = 1

    async def write(self, chunk: Any = None) -> None:
        await self._stream.write(chunk)

    async def close(self) -> None:
        await self._stream.close()

    async def abort(self, reason: Any = None) -> None:
        await self._stream.abort(reason)

    def releaseLock(self) -> None:
        """The stream can be written to by others again; here it always can."""


class WritableStream:
    """``WritableStream``."""

    locked = False

    def __init__(self, sink: Any = None, strategy: Any = None) -> None:
        self._sink = sink
        self._started = False
        self._closed = False
        self._failure: BaseException | None = None

    @classmethod
    def new(cls, sink: Any = None, strategy: Any = None) -> Self:
        return cls(sink, strategy)

    def getWriter(self) -> Writer:
        return Writer(self)

    async def write(self, chunk: Any) -> None:
        if self._failure is not None:
            raise self._failure
        if self._closed:
            raise JsException("TypeError", "This WritableStream has been closed.")
        await self._start()
        await _called(_member(self._sink, "write"), chunk, self)

    async def close(self) -> None:
        if self._closed:
            raise JsException("TypeError", "This WritableStream has been closed.")
        await self._start()
        self._closed = True
        await _called(_member(self._sink, "close"))

    async def abort(self, reason: Any = None) -> None:
        if not self._closed:
            self._closed = True
            self._failure = _raisable(reason)
            await _called(_member(self._sink, "abort"), self._failure)

    def error(self, reason: Any = None) -> None:
        self._failure = _raisable(reason)

    async def _start(self) -> None:
        if not self._started:
            self._started = True
            await _called(_member(self._sink, "start"), self)


@contextmanager
def _failing(pipe: _Pipe) -> Iterator[None]:
    """Whoever reads is told of a failure as well as whoever writes."""
    try:
        yield
    except BaseException as error:
        pipe.end(error)
        raise


class TransformStream:
    """``TransformStream``: what is written into ``writable`` comes out of ``readable``."""

    def __init__(self, transformer: Any = None, *_strategies: Any) -> None:
        self._pipe = pipe = _Pipe(1)
        controller = _Controller(pipe)
        transform = _member(transformer, "transform")

        async def start(_: Any) -> None:
            await _called(_member(transformer, "start"), controller)

        async def write(chunk: Any, _: Any) -> None:
            await pipe.until_room()
            if transform is None:
                controller.enqueue(chunk)
            else:
                with _failing(pipe):
                    await _called(transform, chunk, controller)

        async def close() -> None:
            with _failing(pipe):
                await _called(_member(transformer, "flush"), controller)
            pipe.end()

        async def abort(reason: BaseException) -> None:
            pipe.end(reason)

        self.readable = ReadableStream.of(pipe)
        self.writable = WritableStream(
            {"start": start, "write": write, "close": close, "abort": abort}
        )

    @classmethod
    def new(cls, *args: Any) -> Self:
        return cls(*args)


class _Announced(ReadableStream, Sized):
    """A stream that said how long it is."""

    left = 0

    async def __anext__(self) -> Any:
        chunk = await super().__anext__()
        self.left -= len(chunk)
        return chunk


class FixedLengthStream(TransformStream):
    """Passes as many bytes as were announced, or fails."""

    def __init__(self, length: int) -> None:
        left = length

        def transform(chunk: Any, controller: _Controller) -> None:
            nonlocal left
            left -= len(chunk)
            if left < 0:
                raise JsException(
                    "TypeError", "Attempt to write too many bytes through a FixedLengthStream."
                )
            controller.enqueue(chunk)

        def flush(_: _Controller) -> None:
            if left:
                raise JsException(
                    "TypeError", "FixedLengthStream did not see all expected bytes before close()."
                )

        super().__init__({"transform": transform, "flush": flush})
        readable = _Announced.of(self.readable._pipe)
        readable.left = length
        self.readable = readable


def _zipped(make: Callable[[int], Any], finish: Callable[[Any], bytes]) -> type[TransformStream]:
    class Zipped(TransformStream):
        def __init__(self, format: str) -> None:
            bits = {"gzip": 31, "deflate": 15, "deflate-raw": -15}
            if format not in bits:
                raise JsException("TypeError", f"Unsupported compression format: {format!r}")
            work = make(bits[format])
            step = work.compress if hasattr(work, "compress") else work.decompress

            def transform(chunk: Any, controller: _Controller) -> None:
                if data := step(bytes(chunk)):
                    controller.enqueue(Uint8Array(data))

            def flush(controller: _Controller) -> None:
                if data := finish(work):
                    controller.enqueue(Uint8Array(data))

            super().__init__({"transform": transform, "flush": flush})

    return Zipped


def stream_names() -> dict[str, Any]:
    """What ``from js import …`` finds."""
    compress = _zipped(lambda bits: zlib.compressobj(wbits=bits), lambda work: work.flush())
    decompress = _zipped(lambda bits: zlib.decompressobj(wbits=bits), lambda work: work.flush())
    return {
        "CompressionStream": compress,
        "DecompressionStream": decompress,
        "FixedLengthStream": FixedLengthStream,
        "IdentityTransformStream": TransformStream,
        "ReadableStream": ReadableStream,
        "TransformStream": TransformStream,
        "WritableStream": WritableStream,
    }
