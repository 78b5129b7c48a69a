"""What romanad answers when something is wrong, byte by byte."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import aiohttp

from tests.probes.programs import romanad

NETWORKS = [{"name": "pods", "cidr": "10.1.0.0/16"}]
PLAN = {
    "version": 1,
    "networks": NETWORKS,
    "topologies": [{"name": "t", "networks": ["pods"], "groups": [{"name": "rack", "hosts": []}]}],
}
POLICY = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": {"name": "deny", "namespace": "blue"},
    "spec": {"podSelector": {}, "policyTypes": ["Ingress"]},
}


def test_weak_point_22_an_error_has_its_status_its_sentence_and_its_faults(tmp_path: Path) -> None:
    async def body() -> None:
        connector = aiohttp.UnixConnector(str(tmp_path / "romanad.sock"))
        async with aiohttp.ClientSession("http://romanad", connector=connector) as session:

            async def ask(method: str, path: str, document: Any = None) -> tuple[int, Any]:
                async with session.request(method, path, json=document) as answer:
                    return answer.status, await answer.json(content_type=None)

            assert (await ask("PUT", "/v1/topology", PLAN))[0] == 200
            status, told = await ask("PUT", "/v1/topology", {**PLAN, "networks": [{"name": "pods", "colour": 1}]})
            assert (status, told["title"]) == (422, "invalid")
            assert {fault["path"] for fault in told["faults"]} >= {"networks[0].colour", "networks[0].cidr"}
            status, told = await ask("GET", "/v1/tenants/nobody")
            assert (status, told["title"]) == (404, "not-found")
            assert "romana tenant list" in told["detail"]
            stale = {"report": {"incarnation": "x", "revision": 1, "audit": 1, "patience": 1}}
            status, told = await ask("POST", "/v1/ipam/repair", stale)
            assert (status, told["title"]) == (409, "conflict")
            assert "check again" in told["detail"]
            assert (await ask("PUT", "/v1/tenants/blue", {}))[0] == 200
            status, (policy,) = await ask("POST", "/v1/policies", POLICY)
            assert await ask("GET", f"/v1/policies/{policy['id']}") == (status, policy) == (200, policy)
            for _ in range(2):
                hello = {"host": "h1", "instance": "i", "addresses": ["192.0.2.1"], "labels": {"rack": "1"}}
                assert (await ask("POST", "/v1/hosts/h1/hello", hello))[0] == 200
            status, found = await ask("GET", "/v1/hosts")
            assert [(host["name"], host["labels"]) for host in found["items"]] == [("h1", {"rack": "1"})]

    with romanad(tmp_path):
        asyncio.run(body())
