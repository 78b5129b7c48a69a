"""CNI requests answered by the agent's services.

Owns which verb calls what, and the table's use: every error becomes the document of its code. Refuses to know sockets.
Invariant: a request always gets an answer, an exit status and what the plugin prints.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import msgspec
import structlog

from romana.adapters.linux import netns
from romana.apps.agent.config import CniSection
from romana.codec.cni import (
    CniRequest,
    Verb,
    read_addresses,
    read_labels,
    read_ports,
    read_request,
    spoken,
    version_answer,
)
from romana.codec.cni_errors import (
    BAD_CONFIG,
    BAD_ENVIRONMENT,
    DIFFERS,
    INTERNAL,
    NOT_AVAILABLE,
    UNKNOWN_CONTAINER,
    CniFailure,
    error_document,
    failure_from_error,
)
from romana.codec.cni_result import add_result, differences
from romana.model.endpoint import endpoint_id
from romana.model.errors import NotFound, RomanaError, Unavailable
from romana.model.tenancy import Identity, Owner
from romana.services.agent.agent import Agent
from romana.services.agent.attachments import Wanted
from romana.services.agent.metrics import Requests

log = structlog.get_logger()
VERBS = frozenset(Verb)


class Cni:
    """The plugin's other half."""

    def __init__(self, agent: Agent, settings: CniSection, mtu: int) -> None:
        """`mtu` is for configurations that name none."""
        self._agent = agent
        self._settings = settings
        self._mtu = mtu
        self.requests = Requests()

    async def answer(self, environment: Mapping[str, str], stdin: bytes) -> tuple[int, bytes]:
        """Exit status and standard output for one run of the plugin."""
        began = time.monotonic()
        status, output = await self._answer(environment, stdin)
        verb = environment.get("CNI_COMMAND", "")
        self.requests.note(
            verb if verb in VERBS else "unknown", "failed" if status else "done", time.monotonic() - began
        )
        return status, output

    async def _answer(self, environment: Mapping[str, str], stdin: bytes) -> tuple[int, bytes]:
        version = ""
        try:
            request = read_request(environment, stdin)
            version = request.config.cni_version
            result = await self._verb(request)
        except CniFailure as failure:
            return 1, _refusal(failure, failure.version or version)
        except RomanaError as error:
            log.warning(
                "a request failed", command=environment.get("CNI_COMMAND"), error=str(error), reason=error.reason
            )
            return 1, _refusal(failure_from_error(error), version)
        except Exception:
            log.exception("a request met a defect", command=environment.get("CNI_COMMAND"))
            return 1, _refusal(CniFailure(INTERNAL, "a defect in romana-agent; its log says more"), version)
        return 0, b"" if result is None else msgspec.json.encode(result)

    async def _verb(self, request: CniRequest) -> dict[str, Any] | None:
        match request.verb:
            case Verb.ADD:
                return await self._add(request)
            case Verb.DEL:
                await self._agent.attachments.delete(request.container, request.interface)
            case Verb.CHECK:
                await self._check(request)
            case Verb.GC:
                attachments = request.config.valid_attachments or ()
                listed = {endpoint_id(one.container, one.interface) for one in attachments}
                await self._agent.attachments.collect(listed, patience=self._settings.gc_seconds)
            case Verb.STATUS:
                self._status()
            case Verb.VERSION:
                return version_answer(request.config.cni_version)
        return None

    async def _add(self, request: CniRequest) -> dict[str, Any]:
        identity = self._identity(request.args)
        try:
            with netns.opened(request.netns):
                pass
        except NotFound as error:
            raise CniFailure(BAD_ENVIRONMENT, f"CNI_NETNS: {error}") from error
        wanted = Wanted(
            container=request.container,
            interface=request.interface,
            netns=request.netns,
            identity=identity,
            name=_name(request),
            mtu=request.config.mtu or self._mtu,
            reservation=request.args.get("ROMANA_ADDRESS", ""),
            addresses=read_addresses(request),
        )
        attached = await self._agent.attachments.add(wanted)
        return add_result(request, attached.endpoint, attached.host_mac)

    async def _check(self, request: CniRequest) -> None:
        try:
            endpoint, missing = await self._agent.attachments.check(request.container, request.interface)
        except NotFound as error:
            raise CniFailure(UNKNOWN_CONTAINER, str(error)) from error
        missing += differences(request, endpoint)
        if missing:
            raise CniFailure(DIFFERS, f"{endpoint.id} is not as it should be: {missing[0]}", "\n".join(missing))

    def _status(self) -> None:
        try:
            self._agent.check_ready()
        except Unavailable as error:
            raise CniFailure(NOT_AVAILABLE, str(error)) from error

    def _identity(self, args: Mapping[str, str]) -> Identity:
        if not self._settings.identity_from_args:
            raise CniFailure(
                BAD_CONFIG,
                "nobody says who this endpoint is: the agent takes no identity from CNI_ARGS",
                "set identity_from_args = true in [cni] of agent.toml where everybody who runs the plugin is trusted",
            )
        missing = [name for name in ("ROMANA_TENANT", "ROMANA_SEGMENT") if not args.get(name)]
        if missing:
            raise CniFailure(
                BAD_ENVIRONMENT, f"CNI_ARGS: {' and '.join(missing)} missing; they say who the endpoint is"
            )
        owner = Owner(args["ROMANA_TENANT"], args["ROMANA_SEGMENT"])
        labels, ports = read_labels(args.get("ROMANA_LABELS", "")), read_ports(args.get("ROMANA_PORTS", ""))
        return Identity(owner=owner, labels=labels, ports=ports)


def _name(request: CniRequest) -> str:
    namespace, pod = request.args.get("K8S_POD_NAMESPACE"), request.args.get("K8S_POD_NAME")
    return f"{namespace}/{pod}" if namespace and pod else request.container


def _refusal(failure: CniFailure, version: str) -> bytes:
    return msgspec.json.encode(error_document(failure, spoken(version)))
