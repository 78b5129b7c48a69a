"""The drawing of a fabric as SVG: every router a box under the one above it, with its aggregates and what it holds.

Owns the picture. Refuses to compute anything about the plan. Invariants: a router stands one step to the right of the
one above it, and below it; a text is only written where it fits; what does not fit is in the box's tooltip; routers
beyond a limit are counted, not drawn.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from romana.codec.svg import LINE_WIDTH, MARGIN, WIDTH, draw_document, draw_page, draw_text, escaped, style_of
from romana.core.routing import RoutePlan
from romana.model.route import DeviceRoutes, RouteException

STEP = 28
BOX = 40
GAP = 8
LINE = 15
MOST_ROUTERS = 400
MOST_EXCEPTIONS = 60

STYLE = style_of(
    """\
.line { fill: none; stroke: #9aa7b3; }
.away { fill: #b4402f; }""",
    """\
  .line { stroke: #55636f; }
  .away { fill: #e08a7d; }""",
)


def draw_fabric(plan: RoutePlan, title: str) -> str:
    """The picture as one SVG document; it has no scripts and needs nothing else."""
    routers, exceptions = list(plan.fabric.routers), list(plan.exceptions())
    y = MARGIN + 22.0
    lines: list[str] = []
    tops: dict[str, float] = {}
    for path in routers[:MOST_ROUTERS]:
        lines += _router(plan, path, y, tops)
        tops[path] = y
        y += BOX + GAP
    if len(routers) > MOST_ROUTERS:
        more = f"and {len(routers) - MOST_ROUTERS:,} routers more"
        lines.append(draw_text(MARGIN, y + LINE, more, "small", LINE_WIDTH))
        y += LINE + GAP
    lines += _exceptions(exceptions, y + GAP)
    y += GAP + LINE * (2 + min(len(exceptions), MOST_EXCEPTIONS + 1))
    hosts = len(plan.devices()) - len(routers)
    described = (
        f"{len(routers)} routers, {hosts} hosts, {len(exceptions)} exceptions. Each box is a router, named by the "
        "group that it serves, under the one above it, with the aggregates that it originates and how many routes it "
        "holds."
    )
    height = y + MARGIN
    head = draw_text(MARGIN, MARGIN + 8, f"{title}: {len(routers):,} routers, {hosts:,} hosts", "head", LINE_WIDTH)
    return draw_document(title, described, STYLE, height, [draw_page(height), head, *lines])


def _router(plan: RoutePlan, path: str, y: float, tops: dict[str, float]) -> Iterator[str]:
    router, counts = plan.fabric.routers[path], plan.counts(path)
    depth = 0 if path == "/" else path.count("/")
    x = MARGIN + STEP * min(depth, 16)
    width = WIDTH - MARGIN - x
    over = path.rpartition("/")[0] or "/"
    if path != "/" and over in tops:
        corner = x - STEP / 2
        yield f'<path class="line" d="M{corner:.2f} {tops[over] + BOX:.2f}V{y + BOX / 2:.2f}H{x:.2f}"/>'
    own = " ".join(map(str, router.own)) or "nothing of its own"
    held = _held(counts, len(router.below))
    yield f'<g data-path="{escaped(path)}">'
    yield f"<title>{escaped(f'{path} originates {own}; {held}')}</title>"
    kind = "inner" if router.below else "rack"
    yield f'<rect class="{kind}" x="{x:.2f}" y="{y:.2f}" width="{width:.2f}" height="{BOX}"/>'
    name = path if path == "/" else path.rpartition("/")[2]
    room = width - 12
    yield _first_fitting(x + 6, y + 15, (f"{name}  {own}", name), "head", room)
    yield draw_text(x + 6, y + 32, held, "away" if counts.exceptions else "small", room)
    yield "</g>"


def _held(counts: DeviceRoutes, aggregates: int) -> str:
    """How many routes, and why."""
    spans = counts.below - aggregates
    words = [
        f"{counts.total:,} routes: {counts.above:,} from above",
        f"{aggregates:,} aggregates from below",
        f"{spans:,} from hosts",
        f"{counts.discards:,} discards",
    ]
    return ", ".join(words) + (f"; {counts.exceptions:,} of them exceptions" if counts.exceptions else "")


def _exceptions(exceptions: Sequence[RouteException], y: float) -> Iterator[str]:
    yield draw_text(MARGIN, y + 12, f"{len(exceptions):,} exceptions", "head" if exceptions else "small", LINE_WIDTH)
    for place, one in enumerate(exceptions[:MOST_EXCEPTIONS], 1):
        named = f" of {one.name}" if one.name else ""
        words = f"{one.prefix} on {one.host} ({one.reason}{named}), home {one.home or 'none'}"
        way = f"{words}: {' > '.join(reversed(one.devices))}"
        yield _first_fitting(MARGIN, y + 12 + LINE * place, (way, words, str(one.prefix)), "away", LINE_WIDTH)
    if len(exceptions) > MOST_EXCEPTIONS:
        more = f"and {len(exceptions) - MOST_EXCEPTIONS:,} more"
        yield draw_text(MARGIN, y + 12 + LINE * (MOST_EXCEPTIONS + 1), more, "small", LINE_WIDTH)


def _first_fitting(x: float, y: float, choices: Sequence[str], kind: str, room: float) -> str:
    return next((drawn for words in choices if (drawn := draw_text(x, y, words, kind, room))), "")
