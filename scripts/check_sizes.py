"""Fails when a module is too long or has a name that says nothing."""

from __future__ import annotations

import sys
from pathlib import Path

LIMIT = 600
EMPTY_NAMES = {"utils", "util", "helpers", "common", "misc", "base", "manager", "data", "info"}


def main() -> int:
    """Exit status: 0 when every module is fine."""
    faults = []
    for path in sorted(p for top in ("src", "tests", "bench", "scripts") for p in Path(top).rglob("*.py")):
        lines = len(path.read_text().splitlines())
        if lines > LIMIT:
            faults.append(f"{path}: {lines} lines, the limit is {LIMIT}; which two concerns share it?")
        if path.stem in EMPTY_NAMES:
            faults.append(f"{path}: the name says nothing; what is it about?")
    print("\n".join(faults) if faults else "module sizes and names: fine")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
