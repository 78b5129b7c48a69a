"""The right of this host to use its addresses: renewed at the control plane, and over when it cannot be.

Owns the gate in front of the endpoints, what is remembered of the lease, and what is acknowledged. Invariants: what is
remembered, in memory, on disk and in the kernel, is never later than the truth; after the lease was over, or was never
known in this boot, the gate opens only with a view that was asked for since; what is acknowledged is in the kernel and
on disk. The clock is CLOCK_BOOTTIME with the boot's id, so wall-clock jumps change nothing.
"""

from __future__ import annotations

import structlog

from romana.model.errors import Conflict, NotFound, RomanaError, Unavailable
from romana.model.view import Heartbeat
from romana.ports import ControlPlane
from romana.services.agent.follower import Follower
from romana.services.agent.kernel import Kernel
from romana.services.agent.ledger import Ledger
from romana.services.agent.reconcile import Reconciler
from romana.services.agent.work import Workers

log = structlog.get_logger()

NOTED = 300
"""Seconds of a lease that may go unnoted, so that a renewal seldom costs a write and a change of the kernel."""

TRIES = 3
"""How often the gate is opened anew when opening it took more than a second."""


class Lease:
    """One host's lease."""

    def __init__(
        self,
        ledger: Ledger,
        control: ControlPlane,
        kernel: Kernel,
        workers: Workers,
        follower: Follower,
        reconciler: Reconciler,
        *,
        every: float,
    ) -> None:
        """`every` is the time between two renewals, in seconds."""
        self.problem = "no heartbeat was sent yet"
        self._ledger = ledger
        self._control = control
        self._kernel = kernel
        self._workers = workers
        self._follower = follower
        self._reconciler = reconciler
        self._every = every
        self._until = self._length = 0
        self._gate: bool | None = None  # as the kernel was told, None: not yet
        self._doubted = False  # whether it is to be told again
        self._stream = 1  # the first stream of views that may open the gate
        known = ledger.state.load().renewed
        now = ledger.clock.boottime()
        if known is not None and known[1] == ledger.clock.boot_id() and known[0] <= now:
            self._until, self._length = known[0] + known[2], known[2]
            if self.is_held:
                self._stream = 0
        reconciler.is_held = lambda: self.is_held
        reconciler.looked = self.disturbed

    @property
    def is_held(self) -> bool:
        """Whether the lease lasts."""
        return self._ledger.clock.boottime() < self._until

    @property
    def left(self) -> int:
        """For how many more seconds."""
        return max(0, self._until - self._ledger.clock.boottime())

    def check(self) -> None:
        """Unavailable when this host may not use its addresses now."""
        if self.is_held and self._gate:
            return
        host = self._ledger.host
        why = self.problem or self._follower.problem or "it has just come back"
        if not self._length:
            raise Unavailable(f"host {host} did not renew its lease at romanad since the machine started: {why}")
        raise Unavailable(
            f"host {host} could not renew its lease at romanad for {self._length} s, so its endpoints are cut off "
            f"until it can: {why}"
        )

    def disturbed(self) -> None:
        """Somebody may have taken the gate away."""
        self._doubted = True
        self._follower.beat.ring()

    async def run(self) -> None:
        """Renew it, for ever."""
        while True:
            try:
                await self._tend()
            except RomanaError as error:
                if str(error) != self.problem:
                    log.warning("the lease was not renewed", error=str(error), reason=error.reason, left=self.left)
                self.problem = str(error)
            else:
                self.problem = ""
            await self._follower.beat.wait(
                min(self._every, self.left + 1) if self._gate or self._doubted else self._every
            )

    async def _tend(self) -> None:
        if self._gate is None or self._doubted or (self._gate and not self.is_held):
            await self._tell()
        if not self._follower.epoch:
            return
        view = self._ledger.view
        began = self._ledger.clock.boottime()
        beat = Heartbeat(
            host=self._ledger.host,
            epoch=self._follower.epoch,
            incarnation=view.incarnation,
            applied=self._acknowledged(),
            lease=self._length,
        )
        current = self._reconciler.applied_stream >= self._stream
        try:
            answer = await self._control.heartbeat(beat)
        except (Conflict, NotFound):
            if self._follower.connected:  # else it is on its way
                self._follower.restart()
            raise
        if current:
            await self._renewed(began, answer.lease)

    def _acknowledged(self) -> int:
        """The revision of the view that both the kernel and the disk have."""
        applied, kept = self._reconciler.applied, self._follower.kept
        if applied is None or not applied.incarnation == kept[0] == self._ledger.view.incarnation:
            return 0
        return min(applied.revision, kept[1])

    async def _renewed(self, began: int, length: int) -> None:
        """The control plane has the renewal, which was sent at `began`."""
        gain = began + length - self._until
        if self._gate and length == self._length and gain < min(NOTED, length // 10):
            return
        try:
            boot = self._ledger.clock.boot_id()
            await self._workers.slow(self._ledger.state.renewed, began, boot, length)
        except Unavailable as error:  # what is remembered stays too early, which is safe
            log.warning("the lease could not be remembered", error=str(error))
        opened = not self._gate
        self._until, self._length = began + length, length
        try:
            await self._tell()
        except RomanaError:
            self._gate = None  # again
            raise
        if opened and self._gate:
            log.info("the lease is held", seconds=length)
            self._follower.changed.ring()

    async def _tell(self) -> None:
        """Tell the kernel."""
        doubted, self._doubted = self._doubted, False
        try:
            await self._tell_now(doubted=doubted)
        except RomanaError:
            self._doubted = True
            raise

    async def _tell_now(self, *, doubted: bool) -> None:
        if self.is_held:
            if await self._workers.kernel(self._hold, self._until):
                self._gate = True
                return
        elif (self._gate is None or doubted) and not self._length:
            await self._workers.kernel(self._kernel.keep)  # its own timer knows better than a lost memory
            self._gate = False
            return
        elif doubted and self._gate is False:  # cut off before, and somebody may have let go
            await self._workers.kernel(self._kernel.cut)
            return
        if self._length:
            log.error("the lease is over: endpoints are cut off, routes withdrawn", seconds=self._length)
        self._stream = self._follower.stream + 1
        self._follower.restart()  # at once, or a view that was asked for before would count as one from now on
        self._follower.changed.ring()
        self._gate = False  # by its own timer; the cut makes sure, again and again until it works
        await self._workers.kernel(self._kernel.cut)

    def _hold(self, until: int) -> bool:
        """On the kernel's worker: open the gate until a time of the clock; whether that was not over meanwhile.

        The machine may stand still at any moment, also while the kernel is told a number of seconds, which it counts
        from when it hears of them: then it is told again.
        """
        clock = self._ledger.clock
        for _ in range(TRIES):
            left = until - clock.boottime()
            if left <= 0:
                break
            self._kernel.hold(left)
            if clock.boottime() + left <= until + 1:
                return True
        if clock.boottime() < until:
            return True
        self._kernel.cut()
        return False
