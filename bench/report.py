"""What every benchmark prints and writes.

Owns the form of the JSON: `ratios` (ours to the baseline's), `figures` (absolute, of both), `runs` (each measurement as
it was taken, in order), `better` (which way each key that has one should go), `goals` (what some of them are to reach),
`versions`, and `valid`: whether the run says anything, with its `faults` where it does not. A key says its unit, and
the unit the direction. Decides nothing about good or bad.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

import romana

HIGHER = ("_per_s", "_per_second", "_a_second", "_used", "_percent")
LOWER = (
    "_ms",
    "_us",
    "_ns",
    "_s_",
    "_seconds",
    "_bytes",
    "_mb",
    "_mib",
    "_claimed",
    "_messages",
    "_claims",
    "_entries",
)
"""Parts of keys that say a unit, by the direction in which it is better."""


class Report(msgspec.Struct, kw_only=True):
    """One benchmark's outcome."""

    benchmark: str
    ratios: dict[str, float] = {}
    figures: dict[str, float | str] = {}
    runs: list[dict[str, float | str]] = []
    versions: dict[str, str] = {}
    better: dict[str, str] = {}
    goals: dict[str, float] = {}
    valid: bool = True
    faults: list[str] = []

    def measured(self, key: str, values: Sequence[float], goal: float | None = None) -> None:
        """A figure that was taken several times: its median, and from what to what it went."""
        self.figures[key] = statistics.median(values)
        self.figures[f"{key}_spread"] = f"{min(values):.4g} to {max(values):.4g}"
        if goal is not None:
            self.goals[key] = goal

    def show(self, json: Path | None) -> None:
        """Print tables, and write the JSON where it is wanted; SystemExit when the run is not valid."""
        self.valid = not self.faults
        self.better = {key: way for key in (*self.ratios, *self.figures) if (way := better(key))}
        console = Console(width=None if sys.stdout.isatty() else 120)
        for title, values in (("ratio, ours to the baseline's", self.ratios), ("figure", self.figures)):
            drawn = Table(box=None, pad_edge=False)
            drawn.add_column(title, no_wrap=True)
            drawn.add_column("", justify="right", no_wrap=True)
            for column in ("spread", "better", "goal"):
                drawn.add_column(column, no_wrap=True)
            for key, value in values.items():
                if key.endswith("_spread") and key.removesuffix("_spread") in (*self.ratios, *self.figures):
                    continue
                drawn.add_row(
                    key,
                    value if isinstance(value, str) else f"{value:,.3g}" if value < 1e4 else f"{value:,.0f}",
                    str(self.figures.get(f"{key}_spread", "")),
                    self.better.get(key, ""),
                    f"{self.goals[key]:,g}" if key in self.goals else "",
                )
            console.print(drawn)
            console.print()
        if json is not None:
            json.write_bytes(msgspec.json.format(msgspec.json.encode(self), indent=1) + b"\n")
        if not self.valid:
            raise SystemExit("\n".join(f"bench: this run is not valid: {fault}" for fault in self.faults))


def better(key: str) -> str:
    """`higher` or `lower` by the unit that a key says; empty for counts and spreads, which are only told."""
    if key.endswith("_spread"):
        return ""
    word = f"_{key}_"
    for way, units in (("higher", HIGHER), ("lower", LOWER)):
        if any(f"{unit.rstrip('_')}_" in word for unit in units):
            return way
    return ""


def arguments(description: str, quick: Mapping[str, int] | None = None, **counts: int) -> argparse.Namespace:
    """The command line of a benchmark: `--json FILE`, and a `--NAME N` for each count; `--quick` for the smaller ones
    of `quick`, where there are.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    for name, count in counts.items():
        parser.add_argument(f"--{name}", type=int, help=f"default {count}")
    if quick:
        listed = ", ".join(f"{count} {name}" for name, count in quick.items())
        parser.add_argument("--quick", action="store_true", help=f"less of everything: {listed}")
    asked = parser.parse_args()
    less = quick if quick and asked.quick else {}
    for name, count in counts.items():
        if getattr(asked, name) is None:
            setattr(asked, name, less.get(name, count))
    return asked


def quantile(values: Sequence[float], part: float) -> float:
    """The value that `part` of the values do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, round(part * len(ordered)) - 1))]


def versions() -> dict[str, str]:
    """What the figures were taken with."""
    return {
        "romana": romana.__version__,
        "commit": _said(["git", "rev-parse", "--short", "HEAD"]),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "processors": str(os.cpu_count()),
        "nftables": _said(["nft", "--version"]),
        "containernetworking-plugins": _said(["dpkg-query", "-W", "-f", "${Version}", "containernetworking-plugins"]),
    }


def _said(command: list[str]) -> str:
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    return ran.stdout.strip() or "unknown"
