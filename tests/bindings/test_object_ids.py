"""Ids and namespaces of Durable Objects."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

import bunflare
from bunflare import DurableObject, DurableObjectTypeError, DurableObjectValueError


class Room(DurableObject):
    async def who(self) -> list[object]:
        return [str(self.ctx.id), self.ctx.id.name, await self.ctx.storage.get("seat")]

    async def sit(self, seat: str) -> None:
        await self.ctx.storage.put("seat", seat)


class Hall(DurableObject):
    pass


async def test_a_name_gives_the_same_64_digits_at_all_times_and_others_in_another_class(
    tmp_path: Path,
) -> None:
    async with bunflare.open(tmp_path) as state:
        first = state.durable_objects(Room).id_from_name("blue")
        other = state.durable_objects(Hall).id_from_name("blue")
    assert len(str(first)) == 64
    assert int(str(first), 16) >= 0
    assert first.name == "blue"
    assert first != other
    async with bunflare.open(tmp_path) as state:
        again = state.durable_objects(Room).id_from_name("blue")
    assert again.equals(first)
    assert again == first
    assert hash(again) == hash(first)


async def test_unique_ids_differ_and_have_no_name(state: bunflare.State) -> None:
    rooms = state.durable_objects(Room)
    first, second = rooms.new_unique_id(), rooms.new_unique_id()
    assert first != second
    assert first.name is None
    assert rooms.id_from_string(str(first).upper()) == first


@pytest.mark.parametrize("text", ["", "abc", "g" * 64, "0" * 63, "0" * 65, None, 7])
async def test_what_is_not_64_hex_digits_is_refused(state: bunflare.State, text: object) -> None:
    with pytest.raises(DurableObjectTypeError, match="must be 64 hex digits"):
        state.durable_objects(Room).id_from_string(text)  # type: ignore[arg-type]


async def test_an_id_of_another_namespace_is_refused(state: bunflare.State) -> None:
    rooms, halls = state.durable_objects(Room), state.durable_objects(Hall)
    foreign = halls.id_from_name("blue")
    with pytest.raises(DurableObjectTypeError, match="not valid for this namespace"):
        rooms.id_from_string(str(foreign))
    with pytest.raises(DurableObjectTypeError, match="not valid for this namespace"):
        rooms.get(foreign)


async def test_jurisdictions_have_ids_of_their_own_which_remember_them(
    state: bunflare.State,
) -> None:
    rooms = state.durable_objects(Room)
    european = rooms.jurisdiction("eu")
    blue = european.id_from_name("blue")
    assert blue.jurisdiction == "eu"
    assert blue != rooms.id_from_name("blue")
    assert rooms.id_from_string(str(blue)).jurisdiction == "eu"
    assert european.new_unique_id().jurisdiction == "eu"
    assert rooms.new_unique_id(jurisdiction="us").jurisdiction == "us"
    with pytest.raises(DurableObjectTypeError, match="jurisdiction"):
        european.id_from_string(str(rooms.id_from_name("blue")))
    assert european.get(blue).id == rooms.get(blue).id == blue
    for other in (rooms.id_from_name("blue"), rooms.new_unique_id(jurisdiction="us")):
        with pytest.raises(DurableObjectTypeError, match="ID from a different jurisdiction"):
            european.get(other)
    with pytest.raises(DurableObjectTypeError, match="not a jurisdiction"):
        rooms.jurisdiction("moon")


async def test_a_routing_mode_that_is_none_is_refused(state: bunflare.State) -> None:
    rooms = state.durable_objects(Room)
    assert rooms.get_by_name("blue", routing_mode="primary-only").name == "blue"
    with pytest.raises(DurableObjectValueError, match="unknown routingMode: nearest"):
        rooms.get_by_name("blue", routing_mode="nearest")
    with pytest.raises(DurableObjectValueError, match="unknown routingMode: nearest"):
        rooms.get(rooms.id_from_name("blue"), routing_mode="nearest")


async def test_a_name_comes_back_after_a_restart(tmp_path: Path) -> None:
    async with bunflare.open(tmp_path) as state:
        stub = state.durable_objects(Room).get_by_name("blue")
        await stub.sit("window")
        digits = str(stub.id)
    async with bunflare.open(tmp_path) as state:
        rooms = state.durable_objects(Room)
        assert await rooms.get(rooms.id_from_string(digits)).who() == [digits, "blue", "window"]


async def test_objects_of_the_seeds_own_program_are_found_by_their_name(tmp_path: Path) -> None:
    digits = hashlib.sha256(b"blue").hexdigest()
    async with bunflare.open(tmp_path) as state:
        await state.database.write(
            lambda tx: tx.run(
                "INSERT INTO do_storage (namespace, id, key, value) VALUES ('Room', ?, 'seat', ?)",
                (digits, '"door"'),
            )
        )
    async with bunflare.open(tmp_path) as state:
        rooms = state.durable_objects(Room)
        assert await rooms.get_by_name("blue").who() == [digits, "blue", "door"]
        assert str(rooms.id_from_string(digits)) == digits
        # In a namespace where they stored nothing, a name is ours.
        assert str(state.durable_objects(Hall).id_from_name("blue")) != digits


async def test_wrong_arguments_are_refused(state: bunflare.State) -> None:
    rooms = state.durable_objects(Room)
    with pytest.raises(DurableObjectTypeError):
        rooms.get("blue")  # type: ignore[arg-type]
    with pytest.raises(DurableObjectTypeError):
        rooms.id_from_name(7)  # type: ignore[arg-type]
    with pytest.raises(DurableObjectTypeError):
        state.durable_objects(Room, "../up")
    with pytest.raises(bunflare.StateError, match="another class"):
        state.durable_objects(Hall, "Room")
