"""Looking after a whole state: what one is told while that goes on."""

from __future__ import annotations

import bunflare
from bunflare import ManualClock


async def test_comparing_tells_how_far_it_is(state: bunflare.State) -> None:
    await state.d1("shop").exec("CREATE TABLE t (a)")
    await state.snapshot("before")
    await state.kv("A").put("key", "value")
    told: list[tuple[int, int]] = []
    found = await state.diff("before", progress=lambda done, whole: told.append((done, whole)))
    assert [(one.change, one.name, one.key) for one in found] == [("added", "A", "key")]
    wholes = {whole for _, whole in told}
    assert [done for done, _ in told] == list(range(*wholes))


async def test_pruning_tells_how_much_it_has_removed(
    state: bunflare.State, clock: ManualClock
) -> None:
    keys = [{"key": f"key{one}", "value": "", "expiration_ttl": 60} for one in range(450)]
    await state.kv("A").put_many(keys)
    clock.set(clock.now() + 61_000)
    told: list[int] = []
    assert (await state.prune(progress=told.append)).keys == 450
    assert told == [200, 400, 450]
