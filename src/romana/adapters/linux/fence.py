"""The gate in front of all endpoints, in the kernel: `ports.Fence`.

Owns the nftables table `inet romana_lease`: what comes from or goes to a link of ours passes while its set has
elements, and the kernel itself takes them out after a time. So endpoints are cut off also when the agent is dead, or
hangs. Invariant: every change is one transaction, and a table that is new is closed.
"""

from __future__ import annotations

from romana.adapters.linux.libnftables import Libnftables, LibnftablesError
from romana.model.errors import Unavailable

TABLE = "inet romana_lease"
_RULES = (
    "meta nfproto @held accept",  # first: it is the only one that packets meet while the gate is open
    'iifname != "rom*" oifname != "rom*" accept',
    "drop",
)
_GATE = "".join(
    (
        f"add table {TABLE}\n",
        f"add set {TABLE} held {{ type nf_proto; flags timeout; }}\n",
        *(
            f"add chain {TABLE} {hook} {{ type filter hook {hook} priority filter - 20; policy accept; }}\n"
            f"flush chain {TABLE} {hook}\n" + "".join(f"add rule {TABLE} {hook} {rule}\n" for rule in _RULES)
            for hook in ("forward", "input", "output")
        ),
    )
)


def open_gate(seconds: int) -> str:
    """What makes the gate, or keeps it, and opens it for so many seconds from now, as nft text."""
    elements = ", ".join(f"{family} timeout {seconds}s" for family in ("ipv4", "ipv6"))
    return f"{_GATE}flush set {TABLE} held\nadd element {TABLE} held {{ {elements} }}\n"


class NftFence:
    """The gate of the network namespace of the thread that makes it."""

    def __init__(self) -> None:
        self._nft = Libnftables()

    def close(self) -> None:
        """Release libnftables; the gate stays in the kernel."""
        self._nft.close()

    def keep(self) -> None:
        """See to it that there is a gate: one that is there stays as it is, a new one is closed."""
        self._run(_GATE)

    def hold(self, seconds: int) -> None:
        """Keep it open for so many seconds from now."""
        self._run(open_gate(seconds))

    def cut(self) -> None:
        """Close it."""
        self._run(f"{_GATE}flush set {TABLE} held\n")

    def remove(self) -> bool:
        """Take it away; whether there was one."""
        try:
            self._nft.run(f"delete table {TABLE}")
        except LibnftablesError as error:
            if "No such file or directory" in str(error):
                return False
            raise Unavailable(f"nftables: {error}") from error
        return True

    def _run(self, text: str) -> None:
        try:
            self._nft.run(text)
        except LibnftablesError as error:
            raise Unavailable(f"nftables: {error}") from error
