"""What drops packets that would go round, in the kernel of a router: `ports.TurnGuard`.

Owns the nftables table `inet romana_turns`. Invariants: every change is one transaction; the table is written only
where it is not as it was left, so its counters tell what was dropped since. libnftables is opened at the first use,
because a router without it still has to route.
"""

from __future__ import annotations

import re

from romana.adapters.linux.libnftables import Libnftables, LibnftablesError
from romana.model.address import Family
from romana.model.errors import Unavailable
from romana.model.route import Turns

TABLE = "inet romana_turns"
_WORDS = {Family.V4: ("ipv4_addr", "ip"), Family.V6: ("ipv6_addr", "ip6")}
_PACKETS = re.compile(r"counter packets (\d+) bytes \d+")
_GONE = f"add table {TABLE}\ndelete table {TABLE}\n"


class NftTurnGuard:
    """The guard of the network namespace of the thread that uses it."""

    def __init__(self) -> None:
        self._opened: Libnftables | None = None
        self._left = ("", "")  # what was written last, and how it was listed then

    def close(self) -> None:
        """Release libnftables; the table stays in the kernel."""
        if self._opened is not None:
            self._opened.close()

    def keep(self, turns: Turns) -> bool:
        """See to it that the kernel drops what would take one of these turns, and nothing else because of us."""
        text = table_text(turns)
        if (text, self._listing()) == self._left:
            return False
        if not text:
            self._left = ("", "")
            return self.remove()
        self._run(f"{_GONE}{text}")
        self._left = (text, self._listing())
        return True

    def dropped(self) -> int:
        """The packets that the table's counters have."""
        return sum(map(int, _PACKETS.findall(self._table())))

    def remove(self) -> bool:
        """Take the table away; whether there was one."""
        if not self._listing():
            return False
        self._run(_GONE)
        return True

    def _listing(self) -> str:
        return _PACKETS.sub("", self._table())

    def _table(self) -> str:
        try:
            return self._run(f"list table {TABLE}")
        except Unavailable as error:
            if "No such file or directory" in str(error):
                return ""
            raise

    def _run(self, text: str) -> str:
        if self._opened is None:
            self._opened = Libnftables()
        try:
            return self._opened.run(text)
        except LibnftablesError as error:
            raise Unavailable(f"nftables: {error}") from error


def table_text(turns: Turns) -> str:
    """The table as nft text; empty where nothing is to be dropped."""
    if not turns.inside or not turns.back:
        return ""
    pairs = ", ".join(f'"{one}" . "{other}"' for names in turns.back for one in names for other in names)
    sets, rules = [f"set back {{ type ifname . ifname; elements = {{ {pairs} }}; }}"], []
    for family, (kind, word) in _WORDS.items():
        inside = ", ".join(str(one) for one in turns.inside if one.family is family)
        if inside:
            name = f"inside{int(family)}"
            sets.append(f"set {name} {{ type {kind}; flags interval; auto-merge; elements = {{ {inside} }}; }}")
            rules.append(f"iifname . oifname @back {word} daddr @{name} counter drop")
    chain = "\n".join(("type filter hook forward priority filter - 30; policy accept;", *rules))
    return f"table {TABLE} {{\n" + "\n".join(sets) + f"\nchain forward {{\n{chain}\n}}\n}}\n"
