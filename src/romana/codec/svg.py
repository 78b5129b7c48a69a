"""What every drawing as SVG has: texts that are written only where they fit, colours that follow the reader's page.

Owns the form of a document and of a line of text in it. Refuses to know what is drawn. Invariant: a document has no
scripts, needs nothing else, and says in words, too, what it shows.
"""

from __future__ import annotations

from collections.abc import Iterable
from xml.sax.saxutils import escape

WIDTH = 960
MARGIN = 16
LINE_WIDTH = WIDTH - 2 * MARGIN
CHARACTER = 6.7
"""Width of a character at 11 px in the fonts that are asked for, and a little more."""

LABELLED = 'aria-labelledby="title desc"'

_LIGHT = """\
text { font: 11px ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace; fill: #1c2733; }
.head { font-weight: bold; }
.small { fill: #51606f; }
.page { fill: #ffffff; }
.inner { fill: #f3f6f9; stroke: #7b8b9a; }
.rack { fill: #ffffff; stroke: #2f6f9f; }"""
_DARK = """\
  text { fill: #e6edf3; }
  .small { fill: #9fb0c0; }
  .page { fill: #0f1720; }
  .inner { fill: #17212c; stroke: #66788a; }
  .rack { fill: #0f1720; stroke: #5aa3d6; }"""


def style_of(light: str, dark: str) -> str:
    """The style sheet: what all drawings have, and a drawing's own rules for light and for dark pages."""
    return f"{_LIGHT}\n{light}\n@media (prefers-color-scheme: dark) {{\n{_DARK}\n{dark}\n}}"


def draw_document(title: str, described: str, style: str, height: float, drawn: Iterable[str]) -> str:
    """A whole document around what is drawn; `described` is for who cannot see it, empty lines are left out."""
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" role="img" {LABELLED}>',
        f'<title id="title">{escape(title)}</title>',
        f'<desc id="desc">{escape(described)}</desc>',
        f"<style>{style}</style>",
        *drawn,
        "</svg>",
    ]
    return "\n".join(line for line in lines if line) + "\n"


def draw_page(height: float) -> str:
    """The ground of a document."""
    return f'<rect class="page" width="{WIDTH}" height="{height:.0f}"/>'


def draw_text(x: float, y: float, words: str, kind: str, room: float) -> str:
    """A line of text, or nothing where it does not fit."""
    if len(words) * CHARACTER > room:
        return ""
    named = f' class="{kind}"' if kind else ""
    return f'<text{named} x="{x:.2f}" y="{y:.2f}" xml:space="preserve">{escape(words)}</text>'


def escaped(words: str) -> str:
    """As text, or as the value of an attribute between double quotes."""
    return escape(words, {'"': "&quot;"})
