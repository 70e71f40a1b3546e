"""Run with ``pytest`` in this directory."""

import asyncio

import pytest

pytestmark = pytest.mark.asyncio


async def add(worker, **book):
    response = await worker.fetch(
        "/books",
        method="POST",
        body=str(book).replace("'", '"'),
        headers={"content-type": "application/json"},
    )
    return response.status, await response.json()


async def lend(worker, book, reader):
    response = await worker.fetch(
        f"/books/{book}/loans",
        method="POST",
        body=f'{{"reader": "{reader}"}}',
        headers={"content-type": "application/json"},
    )
    return response.status


async def test_a_book_is_found(worker):
    status, book = await add(worker, title="Sourdough", author="Robin")
    assert (status, book["id"]) == (201, 1)
    assert (await add(worker, title="", author="x"))[0] == 422
    found = await (await worker.fetch("/books?q=sourdough")).json()
    assert [one["title"] for one in found] == ["Sourdough"]
    assert await (await worker.fetch("/books?q=nothing")).json() == []


async def test_a_copy_is_lent_once(worker, env):
    _, book = await add(worker, title="Rye", author="Robin", copies=2)
    statuses = await asyncio.gather(*(lend(worker, book["id"], f"reader {i}") for i in range(5)))
    assert sorted(statuses) == [201, 201, 409, 409, 409]
    row = await env.DB.prepare("SELECT copies FROM books").first()
    assert row.copies == 0
    reader = f"reader {statuses.index(201)}".replace(" ", "%20")
    given = await worker.fetch(f"/books/{book['id']}/loans/{reader}", method="DELETE")
    assert given.status == 204
    assert await lend(worker, book["id"], "another") == 201
    assert await lend(worker, 99, "nobody") == 404
