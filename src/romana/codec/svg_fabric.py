"""The drawing of a fabric as SVG: every router a box under the one above it, with its aggregates and what it holds.

Owns the picture. Refuses to compute anything about the plan. Invariants: a router stands one step to the right of the
one above it, and below it; a text is only written where it fits; what does not fit is in the box's tooltip; routers
beyond a limit are counted, not drawn.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from xml.sax.saxutils import escape

from romana.core.routing import RoutePlan
from romana.model.route import DeviceRoutes, RouteException

WIDTH = 960
MARGIN = 16
STEP = 28
BOX = 40
GAP = 8
LINE = 15
MOST_ROUTERS = 400
MOST_EXCEPTIONS = 60
CHARACTER = 6.7
"""Width of a character at 11 px in the fonts that are asked for, and a little more."""
LABELLED = 'aria-labelledby="title desc"'
QUOTE = {'"': "&quot;"}

STYLE = """\
text { font: 11px ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace; fill: #1c2733; }
.head { font-weight: bold; }
.small { fill: #51606f; }
.page { fill: #ffffff; }
.inner { fill: #f3f6f9; stroke: #7b8b9a; }
.rack { fill: #ffffff; stroke: #2f6f9f; }
.line { fill: none; stroke: #9aa7b3; }
.away { fill: #b4402f; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; }
  .small { fill: #9fb0c0; }
  .page { fill: #0f1720; }
  .inner { fill: #17212c; stroke: #66788a; }
  .rack { fill: #0f1720; stroke: #5aa3d6; }
  .line { stroke: #55636f; }
  .away { fill: #e08a7d; }
}"""


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
        lines.append(_text(MARGIN, y + LINE, f"and {len(routers) - MOST_ROUTERS:,} routers more", "small"))
        y += LINE + GAP
    lines += _exceptions(exceptions, y + GAP)
    y += GAP + LINE * (2 + min(len(exceptions), MOST_EXCEPTIONS + 1))
    hosts = len(plan.devices()) - len(routers)
    described = (
        f"{len(routers)} routers, {hosts} hosts, {len(exceptions)} exceptions. Each box is a router, named by the "
        "group that it serves, under the one above it, with the aggregates that it originates and how many routes it "
        "holds."
    )
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y + MARGIN:.0f}" role="img" {LABELLED}>',
        f'<title id="title">{escape(title)}</title>',
        f'<desc id="desc">{escape(described)}</desc>',
        f"<style>{STYLE}</style>",
        f'<rect class="page" width="{WIDTH}" height="{y + MARGIN:.0f}"/>',
        _text(MARGIN, MARGIN + 8, f"{title}: {len(routers):,} routers, {hosts:,} hosts", "head"),
    ]
    return "\n".join([*head, *(line for line in lines if line), "</svg>"]) + "\n"


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
    yield f'<g data-path="{escape(path, QUOTE)}">'
    yield f"<title>{escape(f'{path} originates {own}; {held}')}</title>"
    kind = "inner" if router.below else "rack"
    yield f'<rect class="{kind}" x="{x:.2f}" y="{y:.2f}" width="{width:.2f}" height="{BOX}"/>'
    name = path if path == "/" else path.rpartition("/")[2]
    room = width - 12
    yield next((_text(x + 6, y + 15, words, "head") for words in (f"{name}  {own}", name) if _fits(words, room)), "")
    if _fits(held, room):
        yield _text(x + 6, y + 32, held, "away" if counts.exceptions else "small")
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
    yield _text(MARGIN, y + 12, f"{len(exceptions):,} exceptions", "head" if exceptions else "small")
    for place, one in enumerate(exceptions[:MOST_EXCEPTIONS], 1):
        named = f" of {one.name}" if one.name else ""
        words = f"{one.prefix} on {one.host} ({one.reason}{named}), home {one.home or 'none'}"
        way = f"{words}: {' > '.join(reversed(one.devices))}"
        shown = next((text for text in (way, words, str(one.prefix)) if _fits(text, WIDTH - 2 * MARGIN)), "")
        yield _text(MARGIN, y + 12 + LINE * place, shown, "away")
    if len(exceptions) > MOST_EXCEPTIONS:
        more = f"and {len(exceptions) - MOST_EXCEPTIONS:,} more"
        yield _text(MARGIN, y + 12 + LINE * (MOST_EXCEPTIONS + 1), more, "small")


def _fits(words: str, room: float) -> bool:
    return len(words) * CHARACTER <= room


def _text(x: float, y: float, words: str, kind: str) -> str:
    return f'<text class="{kind}" x="{x:.2f}" y="{y:.2f}" xml:space="preserve">{escape(words)}</text>'
