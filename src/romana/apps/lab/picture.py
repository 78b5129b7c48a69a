"""A lab drawn in plain characters: spine on top, racks below it, hosts below those.

Owns the drawing alone. Invariant: every node is in it once, and no line is longer than the hosts need.
"""

from __future__ import annotations

from collections.abc import Mapping

from romana.apps.lab.wiring import Fabric

CELL = 19


def draw(fabric: Fabric, numbers: Mapping[str, int]) -> str:
    """The picture of a fabric with one spine and a router a rack, with addresses and AS numbers (by router)."""
    hosts = fabric.roles("host")
    width = max(CELL * len(hosts), 3 * CELL)
    column = {host.name: CELL * index + CELL // 2 for index, host in enumerate(hosts)}
    routers = fabric.roles("router")
    for router in routers:
        mine = [column[host.name] for host in hosts if host.rack == router.rack]
        column[router.name] = (mine[0] + mine[-1]) // 2 if mine else width // 2
    (spine,), (control,) = fabric.roles("spine"), fabric.roles("control")
    center = (column[routers[0].name] + column[routers[-1].name]) // 2
    column[spine.name] = center
    link = f"{spine.name} (AS {numbers[spine.name]}) --- {control.name}: romanad"
    start = max(0, center - len(spine.name) // 2)
    lines = [" " * start + link, *_branches(center, [column[router.name] for router in routers], width)]
    lines.append(_row({column[router.name]: router.name for router in routers}, width))
    lines.append(_row({column[router.name]: f"AS {numbers[router.name]}" for router in routers}, width))
    below = [" "] * width
    for router in routers:
        mine = [column[host.name] for host in hosts if host.rack == router.rack]
        below = _merged(below, _bar(column[router.name], mine, width))
    lines.append("".join(below).rstrip())
    lines.append(_row({column[host.name]: "|" for host in hosts}, width))
    lines.append(_row({column[host.name]: host.name for host in hosts}, width))
    lines += [_row({column[host.name]: host.loopbacks[index].text for host in hosts}, width) for index in range(2)]
    lines.append(_row({column[host.name]: "agent, BIRD" for host in hosts}, width))
    return "\n".join(lines)


def _row(texts: dict[int, str], width: int) -> str:
    line = [" "] * (width + CELL)
    for center, text in texts.items():
        start = max(0, center - len(text) // 2)
        line[start : start + len(text)] = text
    return "".join(line).rstrip()


def _branches(center: int, columns: list[int], width: int) -> list[str]:
    bar = "".join(_bar(center, columns, width)).rstrip()
    return [_row({center: "|"}, width), bar, _row(dict.fromkeys(columns, "|"), width)]


def _bar(center: int, columns: list[int], width: int) -> list[str]:
    line = [" "] * width
    for position in range(min([center, *columns]), max([center, *columns]) + 1):
        line[position] = "-"
    for position in (center, *columns):
        line[position] = "+"
    return line


def _merged(one: list[str], other: list[str]) -> list[str]:
    return [b if a == " " else a for a, b in zip(one, other, strict=True)]
