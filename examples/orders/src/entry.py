"""Orders: a payment that is tried until it works, an approval that may take days, and a refund.

    POST /orders               {"amount": 120}        begins an order
    GET  /orders/<id>                                 where it stands, and what was done
    POST /orders/<id>/approve  {"approved": true}     decides about an order of 100 or more

Kill the server whenever you like: what was done is not done again, and the rest is done when it is
back. The LEDGER stands for the world outside: each line is an effect that happened there.
"""

from urllib.parse import urlparse

from workers import Response, WorkerEntrypoint, WorkflowEntrypoint
from workers.workflows import NonRetryableError


class Order(WorkflowEntrypoint):
    async def run(self, event, step):
        order, amount = event.instanceId, event.payload["amount"]

        async def note(line):
            # An effect with a name of its own, so that a step that is repeated after a crash
            # in its very end leaves one.
            await self.env.LEDGER.put(f"{order}/{line}", "done")

        async def reserve():
            await note("reserved")
            return {"sku": "book", "amount": amount}

        async def release(told):
            await note("released")

        async def pay(ctx):
            if ctx.attempt < 3:
                await note(f"payment failed {ctx.attempt}")
                raise RuntimeError("the bank is busy")
            await note("paid")
            return {"receipt": f"r-{order}", "attempts": ctx.attempt}

        async def refund(told):
            if told.output is not None:
                await note(f"refunded {told.output['receipt']}")

        reserved = await step.do("reserve", reserve, rollback=release)
        payment = await step.do(
            "pay",
            {"retries": {"limit": 5, "delay": 50, "backoff": "constant"}},
            pay,
            {"rollback": refund},
        )
        if amount >= 100:
            decision = await step.wait_for_event("approval", "approval", timeout="7 days")
            if not decision.payload["approved"]:

                async def refuse():
                    raise NonRetryableError("the order was refused")

                await step.do("refuse", refuse)
        await step.sleep("pack", 50)

        async def ship():
            await note("shipped")
            return f"{reserved['sku']} for {payment['receipt']}"

        return await step.do("ship", ship)


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        parts = [part for part in urlparse(request.url).path.split("/") if part]
        if parts[:1] != ["orders"]:
            return Response("POST /orders", status=404)
        if len(parts) == 1 and request.method == "POST":
            body = await request.json()
            order = await self.env.ORDERS.create({"id": body.get("id"), "params": body})
            return Response.json({"id": order.id}, status=201)
        try:
            order = await self.env.ORDERS.get(parts[1])
        except Exception as error:
            return Response(str(error), status=404)
        if parts[2:] == ["approve"] and request.method == "POST":
            await order.send_event({"type": "approval", "payload": await request.json()})
            return Response(status=202)
        listed = await self.env.LEDGER.list({"prefix": f"{order.id}/"})
        ledger = [key.name.split("/", 1)[1] for key in listed["keys"]]
        status = await order.status()
        return Response.json(
            {
                "status": status.status,
                "output": status.output,
                "error": status.error and status.error.message,
                "ledger": ledger,
            }
        )
