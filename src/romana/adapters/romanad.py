"""The client of romanad: for agents ports.ControlPlane, for people plain calls.

Owns the connection and the reading of answers. Invariant: an error that romanad answers with comes back as the same
class with every fault, and one on the way to it as Unavailable.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, TypeVar
from urllib.parse import quote

import aiohttp
import msgspec

from romana.adapters.tcp import new_socket
from romana.codec.json import decode, encode
from romana.model.daemon import DaemonReport
from romana.model.endpoint import Endpoint
from romana.model.errors import (
    AlreadyExists,
    Conflict,
    Exhausted,
    Fault,
    Invalid,
    NotFound,
    RomanaError,
    Unavailable,
)
from romana.model.flow import Flow
from romana.model.ipam import Reservation
from romana.model.report import Observation
from romana.model.view import (
    AddressUse,
    Claim,
    ClaimAnswer,
    Heartbeat,
    HeartbeatAnswer,
    Hello,
    Inventory,
    InventoryAnswer,
    Publication,
    RouterView,
    ToldFlows,
    ViewChange,
    Welcome,
)
from romana.model.vpc import OwnedRoutes, VpcPlan

DEFAULT_URL = "unix:///run/romana/romanad.sock"
TIME_LIMIT = 30.0
"""Seconds for one call."""
ERRORS: dict[str, type[RomanaError]] = {
    kind.reason: kind for kind in (NotFound, AlreadyExists, Conflict, Exhausted, Unavailable)
}
T = TypeVar("T")


class _Problem(msgspec.Struct):
    title: str
    detail: str = ""
    faults: tuple[Fault, ...] = ()


class RomanadClient:
    """One romanad, at `unix:///path/of/socket` or `http://host:port`. Use it inside one event loop; close it."""

    def __init__(self, url: str = DEFAULT_URL) -> None:
        self.url = url
        scheme, _, rest = url.partition("://")
        if scheme not in ("unix", "http") or not rest:
            raise Invalid(Fault("server", f"{url!r} is neither unix:///path nor http://host:port"))
        self._path = rest if scheme == "unix" else None
        self._base = "http://romanad" if scheme == "unix" else url.rstrip("/")
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> RomanadClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """End the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def get(self, path: str) -> Any:
        """GET; the answer as plain JSON objects."""
        return msgspec.json.decode(await self._call("GET", path))

    async def put(self, path: str, body: object | None = None) -> Any:
        """PUT; bytes or text go as they are (a document), anything else as JSON."""
        return msgspec.json.decode(await self._call("PUT", path, body))

    async def post(self, path: str, body: object | None = None) -> Any:
        """POST, as PUT."""
        return msgspec.json.decode(await self._call("POST", path, body))

    async def delete(self, path: str) -> Any:
        """DELETE."""
        return msgspec.json.decode(await self._call("DELETE", path))

    async def items(self, path: str) -> list[Any]:
        """All items of a list, page by page."""
        found: list[Any] = []
        joint = "&" if "?" in path else "?"
        after = ""
        while True:
            page = await self.get(f"{path}{joint}after={quote(after, safe='')}" if after else path)
            found += page["items"]
            if page["next"] is None:
                return found
            after = page["next"]

    async def watch(self, path: str) -> AsyncIterator[bytes]:
        """The lines of a stream, until it ends; Unavailable when the connection breaks."""
        limit = aiohttp.ClientTimeout(total=None, connect=TIME_LIMIT)
        try:
            async with self._open().get(self._base + path, timeout=limit) as response:
                if response.status != 200:
                    raise _error(await response.read(), response.status)
                buffer = bytearray()
                async for part in response.content.iter_any():
                    buffer += part
                    while (end := buffer.find(b"\n")) >= 0:
                        line = bytes(buffer[:end])
                        del buffer[: end + 1]
                        yield line
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._away(error) from error

    async def hello(self, hello: Hello) -> Welcome:
        """Report in."""
        return decode(await self._call("POST", f"/v1/hosts/{hello.host}/hello", hello), Welcome)

    async def claim(self, claim: Claim) -> ClaimAnswer:
        """Ask for room."""
        return decode(await self._call("POST", f"/v1/hosts/{claim.host}/claims", claim), ClaimAnswer)

    async def use_addresses(self, use: AddressUse) -> Reservation:
        """Begin to use fixed addresses."""
        owner = use.identity.owner
        user = {
            "host": use.host,
            "endpoint": use.endpoint,
            "tenant": owner.tenant,
            "segment": owner.segment,
            "labels": use.identity.labels,
            "epoch": use.epoch,
        }
        if not use.addresses:
            path = f"/v1/addresses/{quote(use.name, safe='')}/use"
            return decode(await self._call("PUT", path, user), Reservation)
        wanted = {"name": use.name, "addresses": [str(one) for one in use.addresses], **user}
        return decode(await self._call("POST", "/v1/addresses", wanted), Reservation)

    async def publish(self, publication: Publication) -> int:
        """Say what was done."""
        return decode(await self._call("POST", f"/v1/hosts/{publication.host}/publications", publication), int)

    async def heartbeat(self, heartbeat: Heartbeat) -> HeartbeatAnswer:
        """Renew the host's lease."""
        return decode(await self._call("POST", f"/v1/hosts/{heartbeat.host}/heartbeats", heartbeat), HeartbeatAnswer)

    async def inventory(self, inventory: Inventory) -> InventoryAnswer:
        """Say what the host holds."""
        return decode(await self._call("POST", f"/v1/hosts/{inventory.host}/inventory", inventory), InventoryAnswer)

    async def observe(self, observation: Observation) -> int:
        """Say what the host has."""
        return decode(await self._call("POST", f"/v1/hosts/{observation.host}/observations", observation), int)

    async def report(self, report: DaemonReport) -> None:
        """Say how the device's routing daemon is."""
        await self._call("POST", f"/v1/devices/{quote(report.device, safe='')}/report", report)

    async def router_view(self, router: str) -> AsyncIterator[RouterView]:
        """The router's view; always ends with an error, Unavailable when the connection does."""
        async for line in self.watch(f"/v1/routers/{quote(router, safe='')}/view"):
            yield decode(line, RouterView)
        raise Unavailable(f"romanad at {self.url} ended the stream")

    async def endpoints(self, host: str) -> tuple[Endpoint, ...]:
        """The endpoints of a host that are published."""
        found = await self.items(f"/v1/endpoints?host={quote(host, safe='')}")
        return tuple(decode(msgspec.json.encode(one), Endpoint) for one in found)

    async def tell_flows(self, host: str, epoch: int, flows: Sequence[Flow]) -> None:
        """Tell of packets."""
        await self._call("POST", f"/v1/hosts/{host}/flows", ToldFlows(epoch=epoch, flows=tuple(flows)))

    async def vpc_plan(self, lease: str) -> VpcPlan:
        """What VPC route tables should have."""
        return decode(await self._call("GET", f"/v1/routes/vpc?lease={quote(lease, safe='')}"), VpcPlan)

    async def own_vpc_routes(self, table: str, owned: OwnedRoutes) -> None:
        """Write down what is ours in a VPC route table."""
        await self._call("PUT", f"/v1/routes/vpc/tables/{quote(table, safe='')}", owned)

    async def hold_lease(self, name: str, holder: str, seconds: int) -> None:
        """Get or keep a lease; Conflict while another program has it."""
        await self._call("PUT", f"/v1/leases/{name}", {"holder": holder, "seconds": seconds})

    async def drop_lease(self, name: str, holder: str) -> None:
        """Give it up."""
        await self._call("DELETE", f"/v1/leases/{name}?holder={quote(holder, safe='')}")

    async def view(self, host: str) -> AsyncIterator[ViewChange]:
        """The host's view; always ends with an error, Unavailable when the connection does."""
        async for line in self.watch(f"/v1/hosts/{host}/view"):
            yield decode(line, ViewChange)
        raise Unavailable(f"romanad at {self.url} ended the stream")

    async def _call(self, method: str, path: str, body: object | None = None) -> bytes:
        data = body.encode() if isinstance(body, str) else body
        if data is not None and not isinstance(data, bytes):
            data = encode(data)
        try:
            async with self._open().request(method, self._base + path, data=data) as response:
                answer = await response.read()
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise self._away(error) from error
        if response.status != 200:
            raise _error(answer, response.status)
        return answer

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = (
                aiohttp.UnixConnector(self._path) if self._path else aiohttp.TCPConnector(socket_factory=new_socket)
            )
            self._session = aiohttp.ClientSession(
                connector=connector, timeout=aiohttp.ClientTimeout(total=TIME_LIMIT), auto_decompress=False
            )
        return self._session

    def _away(self, error: Exception) -> Unavailable:
        if isinstance(error, aiohttp.ClientConnectorError):  # its own words are about its internals
            error = error.os_error
        why = (error.strerror if isinstance(error, OSError) else "") or str(error) or type(error).__name__
        return Unavailable(f"romanad at {self.url} does not answer ({why}); is it running?")


def _error(answer: bytes, status: int) -> RomanaError:
    try:
        problem = decode(answer, _Problem)
    except (msgspec.DecodeError, ValueError):
        return Unavailable(f"romanad answered with status {status} and no reason")
    if problem.title == Invalid.reason:
        return Invalid(*(problem.faults or (Fault("", problem.detail),)))
    return ERRORS.get(problem.title, RomanaError)(problem.detail)
