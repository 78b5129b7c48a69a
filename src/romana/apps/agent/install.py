"""Putting the CNI plugin and its network configuration on a host, and taking everything of ours away again."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec

import romana
from romana.adapters.files import replace_file
from romana.adapters.linux.fence import NftFence
from romana.adapters.linux.links import KernelLinks
from romana.adapters.linux.nftables import NftTable
from romana.adapters.linux.routes import KernelRoutes
from romana.adapters.linux.turns import NftTurnGuard
from romana.apps.agent.config import AgentConfig, mark_file
from romana.apps.agent.joints import bird_of
from romana.codec.cni import VERSIONS
from romana.core.diff import Changes
from romana.model.errors import NotFound, RomanaError, Unavailable

PLUGINS: list[dict[str, object]] = [
    {"type": "romana-cni", "capabilities": {"ips": True}},
    {"type": "portmap", "capabilities": {"portMappings": True}},
]
"""The chain; a plugin that is not on the host is left out."""
NETWORK = {"cniVersion": "1.0.0", "cniVersions": list(VERSIONS[2:]), "name": "romana"}
"""A runtime that knows `cniVersions` takes the newest version that both speak, an older one 1.0.0."""


def install_cni(settings: AgentConfig, source: Path | None) -> list[Path]:
    """Write plugin and network configuration, each at once, the plugin first; the paths. NotFound without a plugin."""
    plugin, conflist = Path(settings.cni.plugin), Path(settings.cni.conflist)
    replace_file(plugin, (source or find_plugin()).read_bytes(), mode=0o755)
    present = [one for one in PLUGINS if (plugin.parent / str(one["type"])).exists()]
    text = msgspec.json.format(msgspec.json.encode({**NETWORK, "plugins": present}), indent=2)
    replace_file(conflist, text + b"\n")
    return [plugin, conflist]


def find_plugin() -> Path:
    """The plugin of this installation; NotFound with the places that were looked at."""
    places = [
        Path(sys.executable).parent / "romana-cni",
        Path(romana.__file__).parent / "romana-cni",
        Path(romana.__file__).parents[2] / "build" / "romana-cni",
    ]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        shown = ", ".join(map(str, places))
        raise NotFound(f"no compiled romana-cni here (looked at {shown}); name it with --plugin")
    return found


def clean_up(settings: AgentConfig) -> Iterator[str]:
    """Take away what `docs/ownership.md` lists for a host, saying each thing that was there.

    What is announced first, as long as it is discarded here; links before the rules, so that nothing is open without
    them. Unavailable, after everything else was tried, when something stays.
    """
    problems = []
    for step in (_bird, _links, _routes, _table, _files):
        try:
            yield from step(settings)
        except (RomanaError, OSError) as error:
            problems.append(str(error))
    if problems:
        raise Unavailable("; ".join(problems))


def _links(_: AgentConfig) -> Iterator[str]:
    with KernelLinks() as links:
        for name in sorted(links.read()):
            links.delete(name)
            yield f"link {name}"


def _routes(_: AgentConfig) -> Iterator[str]:
    with KernelRoutes() as routes:
        present = routes.read()
        routes.apply(Changes({}, {}, dict(present)))
        yield from (f"route {prefix}" for prefix in sorted(present))


def _table(_: AgentConfig) -> Iterator[str]:
    table = NftTable()
    try:
        if table.listing():
            table.remove()
            yield "table inet romana"
    finally:
        table.close()
    for kind, name in ((NftFence, "romana_lease"), (NftTurnGuard, "romana_turns")):
        other = kind()
        try:
            if other.remove():
                yield f"table inet {name}"
        finally:
            other.close()


def _bird(settings: AgentConfig) -> Iterator[str]:
    if settings.bird.include and bird_of(settings).withdraw():
        yield f"what {settings.bird.include} has BIRD announce"


def _files(settings: AgentConfig) -> Iterator[str]:
    state = Path(settings.agent.state)
    for path in (
        *(state / name for name in ("agent.db", "agent.db-wal", "agent.db-shm", "view.json", "router.json")),
        Path(settings.agent.socket),
        mark_file(settings.agent),
        Path(settings.cni.conflist),
        Path(settings.cni.plugin),
    ):
        if path.exists():
            path.unlink()
            yield f"file {path}"
