"""Clients of the agents: containers come and go on every host, several at once, and every answer is recorded.

Owns the requests and the record. What a client does next depends on its seed and on the answers it got.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import random
import threading
import time
from collections.abc import Iterable
from pathlib import Path

import msgspec

from romana.codec.cni_wire import LENGTH_SIZE, frame_length, read_answer, write_request
from tests.faults.history import Operation, Outcome, Verb

PLUGIN = Path(__file__).parents[2] / "build" / "romana-cni"
OWNERS = ("red/web", "red/db", "blue/web", "green/web")
SECONDS = 60.0
"""A client that waits longer for an answer has found a fault."""
CONFIGURATION = json.dumps({"cniVersion": "1.1.0", "name": "romana", "type": "romana-cni"}).encode()
_CLONE_NEWNET = 0x40000000


class Space:
    """An empty network namespace for a container. It lives as long as this object is open, at most as this process."""

    def __init__(self) -> None:
        self._descriptor = -1
        thread = threading.Thread(target=self._make)
        thread.start()
        thread.join()
        self.path = f"/proc/{os.getpid()}/fd/{self._descriptor}"

    def _make(self) -> None:
        assert ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
        self._descriptor = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)

    def close(self) -> None:
        """Let it go."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class Container(msgspec.Struct, kw_only=True):
    """A container that its client knows. `there` is None when the client does not know whether it is attached."""

    name: str
    owner: str
    space: Space
    there: bool | None = False


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """One answer; `outcome` None when the request never reached an agent."""

    outcome: Outcome | None
    addresses: tuple[str, ...] = ()
    words: str = ""


class Clients:
    """Everybody who uses the agents of a site; `operations` is what they were told."""

    def __init__(self, sockets: dict[str, Path], seed: str) -> None:
        """`sockets` are the agents', by host."""
        self.operations: list[Operation] = []
        self.seed = seed
        self.doubtful = False
        """Whether an ADD that failed may have left something, because a disk refused even to forget it."""
        self._sockets = sockets
        self._going = False
        self._containers: dict[str, list[Container]] = {host: [] for host in sockets}
        self._tasks: list[asyncio.Task[None]] = []
        self._names = 0

    @property
    def containers(self) -> dict[str, list[str]]:
        """All containers that somebody asked for, by host."""
        found: dict[str, list[str]] = {host: [] for host in self._sockets}
        for host, name in sorted({(one.host, one.container) for one in self.operations}):
            found[host].append(name)
        return found

    def start(self, at_once: int = 8, pause: float = 1.5, hosts: Iterable[str] = ()) -> None:
        """Begin to add and delete, `at_once` clients on each host, each pausing at most so many seconds."""
        self._going = True
        self._tasks += [
            asyncio.create_task(self._client(host, number, pause))
            for host in hosts or self._sockets
            for number in range(at_once)
        ]

    async def stop(self) -> None:
        """Let every client finish what it has begun."""
        self._going = False
        tasks, self._tasks = self._tasks, []
        await asyncio.gather(*tasks)

    async def resolve(self) -> None:
        """Ask until everybody knows what is there: what is in doubt is deleted, or added again."""
        choice = random.Random(f"{self.seed}/resolve")
        doubtful = [
            (host, one, choice.random() < 0.5)
            for host, containers in self._containers.items()
            for one in containers
            if one.there is None
        ]
        await asyncio.gather(*(self._settle(host, one, add=add) for host, one, add in doubtful))

    async def drain(self) -> None:
        """Delete everything."""
        every = [(host, one) for host, containers in self._containers.items() for one in containers]
        await asyncio.gather(*(self._settle(host, one, add=False) for host, one in every if one.there is not False))
        for _, one in every:
            one.space.close()
        self._containers = {host: [] for host in self._sockets}

    async def add(self, host: str, owner: str = OWNERS[0]) -> Told:
        """One more container, once."""
        return await self._ask(host, Verb.ADD, self._new(host, owner))

    async def probe(self, path: Path, name: str) -> Told:
        """Ask the agent at a socket that is no host's for one more container, and end it; nothing is recorded."""
        one = Container(name=name, owner=OWNERS[0], space=Space())
        try:
            told = await _by_socket(path, _environment(Verb.ADD, one))
            if told.outcome is Outcome.DONE:
                await _by_socket(path, _environment(Verb.DEL, one))
            return told
        finally:
            one.space.close()

    async def _settle(self, host: str, one: Container, *, add: bool) -> None:
        until = time.monotonic() + SECONDS
        while one.there is not add:
            told = await self._ask(host, Verb.ADD if add else Verb.DEL, one)
            assert time.monotonic() < until, f"{one.name} on {host} comes to no end: {told}"
            if add and told.outcome is Outcome.FAILED:  # as runtimes do
                await self._ask(host, Verb.DEL, one)
            if one.there is not add:
                await asyncio.sleep(0.1)

    async def _client(self, host: str, number: int, pause: float) -> None:
        choice = random.Random(f"{self.seed}/{host}/{number}")
        mine: list[Container] = [self._new(host, choice.choice(OWNERS)) for _ in range(2)]
        while self._going:
            await asyncio.sleep(choice.uniform(0, pause))
            at = choice.randrange(len(mine))
            one = mine[at]
            plugin = choice.random() < 0.1
            if one.there is None:
                await self._ask(host, choice.choice((Verb.ADD, Verb.DEL)), one, plugin=plugin)
            elif one.there:
                await self._ask(host, Verb.DEL if choice.random() < 0.7 else Verb.ADD, one, plugin=plugin)
            else:
                if choice.random() < 0.5:
                    self._containers[host].remove(one)
                    one.space.close()
                    one = mine[at] = self._new(host, choice.choice(OWNERS))
                told = await self._ask(host, Verb.ADD, one, plugin=plugin)
                if told.outcome is Outcome.FAILED and choice.random() < 0.5:  # as runtimes do, not always
                    await self._ask(host, Verb.DEL, one)

    def _new(self, host: str, owner: str) -> Container:
        self._names += 1
        one = Container(name=f"{host}-c{self._names}", owner=owner, space=Space())
        self._containers[host].append(one)
        return one

    async def _ask(self, host: str, verb: Verb, one: Container, *, plugin: bool = False) -> Told:
        """One request, recorded; afterwards `one.there` is what is known."""
        invoked = time.monotonic()
        ask = _by_plugin if plugin else _by_socket
        try:
            async with asyncio.timeout(SECONDS):
                told = await ask(self._sockets[host], _environment(verb, one))
        except TimeoutError:
            raise AssertionError(f"{verb} of {one.name} on {host} had no answer within {SECONDS:g} s") from None
        if told.outcome is None:
            await asyncio.sleep(0.05)
            return told
        self.operations.append(
            Operation(
                verb=verb,
                host=host,
                container=one.name,
                invoked=invoked,
                ended=time.monotonic(),
                outcome=told.outcome,
                addresses=told.addresses,
                words=told.words,
            )
        )
        if told.outcome is Outcome.DONE:
            one.there = verb is Verb.ADD
        elif one.there or (verb is Verb.ADD and (told.outcome is Outcome.UNKNOWN or self.doubtful)):
            one.there = None
        return told


def _environment(verb: Verb, one: Container) -> dict[str, str]:
    tenant, _, segment = one.owner.partition("/")
    return {
        "CNI_COMMAND": verb.value.upper(),
        "CNI_CONTAINERID": one.name,
        "CNI_IFNAME": "eth0",
        "CNI_NETNS": one.space.path,
        "CNI_ARGS": f"ROMANA_TENANT={tenant};ROMANA_SEGMENT={segment}",
    }


async def _by_socket(path: Path, environment: dict[str, str]) -> Told:
    try:
        reader, writer = await asyncio.open_unix_connection(str(path))
    except OSError as error:
        return Told(outcome=None, words=str(error))
    try:
        writer.write(write_request(environment, CONFIGURATION))
        await writer.drain()
        length = frame_length(await reader.readexactly(LENGTH_SIZE))
        return _told(*read_answer(await reader.readexactly(length)))
    except (OSError, asyncio.IncompleteReadError) as error:
        return Told(outcome=Outcome.UNKNOWN, words=repr(error))
    finally:
        writer.close()


async def _by_plugin(path: Path, environment: dict[str, str]) -> Told:
    process = await asyncio.create_subprocess_exec(
        str(PLUGIN),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**environment, "ROMANA_AGENT_SOCKET": str(path)},
    )
    output, _ = await process.communicate(CONFIGURATION)
    assert process.returncode is not None
    told = _told(process.returncode, output)
    if told.words.startswith("11: romana-agent is not reachable"):
        asked = "connecting" not in told.words and "take the connection" not in told.words
        return Told(outcome=Outcome.UNKNOWN if asked else None, words=told.words)
    return told


def _told(status: int, output: bytes) -> Told:
    body = json.loads(output) if output else {}
    if status:
        words = f"{body.get('code')}: {body.get('msg')} {body.get('details', '')}"
        return Told(outcome=Outcome.FAILED, words=words.strip())
    addresses = tuple(one["address"].partition("/")[0] for one in body.get("ips", ()))
    return Told(outcome=Outcome.DONE, addresses=addresses)
