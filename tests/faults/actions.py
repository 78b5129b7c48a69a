"""What goes wrong at a site: each action is one misfortune from beginning to end, while clients go on.

Owns nothing that outlives an action: when one ends, every program runs, every cable is in, every disk can be written.
"""

from __future__ import annotations

import asyncio
import shutil
import signal
import time

from tests.faults.history import Forgot, Lost, Outcome, Verb
from tests.faults.machines import SUBNET, copy_tree
from tests.faults.site import PROGRAMS
from tests.faults.storm import Action, Run
from tests.probes.etcd import EtcdCluster

DAY = 24 * 3600
MEMBERS = (5, 6, 7)
"""The last numbers of the addresses of etcd's members."""


def killed_agent(host: str = "") -> Action:
    """An agent is killed, and started again a little later."""

    async def act(run: Run) -> None:
        name = host or run.a_host()
        run.site.agents[name].end()
        run.note(f"the agent of {name} was killed")
        await run.pause(0, 0.3)
        await run.start_agent(name)

    return act


def killed_plane(name: str = "") -> Action:
    """A romanad is killed, and started again a little later."""

    async def act(run: Run) -> None:
        chosen = name or run.choice.choice(list(run.site.planes))
        run.site.planes[chosen].end()
        run.note(f"{chosen} was killed")
        await run.pause(0, 0.5)
        await run.start_plane(chosen)

    return act


def cut_off(*names: str, seconds: float = 1.0) -> Action:
    """Machines lose the underlay for a while."""

    async def act(run: Run) -> None:
        chosen = names or run.choice.sample(run.site.hosts, 2)
        run.site.underlay.cut_off(*chosen)
        run.note(f"{', '.join(chosen)} cut off")
        await run.pause(seconds / 2, seconds)
        run.site.underlay.join(*chosen)

    return act


def together(*actions: Action) -> Action:
    """Several things at once."""

    async def act(run: Run) -> None:
        await asyncio.gather(*(action(run) for action in actions))

    return act


def full_disk(name: str) -> Action:
    """A program's disk is full for a while, an agent's at least until a client is told so. It has just closed its
    files, or its log would go round in what it has of the disk.
    """

    async def act(run: Run) -> None:
        machine, state = run.site.underlay.machines[name], run.site.state(name)
        if name in run.site.agents:
            run.site.agents[name].end(signal.SIGTERM)
            await run.start_agent(name)
        began = len(run.clients.operations)
        machine.fill(state)
        run.note(f"the disk of {name} is full")
        await run.pause(0.5, 0.8)
        async with asyncio.timeout(20):
            while name in run.site.agents and not any(
                told.host == name and "agent state" in told.words for told in run.clients.operations[began:]
            ):
                await run.pause(0.05, 0.1)
        machine.empty(state)

    return act


def full_disk_at_start(host: str) -> Action:
    """An agent is killed, and its next start meets a full disk: it may say so and end."""

    async def act(run: Run) -> None:
        agent, state = run.site.agents[host], run.site.state(host)
        agent.end()
        agent.machine.fill(state)
        agent.start()
        await run.pause(0.8, 1)
        if agent.running:
            agent.end()
        else:
            assert "full" in agent.log(), agent.log()
        agent.machine.empty(state)
        await run.start_agent(host)

    return act


def write_protected(host: str, plane: str) -> Action:
    """An agent and a romanad are killed; they start on a mount that may not be written, say so, and then on one that
    may.
    """

    async def act(run: Run) -> None:
        programs = (run.site.agents[host], run.site.planes[plane])
        for program in programs:
            program.end()
            program.machine.write_protect(run.site.state(program.machine.name))
            program.start()
        for program in programs:
            assert await asyncio.to_thread(program.wait) == 1
            program.machine.write_allow(run.site.state(program.machine.name))
        assert str(run.site.state(host)) in programs[0].log(), programs[0].log()
        assert "romanad.db" in programs[1].log(), programs[1].log()
        await run.start_plane(plane)
        await run.start_agent(host)

    return act


def jumping_clocks() -> Action:
    """The wall clocks of all processes that have their own jump by a day, forth, back, and home."""

    async def act(run: Run) -> None:
        for seconds in (DAY, -DAY, 0):
            for wall in run.site.walls.values():
                wall.jump(seconds)
            run.note(f"clocks at {seconds:+d} s")
            await run.pause(1.1, 1.3)

    return act


def wiped_agent(host: str = "") -> Action:
    """An agent is killed and its memory deleted; it starts again."""

    async def act(run: Run) -> None:
        name = host or run.choice.choice(run.site.hosts[2:])  # the first ones' are mounts
        run.site.agents[name].end()
        run.forgot.append(Forgot(host=name, until=time.monotonic()))
        shutil.rmtree(run.site.state(name))
        run.note(f"{name} lost its memory")
        await run.start_agent(name)

    return act


def set_back_disk(host: str = "", *, away: str = "") -> Action:
    """An agent's disk is set back to what it was some time ago, under a kernel that went on. With `away` that romanad
    hears of nothing in between.
    """

    async def act(run: Run) -> None:
        name = host or run.choice.choice(run.site.hosts[2:])  # the first ones' are mounts
        agent, state, copy = run.site.agents[name], run.site.state(name), run.site.directory / f"copy-{name}"
        if away:
            run.site.planes[away].end()
        since = time.monotonic()
        with agent.still():
            copy_tree(state, copy)
        run.note(f"the disk of {name} was copied")
        await run.pause(0.5, 2)
        agent.end()
        run.forgot.append(Forgot(host=name, since=since, until=time.monotonic()))
        shutil.rmtree(state)
        copy.rename(state)
        run.note(f"the disk of {name} was set back")
        if away:
            agent.start()
            await run.pause()
            await run.start_plane(away)
            await asyncio.to_thread(run.site.wait_agent, name)
        else:
            await run.start_agent(name)

    return act


def takes(host: str, name: str) -> Action:
    """A container on a host asks for the addresses of a name that nobody uses, and has them."""

    async def act(run: Run) -> None:
        told = await run.clients.act(host, Verb.ADD, f"{host}-{name}", name)
        assert told.outcome is Outcome.DONE, told
        run.note(f"{name} is on {host}")

    return act


def drained_host(host: str = "") -> Action:
    """A host is drained, its workloads end, and when nothing is left there it may be used again."""

    async def act(run: Run) -> None:
        name = host or run.a_host()
        await run.pause()
        await run.say(lambda romanad: romanad.put(f"/v1/hosts/{name}/drain"), f"{name} drains")
        await run.pause()
        await run.clients.leave(name)
        await run.clients.clear(name)
        await run.until(lambda: not _held(run, name), f"{name} is empty")
        await run.say(lambda romanad: romanad.delete(f"/v1/hosts/{name}/drain"), f"{name} drains no more")
        run.clients.come_back(name)

    return act


def lost_host(host: str = "", *, cable: bool = False, replaced: bool = False) -> Action:
    """A machine loses its power, is declared lost, and its addresses become free without it; then it comes back. With
    `cable` it says nothing when it goes; with `replaced` another machine has its name when it comes back.
    """

    async def act(run: Run) -> None:
        name = host or run.choice.choice(run.site.hosts[2:])
        agent = run.site.agents[name]
        await run.pause(0.5, 1)
        if cable:
            run.site.underlay.cut_off(name)
        agent.end()
        await run.clients.leave(name)
        run.clients.forget(name)
        agent.machine.reboot()
        run.site.mark(name).unlink()
        run.note(f"{name} lost its power")
        await run.pause()
        had = await asyncio.to_thread(_held, run, name)
        said = await declare_lost(run, name)
        await run.until(lambda: not _held(run, name) and not had & _retired(run), f"what {name} had is free")
        await run.pause()
        run.site.underlay.join()
        if replaced:
            await _replaced(run, name)
        await run.start_agent(name)
        run.lost.append(Lost(host=name, said=said, back=time.monotonic()))
        run.clients.come_back(name)

    return act


async def _replaced(run: Run, name: str) -> None:
    """Another machine takes the name of one that was lost; the first one is refused until that one is lost as well."""
    site, agent = run.site, run.site.agents[name]
    state, path = site.directory / f"replacement-{name}", site.directory / f"replacement-{name}.sock"
    other = site.agent(site.underlay.machines["spare"], name, state, path, site.plane_of(name))
    other.start()
    await run.until(lambda: bool(site.ask_agent(path)["ready"]), f"another machine is {name}")
    agent.start()
    await run.until(lambda: "romanad" in site.status(name)["problems"], f"{name} is refused")
    assert not site.status(name)["ready"]
    other.end()
    other.machine.reboot()
    shutil.rmtree(state)
    path.with_suffix(".mark").unlink()
    agent.end()
    await declare_lost(run, name)


def lost_by_mistake(host: str = "", *, cable: bool = False) -> Action:
    """A host is declared lost of which only the agent is dead, or, with `cable`, cut off: its endpoints go on until it
    hears of it.
    """

    async def act(run: Run) -> None:
        name = host or run.choice.choice(run.site.hosts[2:])
        await run.pause(0.5, 1)
        if cable:
            run.site.underlay.cut_off(name)
        else:
            run.site.agents[name].end()
        run.note(f"{name} is not heard of any more")
        said = await declare_lost(run, name)
        await run.pause()
        if cable:
            run.site.underlay.join(name)
        else:
            run.site.agents[name].start()
        await run.until(lambda: has_agent(run, name), f"{name} reported in again")
        await run.pause(0.3, 0.6)  # it is ready until it has read the answer
        await asyncio.to_thread(run.site.wait_agent, name)
        run.lost.append(Lost(host=name, said=said, back=time.monotonic()))
        run.clients.doubt(name)

    return act


async def declare_lost(run: Run, name: str) -> float:
    """As a person does, again and again until romanad does not count the host as heard from any more."""
    return await run.say(lambda romanad: romanad.post(f"/v1/hosts/{name}/lost"), f"{name} is declared lost")


def _held(run: Run, host: str) -> set[str]:
    """The spans and blocks of a host, at romanad."""
    spans, blocks = (run.site.listed(f"/v1/{kind}?host={host}") for kind in ("spans", "blocks"))
    return {one["cidr"] for one in (*spans, *blocks)}


def _unsettled(run: Run) -> list[str]:
    """Hosts of a restored store of which nothing was heard yet."""
    return [one["host"] for one in run.site.listed("/v1/liveness") if one["unsettled"]]


def has_agent(run: Run, host: str) -> bool:
    """Whether an agent is bound to a host's name at romanad."""
    return any(one["name"] == host and one["instance"] for one in run.site.listed("/v1/hosts"))


def _retired(run: Run) -> set[str]:
    """What waits until every host has forgotten it."""
    return {one["cidr"] for one in run.site.listed("/v1/retired")}


def restored_backup(plane: str) -> Action:
    """The store is replaced by a copy from before some of what runs was added, and some of it had ended."""
    command = str(PROGRAMS / "romana")

    async def act(run: Run) -> None:
        program = run.site.planes[plane]
        database, copy = run.site.state(plane) / "romanad.db", run.site.directory / "backup"
        server = f"unix://{run.site.directory}/{plane}.sock"
        await asyncio.to_thread(program.machine.run, command, "backup", str(copy), "--server", server)
        run.note("backed up")
        await run.pause(1, 2)
        program.end()
        program.machine.run("sh", "-ec", f"rm {database}*")
        program.machine.run(command, "restore", str(copy), "--path", str(database))
        copy.unlink()
        await run.start_plane(plane)
        await run.until(lambda: not _unsettled(run), "every host has said what it holds")

    return act


def killed_member(cluster: EtcdCluster) -> Action:
    """A member of etcd is killed, and started again a little later."""

    async def act(run: Run) -> None:
        member = run.choice.randrange(len(MEMBERS))
        cluster.kill(member)
        run.note(f"member {member} was killed")
        await run.pause(0.3, 1)
        cluster.start(member)  # from this thread, with which it would die

    return act


def plane_without_store(*planes: str) -> Action:
    """A romanad loses every packet to and from etcd for a while."""

    async def act(run: Run) -> None:
        name = run.choice.choice(planes)
        machine = run.site.planes[name].machine
        machine.drop(*(f"{SUBNET}.{number}" for number in MEMBERS))
        run.note(f"{name} does not reach etcd")
        await run.pause(0.5, 1.5)
        machine.undrop()

    return act
