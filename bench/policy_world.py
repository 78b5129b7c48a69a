"""A cluster for the policy benchmark: namespaces with endpoints on hosts that are only names, and a policy in each.

Owns filling a romanad through its API, as agents and people do. Measures nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

from romana.adapters.romanad import RomanadClient
from romana.model.endpoint import Endpoint, endpoint_id
from romana.model.ipam import Allocation
from romana.model.tenancy import Identity, Owner
from romana.model.view import Claim, Hello, Publication
from romana.services.agent.attachments import link_name

AT_ONCE = 16
PER_NAMESPACE = 10
"""Endpoints of a namespace: half of them `web`, half `api`."""
PER_HOST = 100
SEGMENT = "default"
T = TypeVar("T")


def namespace(number: int) -> str:
    """The name of a namespace."""
    return f"ns-{number:04}"


def identity(number: int, app: str) -> Identity:
    """Who the endpoints of an app of a namespace are."""
    return Identity(owner=Owner(namespace(number), SEGMENT), labels={"app": app})


def policy(number: int, name: str, source: str, port: int, protocol: str = "TCP") -> dict[str, Any]:
    """A NetworkPolicy: `web` takes one port from `source` of its namespace."""
    rule = {
        "from": [{"podSelector": {"matchLabels": {"app": source}}}],
        "ports": [{"protocol": protocol, "port": port}],
    }
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": namespace(number)},
        "spec": {
            "podSelector": {"matchLabels": {"app": "web"}},
            "policyTypes": ["Ingress"],
            "ingress": [rule],
        },
    }


async def fill(client: RomanadClient, namespaces: int, *, first_remote: int) -> None:
    """Namespaces with their policies, ten kinds of ports; endpoints of those from `first_remote` on, on other hosts."""
    await _many(range(namespaces), lambda number: _namespace(client, number))
    documents = [policy(number, "web-from-api", "api", 8000 + number % 10) for number in range(namespaces)]
    for start in range(0, namespaces, 250):
        await client.post("/v1/policies", documents[start : start + 250])
    per_host = PER_HOST // PER_NAMESPACE
    groups = [range(start, min(start + per_host, namespaces)) for start in range(first_remote, namespaces, per_host)]
    await _many(enumerate(groups), lambda one: _host(client, f"far-{one[0]:04}", one[1]))


async def _namespace(client: RomanadClient, number: int) -> None:
    name = namespace(number)
    await client.put(f"/v1/tenants/{name}", {"isolation": "none", "own_host": True})
    await client.put(f"/v1/tenants/{name}/segments/{SEGMENT}", {})


async def _host(client: RomanadClient, name: str, namespaces: range) -> None:
    """A host that says what an agent would say of a hundred endpoints."""
    await client.put(f"/v1/hosts/{name}", {"labels": {"rack": "far"}})
    epoch = (await client.hello(Hello(host=name, instance=f"i-{name}", labels={"rack": "far"}))).epoch
    started: list[Endpoint] = []
    for number in namespaces:
        for app in ("web", "api"):
            who = identity(number, app)
            blocks = (await client.claim(Claim(host=name, epoch=epoch, identity=who))).blocks
            for each in range(PER_NAMESPACE // 2):
                id_ = endpoint_id(f"{name}-{number}-{app}-{each}", "eth0")
                allocations = tuple(
                    Allocation(address=block.address(each), block=block, endpoint=id_, sequence=1) for block in blocks
                )
                started.append(
                    Endpoint(
                        id=id_,
                        name=f"{app}-{each}",
                        host=name,
                        identity=who,
                        allocations=allocations,
                        link=link_name(id_),
                    )
                )
    await client.publish(Publication(host=name, epoch=epoch, number=1, started=tuple(started)))


async def _many(items: Iterable[T], work: Callable[[T], Awaitable[None]]) -> None:
    turns = asyncio.Semaphore(AT_ONCE)

    async def one(item: T) -> None:
        async with turns:
            await work(item)

    await asyncio.gather(*map(one, items))
