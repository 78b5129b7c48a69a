"""Answers as people and programs read them: aligned columns, JSON, YAML.

Owns the text of cells. Knows no resource. Colour appears on a terminal only (click takes it away elsewhere).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import typer
import yaml

NOTHING = "-"
GAP = "  "


class Column(msgspec.Struct, frozen=True):
    """A title, and how a cell is made of an item: the name of its field, or a function of the item."""

    title: str
    value: str | Callable[[Any], object]

    def cell(self, item: Any) -> str:
        """The text of this column for an item."""
        found = item.get(self.value) if isinstance(self.value, str) else self.value(item)
        return cell_text(found)


def cell_text(value: object) -> str:
    """One value in words: lists and mappings with commas, nothing as a dash."""
    if isinstance(value, dict):
        return ",".join(f"{key}={inner}" for key, inner in value.items()) or NOTHING
    if isinstance(value, list | tuple):
        return ",".join(cell_text(inner) for inner in value) or NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    return NOTHING if value is None or value == "" else str(value)


def print_table(items: Sequence[Any], columns: Sequence[Column]) -> None:
    """A line for each item, columns as wide as what is in them."""
    rows = [[column.cell(item) for column in columns] for item in items]
    titles = [column.title.upper() for column in columns]
    widths = [max(len(row[index]) for row in (titles, *rows)) for index in range(len(columns))]
    typer.secho(_line(titles, widths), bold=True)
    for row in rows:
        typer.echo(_line(row, widths))


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return GAP.join(f"{cell:{width}}" for cell, width in zip(cells, widths, strict=True)).rstrip()


def print_value(value: object, *, as_yaml: bool) -> None:
    """The whole value as JSON or YAML."""
    if as_yaml:
        typer.echo(yaml.safe_dump(value, sort_keys=False, allow_unicode=True), nl=False)
    else:
        typer.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())
