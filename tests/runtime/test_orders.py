"""`examples/orders` over real HTTP: killed at every step, it does everything, and nothing twice."""

from __future__ import annotations

import json
import shutil
import signal
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.runtime.test_dev import Server, dev
from tests.support import PATIENCE

ORDERS = Path(__file__).parents[2] / "examples" / "orders"


@pytest.fixture
def orders(tmp_path: Path) -> Path:
    return Path(shutil.copytree(ORDERS, tmp_path / "orders", ignore=shutil.ignore_patterns(".b*")))


def ask(server: Server, path: str, body: Any = None) -> Any:
    method = "GET" if body is None else "POST"
    status, _, text = server.fetch(path, method, None if body is None else json.dumps(body))
    assert status < 300, text
    return json.loads(text or b"null")


def until(server: Server, id: str, reached: Any) -> Any:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        order = ask(server, f"/orders/{id}")
        if reached(order):
            return order
        time.sleep(0.005)
    raise AssertionError(order)


def test_an_order_is_paid_approved_and_shipped(orders: Path) -> None:
    with dev(orders) as server:
        small = ask(server, "/orders", {"amount": 5})["id"]
        large = ask(server, "/orders", {"id": "large", "amount": 500})["id"]
        done = until(server, small, lambda order: order["status"] == "complete")
        assert done["output"] == f"book for r-{small}"
        assert done["ledger"] == [
            *("paid", "payment failed 1", "payment failed 2", "reserved", "shipped")
        ]
        waiting = until(server, large, lambda order: order["status"] == "waiting")
        assert "shipped" not in waiting["ledger"]
        ask(server, "/orders/large/approve", {"approved": True})
        assert "shipped" in until(server, large, lambda one: one["status"] == "complete")["ledger"]
        assert server.fetch("/orders/none")[0] == 404
        assert server.fetch("/orders", "POST", '{"id": "large", "amount": 1}')[0] == 500


def test_a_refused_order_is_refunded(orders: Path) -> None:
    with dev(orders) as server:
        name = ask(server, "/orders", {"amount": 500})["id"]
        ask(server, f"/orders/{name}/approve", {"approved": False})
        order = until(server, name, lambda order: order["status"] == "errored")
        assert order["error"] == "the order was refused"
        assert {"released", f"refunded r-{name}"} <= set(order["ledger"])
        assert "shipped" not in order["ledger"]


# What the ledgers have when the server is killed, and started again, until the next of these.
MOMENTS = ["reserved", "payment failed 1", "payment failed 2", "paid", "approved", "shipped"]
ENDS = ("complete", "errored")


def test_killed_at_every_step_orders_are_finished(orders: Path) -> None:
    for at, moment in enumerate(MOMENTS):
        with dev(orders) as server:
            for name in ("yes", "no"):
                if at == 0:
                    ask(server, "/orders", {"id": name, "amount": 500})
                if moment == "approved":
                    until(server, name, lambda order: order["status"] == "waiting")
                    ask(server, f"/orders/{name}/approve", {"approved": name == "yes"})
                else:
                    until(server, name, partial(_has, moment))
            server.process.send_signal(signal.SIGKILL)
            server.process.wait(PATIENCE)
    with dev(orders) as server:
        yes, no = (
            until(server, name, lambda order: order["status"] in ENDS) for name in ("yes", "no")
        )
    before = ["paid", "payment failed 1", "payment failed 2"]
    assert yes["output"] == "book for r-yes"
    assert yes["ledger"] == [*before, "reserved", "shipped"]
    assert no["error"] == "the order was refused"
    assert no["ledger"] == [*before, "refunded r-no", "released", "reserved"]


def _has(moment: str, order: Any) -> bool:
    return moment in order["ledger"] or order["status"] in ENDS
