"""The clock that wall-clock jumps and suspends do not change, and which boot it counts from."""

from __future__ import annotations

import time
from pathlib import Path


class KernelClock:
    """CLOCK_BOOTTIME and the boot id of the running kernel."""

    def boottime(self) -> int:
        """Seconds since the boot, time suspended included."""
        return int(time.clock_gettime(time.CLOCK_BOOTTIME))

    def boot_id(self) -> str:
        """The kernel's random id of this boot."""
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
