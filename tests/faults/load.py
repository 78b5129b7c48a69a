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
from collections import Counter
from collections.abc import Iterable, Mapping
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
    """A container that its client knows, which asks for the addresses of the name that is `fixed` if any. `there` is
    None when the client does not know whether it is attached.
    """

    name: str
    owner: str
    space: Space
    fixed: str = ""
    there: bool | None = False


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """One answer; `outcome` None when the request never reached an agent."""

    outcome: Outcome | None
    addresses: tuple[str, ...] = ()
    words: str = ""


class Clients:
    """Everybody who uses the agents of a site; `operations` is what they were told."""

    def __init__(self, sockets: dict[str, Path], seed: str, names: Mapping[str, str]) -> None:
        """`sockets` are the agents', by host; `names` are sticky ones with their owners, for which clients compete."""
        self.operations: list[Operation] = []
        self.seed = seed
        self.doubtful = False
        """Whether an ADD that failed may have left something, because a disk refused even to forget it."""
        self._sockets = sockets
        self._fixed = sorted(names.items())
        self._going = False
        self._away: set[str] = set()
        self._busy = Counter(dict.fromkeys(sockets, 0))
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
            (host, one, choice.random() < 0.5 and not one.fixed)  # another one may have the name by now
            for host, containers in self._containers.items()
            for one in containers
            if one.there is None
        ]
        await asyncio.gather(*(self._settle(host, one, add=add) for host, one, add in doubtful))

    async def drain(self) -> None:
        """Delete everything."""
        await self._delete([(host, one) for host, containers in self._containers.items() for one in containers])
        for host in self._sockets:
            self.forget(host)

    async def _delete(self, every: Iterable[tuple[str, Container]]) -> None:
        await asyncio.gather(*(self._settle(host, one, add=False) for host, one in every if one.there is not False))

    async def leave(self, host: str) -> None:
        """Start nothing on a host any more, until `come_back`; what it has goes on."""
        self._away.add(host)
        while self._busy[host]:  # noqa: ASYNC110 - a request ends by itself
            await asyncio.sleep(0.01)

    def come_back(self, host: str) -> None:
        """Use a host again."""
        self._away.discard(host)

    async def clear(self, host: str) -> None:
        """Delete everything on a host that was left."""
        await self._delete([(host, one) for one in self._containers[host]])
        self.forget(host)

    def forget(self, host: str) -> None:
        """All containers of a host that was left are gone, with whatever they had."""
        for one in self._containers[host]:
            one.there = False
            one.space.close()
        self._containers[host].clear()

    def doubt(self, host: str) -> None:
        """What was there on a host may be gone."""
        for one in self._containers[host]:
            one.there = None

    async def add(self, host: str, owner: str = OWNERS[0]) -> Told:
        """One more container, once."""
        return await self._ask(host, Verb.ADD, self._new(host, owner))

    async def act(self, host: str, verb: Verb, name: str, fixed: str = "") -> Told:
        """One request about a container of that name, made when there is none; with a name whose addresses it takes."""
        known = next((one for one in self._containers[host] if one.name == name), None)
        if known is None:
            known = Container(name=name, owner=dict(self._fixed).get(fixed, OWNERS[0]), space=Space(), fixed=fixed)
            self._containers[host].append(known)
        return await self._ask(host, verb, known)

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
        mine: list[Container] = [self._any(host, choice) for _ in range(2)]
        while self._going:
            await asyncio.sleep(choice.uniform(0, pause))
            if host in self._away:
                continue
            at = choice.randrange(len(mine))
            if mine[at] not in self._containers[host]:
                mine[at] = self._any(host, choice)
            self._busy[host] += 1
            try:
                mine[at] = await self._step(host, mine[at], choice)
            finally:
                self._busy[host] -= 1

    async def _step(self, host: str, one: Container, choice: random.Random) -> Container:
        """What a client does next about a container; the one that it goes on with."""
        plugin = choice.random() < 0.1
        if one.there is None:
            await self._ask(host, choice.choice((Verb.ADD, Verb.DEL)), one, plugin=plugin)
        elif one.there:
            await self._ask(host, Verb.DEL if choice.random() < 0.7 else Verb.ADD, one, plugin=plugin)
        else:
            if choice.random() < 0.5:
                self._containers[host].remove(one)
                one.space.close()
                one = self._any(host, choice)
            told = await self._ask(host, Verb.ADD, one, plugin=plugin)
            if told.outcome is Outcome.FAILED and choice.random() < 0.5:  # as runtimes do, not always
                await self._ask(host, Verb.DEL, one)
        return one

    def _any(self, host: str, choice: random.Random) -> Container:
        """Another container, of any owner; one in six wants the addresses of a name."""
        if self._fixed and choice.random() < 1 / 6:
            name, owner = choice.choice(self._fixed)
            return self._new(host, owner, name)
        return self._new(host, choice.choice(OWNERS))

    def _new(self, host: str, owner: str, fixed: str = "") -> Container:
        self._names += 1
        one = Container(name=f"{host}-c{self._names}", owner=owner, space=Space(), fixed=fixed)
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
                fixed=one.fixed,
            )
        )
        if told.outcome is Outcome.DONE:
            one.there = verb is Verb.ADD
        elif one.there or (verb is Verb.ADD and (told.outcome is Outcome.UNKNOWN or self.doubtful)):
            one.there = None
        return told


def _environment(verb: Verb, one: Container) -> dict[str, str]:
    tenant, _, segment = one.owner.partition("/")
    arguments = {"ROMANA_TENANT": tenant, "ROMANA_SEGMENT": segment}
    if one.fixed:
        arguments["ROMANA_ADDRESS"] = one.fixed
    return {
        "CNI_COMMAND": verb.value.upper(),
        "CNI_CONTAINERID": one.name,
        "CNI_IFNAME": "eth0",
        "CNI_NETNS": one.space.path,
        "CNI_ARGS": ";".join(f"{key}={value}" for key, value in arguments.items()),
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
