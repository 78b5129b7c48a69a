"""The drawing of an address plan as SVG: every group a box in the box of its parent, as large as its part.

Owns the picture. Refuses to compute anything about the plan. Invariants: a box lies in its parent's, boxes of
siblings do not overlap, and a text is only written where it fits; what is left out is in the box's tooltip.

A CIDR is halved as often as it has bits more than its parent's, in columns while a label fits into half the width, then
in rows; so parts of one size have boxes of one size, in the order of their addresses.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from romana.codec.plan_words import count_words
from romana.codec.svg import CHARACTER, LINE_WIDTH, MARGIN, draw_document, draw_page, draw_text, escaped, style_of
from romana.core.planner.report import GroupReport, NetworkReport, Part, PlanReport

HEAD = 22
PAD = 4
GAP = 4
LEAF_HEIGHT = 56
MOST_HEIGHT = 1600
"""Of one network's box: with more groups than fit into it their boxes get lower, and lose their labels."""

STYLE = style_of(
    """\
.spare, .between { fill: url(#hatch); stroke: #9aa7b3; stroke-dasharray: 4 3; }
.fill { fill: #b9d9ef; }
.over { fill: #f2bcb3; }
.hatch { stroke: #c3ccd4; }""",
    """\
  .spare, .between { stroke: #55636f; }
  .fill { fill: #1d4a6b; }
  .over { fill: #73302a; }
  .hatch { stroke: #33424f; }""",
)

HATCH = """\
<defs><pattern id="hatch" width="8" height="8" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">
<line class="hatch" x1="0" y1="0" x2="0" y2="8" stroke-width="3"/></pattern></defs>"""


class Box(msgspec.Struct, frozen=True, kw_only=True):
    """A rectangle, in pixels."""

    x: float
    y: float
    width: float
    height: float


class _Node:
    """A group's part of the network that is drawn, with those below it, and the width that a box of it needs: that of
    its own label, or of what is in it.
    """

    __slots__ = ("children", "group", "lines", "needed", "part", "widest")

    def __init__(self, group: GroupReport, part: Part, children: Sequence[_Node]) -> None:
        self.group = group
        self.part = part
        self.children = tuple(children)
        self.lines = _lines(group, part)
        named = ["  ".join(self.lines[:2])] if children else self.lines
        own = max(map(len, named)) * CHARACTER + 14 + GAP
        self.widest: float = max((child.needed for child in children), default=0.0)
        self.needed: float = max(own, self.widest + 2 * PAD)


def draw_plan(report: PlanReport, title: str) -> str:
    """The picture as one SVG document, a panel for each network; it has no scripts and needs nothing else."""
    panels: list[str] = []
    y = MARGIN + 18.0
    for network in report.networks:
        root = _tree(report, network.name)
        panels.append(draw_text(MARGIN, y + 12, _network_words(network), "head", LINE_WIDTH))
        y += 20
        if root is None:
            panels.append(draw_text(MARGIN, y + 12, "in no topology: nobody draws from it", "small", LINE_WIDTH))
            y += 30
            continue
        width = LINE_WIDTH
        height = min(MOST_HEIGHT, _height(root, width))
        panels += _boxes(root, Box(x=MARGIN, y=y, width=width, height=height))
        y += height + 20
    return _document(report, title, panels, y + 16)


def _document(report: PlanReport, title: str, panels: Sequence[str], y: float) -> str:
    described = (
        f"{report.hosts} hosts and {report.endpoints} endpoints. Each box is a group of the tree with its CIDR; "
        "its size is its share of the network. The filled part of a box is the share of spans in use, hatched parts "
        "are spare."
    )
    legend = "filled: spans in use     hatched: spare, no host joins     red: more wanted than there is"
    drawn = [
        HATCH,
        draw_page(y),
        draw_text(MARGIN, MARGIN + 8, title, "head", LINE_WIDTH),
        *panels,
        draw_text(MARGIN, y - 12, legend, "small", LINE_WIDTH),
    ]
    return draw_document(title, described, STYLE, y, drawn)


def _tree(report: PlanReport, network: str) -> _Node | None:
    """The tree of a network; None where no topology has it. The groups come in the order of the tree."""
    pending: list[tuple[int, _Node]] = []
    for group in reversed(report.groups):
        part = next((part for part in group.parts if part.network == network), None)
        if part is None:
            continue
        below = []
        while pending and pending[-1][0] > group.depth:
            below.append(pending.pop()[1])
        pending.append((group.depth, _Node(group, part, below)))
    return pending[0][1] if pending else None


def _height(node: _Node, width: float) -> float:
    """The height in which every label below a group fits, when its box is so wide."""
    if not node.children:
        return LEAF_HEIGHT
    inner, most = width - 2 * PAD, 0.0
    for child in node.children:
        box, rows = _cut(node, child, Box(x=0, y=0, width=inner, height=1))
        most = max(most, (_height(child, box.width - GAP) + GAP) * rows)
    return HEAD + PAD + most


def _cut(parent: _Node, child: _Node, box: Box) -> tuple[Box, int]:
    """A child's share of its parent's box, and how many of them are above one another."""
    whole, part = parent.part.cidr, child.part.cidr
    x, y, width, height, rows = box.x, box.y, box.width, box.height, 1
    for length in range(whole.length + 1, part.length + 1):
        second = part.value >> (part.family.bits - length) & 1
        if width / 2 >= parent.widest:
            width /= 2
            x += width * second
        else:
            height /= 2
            rows *= 2
            y += height * second
    return Box(x=x, y=y, width=width, height=height), rows


def _boxes(node: _Node, box: Box) -> Iterator[str]:
    kind = {"spare": "spare", "inner": "inner"}.get(node.group.kind, "rack")
    yield f'<g data-path="{escaped(node.group.path)}" data-cidr="{node.part.cidr}">'
    yield f"<title>{escaped(', '.join(node.lines))}</title>"
    yield _rect(kind, box)
    if not node.children:
        yield from _leaf(node, box)
    else:
        inner = _inner(box)
        if inner.y - box.y == HEAD:
            yield _heading(node, box)
        if sum(child.part.cidr.size for child in node.children) < node.part.cidr.size:
            yield _rect("between", inner)
        for child in node.children:
            share, _ = _cut(node, child, inner)
            gap = min(GAP, share.width / 4, share.height / 4)
            yield from _boxes(
                child,
                Box(x=share.x + gap / 2, y=share.y + gap / 2, width=share.width - gap, height=share.height - gap),
            )
    yield "</g>"


def _inner(box: Box) -> Box:
    """Where a group's children are: below its heading, where there is room for one."""
    head = HEAD if box.height >= 2 * HEAD else box.height / 8
    pad = min(PAD, box.width / 8, box.height / 8)
    return Box(x=box.x + pad, y=box.y + head, width=box.width - 2 * pad, height=box.height - head - pad)


def _heading(node: _Node, box: Box) -> str:
    """As much of a group's lines as fits into one."""
    room = box.width - 12
    choices = ("  ".join(node.lines[:count]) for count in (3, 2, 1))
    return next((drawn for words in choices if (drawn := draw_text(box.x + 6, box.y + 15, words, "head", room))), "")


def _leaf(node: _Node, box: Box) -> Iterator[str]:
    if node.part.fill > 0:
        share = min(1.0, node.part.fill)
        filled = max(2.0, (box.width - 2) * share)
        yield _rect(
            "over" if node.part.fill > 1 else "fill",
            Box(x=box.x + 1, y=box.y + 1, width=min(filled, box.width - 2), height=box.height - 2),
        )
    for index, line in enumerate(node.lines):
        baseline = box.y + 15 + 15 * index
        if baseline + 5 <= box.y + box.height:
            yield draw_text(box.x + 6, baseline, line, ("head", "", "small")[min(index, 2)], box.width - 10)


def _lines(group: GroupReport, part: Part) -> list[str]:
    """A group's name, its CIDR, and what is in use."""
    name = group.path if group.path == "/" else group.path.rpartition("/")[2]
    if group.kind == "spare":
        return [name, str(part.cidr), f"{count_words(part.capacity.spare)} addresses"]
    use = f"{part.use.spans:,} of {count_words(part.capacity.spans)} spans"
    return [name, str(part.cidr), use]


def _network_words(network: NetworkReport) -> str:
    return (
        f"{network.name}  {network.cidr}  blocks of /{network.block_length}, spans of /{network.span_length}; "
        f"{network.use.endpoints:,} endpoints, {network.use.spans:,} of {count_words(network.capacity.spans)} spans"
    )


def _rect(kind: str, box: Box) -> str:
    place = f'x="{box.x:.2f}" y="{box.y:.2f}" width="{box.width:.2f}" height="{box.height:.2f}"'
    return f'<rect class="{kind}" {place}/>'
