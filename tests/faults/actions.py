"""What goes wrong at a site: each action is one misfortune from beginning to end, while clients go on.

Owns nothing that outlives an action: when one ends, every program runs, every cable is in, every disk can be written.
"""

from __future__ import annotations

import asyncio
import shutil
import time

from tests.faults.history import Forgot
from tests.faults.machines import SUBNET
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
    """A program's disk is full for a while."""

    async def act(run: Run) -> None:
        machine, state = run.site.underlay.machines[name], run.site.state(name)
        machine.fill(state)
        run.note(f"the disk of {name} is full")
        await run.pause(0.5, 0.8)
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
            await run.pause(1.1, 1.4)

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
