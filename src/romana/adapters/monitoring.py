"""What monitoring asks a program by HTTP: `/metrics`, `/healthz` and `/readyz`.

Owns the listener. Refuses to know what is measured. Anybody who reaches it may read, so it belongs on loopback or on a
network of the operator's.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager

from aiohttp import web

from romana.adapters.prometheus import MEDIA, exposition
from romana.model.errors import Unavailable
from romana.model.metric import Metric


@asynccontextmanager
async def monitored(
    listen: str, metrics: Callable[[], Iterable[Metric]], unready: Callable[[], str]
) -> AsyncIterator[None]:
    """Answer at `host:port` meanwhile. `unready` says why the program is not ready, empty when it is.

    Unavailable when nothing can listen there.
    """

    async def scrape(_: web.Request) -> web.Response:
        return web.Response(body=exposition(metrics()), headers={"Content-Type": MEDIA})

    async def healthy(_: web.Request) -> web.Response:
        return web.Response(text="healthy\n")

    async def ready(_: web.Request) -> web.Response:
        why = unready()
        return web.Response(text=f"{why or 'ready'}\n", status=503 if why else 200)

    service = web.Application()
    service.add_routes([web.get("/metrics", scrape), web.get("/healthz", healthy), web.get("/readyz", ready)])
    runner = web.AppRunner(service, access_log=None)
    await runner.setup()
    try:
        host, _, port = listen.rpartition(":")
        try:
            await web.TCPSite(runner, host.strip("[]"), int(port)).start()
        except OSError as error:
            raise Unavailable(f"nothing can listen on {listen} for monitoring: {error.strerror}") from error
        yield
    finally:
        await runner.cleanup()
