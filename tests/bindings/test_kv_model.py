"""Workers KV against a plain dict, over random histories with restarts."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Coroutine
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

import bunflare
from tests.support import chores_done

T = TypeVar("T")

# Few and close together, so that histories meet; with all the characters that have ever hurt.
KEYS = st.text(alphabet="aAb%_\0\ud7ff\ue000\uffff\U0010ffff🙂", min_size=1, max_size=4)
VALUES = st.binary(max_size=40) | st.just(b"x" * 5000)


class KVModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.directory = tempfile.mkdtemp()
        self.clock = bunflare.ManualClock()
        self.model: dict[str, tuple[bytes, Any, int | None]] = {}
        self.open()

    def open(self) -> None:
        async def opened() -> bunflare.State:
            return bunflare.open(self.directory, durability="normal", clock=self.clock)

        self.state = self.run(opened())
        self.kv = self.state.kv("MODEL")

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    def live(self) -> dict[str, tuple[bytes, Any, int | None]]:
        now = self.clock.now() // 1000
        return {
            key: entry for key, entry in self.model.items() if entry[2] is None or entry[2] > now
        }

    keys = Bundle("keys")

    @rule(target=keys, key=KEYS)
    def name(self, key: str) -> str:
        return key

    @rule(
        key=keys,
        value=VALUES,
        metadata=st.none() | st.integers() | st.text(max_size=5),
        ttl=st.none() | st.integers(60, 200),
    )
    def put(self, key: str, value: bytes, metadata: Any, ttl: int | None) -> None:
        try:
            self.run(self.kv.put(key, value, metadata=metadata, expiration_ttl=ttl))
        except bunflare.KVError:
            assert key in (".", "..")
            return
        expires = None if ttl is None else self.clock.now() // 1000 + ttl
        self.model[key] = (value, metadata, expires)

    @rule(entries=st.dictionaries(KEYS, VALUES, max_size=5))
    def put_many(self, entries: dict[str, bytes]) -> None:
        self.run(self.kv.put_many({"key": k, "value": v} for k, v in entries.items()))
        self.model.update({k: (v, None, None) for k, v in entries.items()})

    @rule(key=keys)
    def delete(self, key: str) -> None:
        self.run(self.kv.delete(key))
        self.model.pop(key, None)

    @rule(names=st.lists(keys, max_size=3))
    def delete_many(self, names: list[str]) -> None:
        self.run(self.kv.delete_many(names))
        for key in names:
            self.model.pop(key, None)

    @rule(key=keys, value=VALUES, seconds=st.integers(60, 200))
    def put_until(self, key: str, value: bytes, seconds: int) -> None:
        until = self.clock.now() // 1000 + seconds
        self.run(self.kv.put(key, value, expiration=until))
        self.model[key] = (value, None, until)

    @rule(key=keys, other=keys, value=VALUES, fails=st.booleans())
    def transact(self, key: str, other: str, value: bytes, fails: bool) -> None:
        async def work() -> None:
            async with self.state.transaction() as tx:
                await tx.kv("MODEL").put(key, value)
                await tx.kv("MODEL").delete(other)
                if fails:
                    raise ZeroDivisionError

        try:
            self.run(work())
        except ZeroDivisionError:
            return
        self.model[key] = (value, None, None)
        self.model.pop(other, None)

    @rule(names=st.lists(keys, min_size=1, max_size=5, unique=True))
    def get_many(self, names: list[str]) -> None:
        live = self.live()
        found = self.run(self.kv.get(names))
        assert list(found) == names
        for key in names:
            expected = live[key][0].decode("utf-8", "replace") if key in live else None
            assert found[key] == expected

    @rule(key=keys)
    def get(self, key: str) -> None:
        expected = self.live().get(key)
        found = self.run(self.kv.get_with_metadata(key, "bytes"))
        assert (found.value, found.metadata) == ((None, None) if expected is None else expected[:2])
        assert self.run(self.kv.get(key, "bytes")) == (None if expected is None else expected[0])

    @rule(prefix=st.none() | KEYS, limit=st.integers(1, 5))
    def list(self, prefix: str | None, limit: int) -> None:
        async def pages() -> Any:
            cursor = None
            while True:
                page = await self.kv.list(prefix=prefix, limit=limit, cursor=cursor)
                assert len(page.keys) <= limit
                for key in page.keys:
                    yield key.name, key.metadata, key.expiration
                cursor = page.cursor
                if page.list_complete:
                    return

        async def collected() -> Any:
            return [one async for one in pages()]

        expected = [
            (key, entry[1], entry[2])
            for key, entry in sorted(self.live().items(), key=lambda item: item[0].encode())
            if key.startswith(prefix or "")
        ]
        assert self.run(collected()) == expected

    @rule(seconds=st.integers(1, 100))
    def time_passes(self, seconds: int) -> None:
        self.run(self.clock.advance(seconds=seconds))
        self.run(chores_done(self.state))

    @rule()
    def reopen(self) -> None:
        self.run(self.state.close())
        self.open()

    @invariant()
    def expired_rows_do_not_pile_up(self) -> None:
        rows = self.state.database.view.all("SELECT key, expiration FROM kv")
        # A sweep is due a moment after the expiration itself.
        assert all(until is None or until * 1000 + 1 >= self.clock.now() for _, until in rows)

    def teardown(self) -> None:
        self.run(self.state.close())
        self.runner.close()
        shutil.rmtree(self.directory)


KVModel.TestCase.settings = settings(max_examples=25, stateful_step_count=30)
TestKVModel = KVModel.TestCase
