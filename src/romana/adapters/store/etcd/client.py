"""Calls to an etcd cluster: one connection at a time, to the next member when one fails.

Owns connections and time limits. Refuses to know what is stored. Invariants: a call that changes something is sent
once, on a connection that stands; a call that only reads is repeated on other members until its time is over.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

from romana.adapters.store.etcd import messages as m
from romana.adapters.store.etcd.address import EtcdAddress
from romana.model.errors import Conflict, Unavailable

# grpcio reads these when it is imported: romanad starts programs without forking alone, and has a log of its own.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import grpc
import grpc.aio

CONNECT = 1.0
"""Seconds that a member may take to accept a connection before the next one is tried."""
_OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 3000),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
]
_HAS_LEADER = (("hasleader", "true"),)
"""A member that has lost the others is to say so, not to wait."""
_UNSENT = "failed to connect to all addresses"
"""In grpcio's words: nothing was sent."""
_KV, _WATCH, _LEASE = "/etcdserverpb.KV/", "/etcdserverpb.Watch/", "/etcdserverpb.Lease/"


class WrongStore(Unavailable):
    """The store cannot be used as it is configured, or by this program; waiting does not help."""


class LeaseGone(Unavailable):
    """The lease that was named is none any more."""


class EtcdClient:
    """Use it inside one event loop; close it."""

    def __init__(self, address: EtcdAddress) -> None:
        """WrongStore when a file for TLS cannot be read. Nothing is connected yet."""
        self.seen = 0  # the largest revision in any answer
        self._address = address
        self._credentials = _credentials(address)
        self._channels: dict[int, grpc.aio.Channel] = {}
        self._current = 0
        self._streams: set[Any] = set()

    async def txn(self, compare: list[Any], success: list[Any], failure: list[Any] | None = None) -> Any:
        """A transaction; it is repeated on failure only when it changes nothing."""
        request = m.TxnRequest(compare=compare, success=success, failure=failure or [])
        reads = all(op.HasField("request_range") for op in success)
        return await self._call(_KV + "Txn", request, m.TxnResponse, repeat=reads)

    async def range(self, key: bytes, end: bytes = b"", **more: int) -> Any:
        """Keys and values; Conflict when the revision that is asked for was compacted."""
        return await self._call(
            _KV + "Range", m.RangeRequest(key=key, range_end=end, **more), m.RangeResponse, repeat=True
        )

    async def grant(self, seconds: int) -> Any:
        """A new lease."""
        return await self._call(
            _LEASE + "LeaseGrant", m.LeaseGrantRequest(TTL=seconds), m.LeaseGrantResponse, repeat=True
        )

    async def revoke(self, lease: int) -> None:
        """End a lease; ended already is success."""
        request = m.LeaseRevokeRequest(ID=lease)
        try:
            await self._call(_LEASE + "LeaseRevoke", request, m.LeaseRevokeResponse, repeat=True)
        except LeaseGone:
            return

    async def keep_alive(self, lease: int) -> int:
        """Renew a lease: the seconds that it lasts from now, 0 when there is none any more."""
        channel = await self._ready(asyncio.get_running_loop().time() + self._address.timeout)
        call = channel.stream_stream(
            _LEASE + "LeaseKeepAlive",
            request_serializer=m.LeaseKeepAliveRequest.SerializeToString,
            response_deserializer=m.LeaseKeepAliveResponse.FromString,
        )(metadata=_HAS_LEADER, timeout=self._address.timeout)
        try:
            await call.write(m.LeaseKeepAliveRequest(ID=lease))
            answer = await call.read()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError) as error:
            self._turn(channel)
            raise Unavailable(f"etcd does not renew the lease: {error}") from error
        finally:
            call.cancel()
        return 0 if answer is grpc.aio.EOF else int(answer.TTL)

    async def watch(self, request: Any) -> EtcdStream:
        """The stream of a watch; it ends with Unavailable, also when another member is turned to."""
        channel = await self._ready(asyncio.get_running_loop().time() + self._address.timeout)
        call = channel.stream_stream(
            _WATCH + "Watch",
            request_serializer=m.WatchRequest.SerializeToString,
            response_deserializer=m.WatchResponse.FromString,
        )(metadata=_HAS_LEADER)
        stream = EtcdStream(self, call)
        self._streams.add(stream)
        await stream.send(m.WatchRequest(create_request=request))
        return stream

    def ended(self, stream: EtcdStream) -> None:
        """A stream is used no longer."""
        self._streams.discard(stream)

    async def close(self) -> None:
        """End everything."""
        for stream in list(self._streams):
            stream.cancel()
        for channel in self._channels.values():
            await channel.close()
        self._channels.clear()

    async def _call(self, method: str, request: Any, answers: Any, *, repeat: bool) -> Any:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._address.timeout * (len(self._address.endpoints) + 1)
        while True:
            channel = await self._ready(deadline)
            call = channel.unary_unary(
                method, request_serializer=type(request).SerializeToString, response_deserializer=answers.FromString
            )
            try:
                answer = await call(request, timeout=self._address.timeout, metadata=_HAS_LEADER)
            except grpc.aio.AioRpcError as error:
                if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                    self._turn(channel)
                    unsent = _UNSENT in str(error.details())
                    if (repeat or unsent) and loop.time() < deadline:
                        await asyncio.sleep(0.05)
                        continue
                raise _translated(error, repeat=repeat) from error
            except asyncio.CancelledError:
                if _being_cancelled():
                    raise
                raise Unavailable("the store is closed") from None
            self.seen = max(self.seen, answer.header.revision)
            return answer

    async def _ready(self, deadline: float) -> grpc.aio.Channel:
        """A connection that stands; Unavailable when no member accepts one until the deadline."""
        loop = asyncio.get_running_loop()
        while True:
            channel = self._channel()
            if await _connected(channel, min(loop.time() + CONNECT, deadline)):
                return channel
            if loop.time() >= deadline:
                raise Unavailable(
                    f"no member of etcd answers ({', '.join(self._address.endpoints)}): {await _why(channel)}"
                )
            self._turn(channel)

    def _channel(self) -> grpc.aio.Channel:
        number = self._current % len(self._address.endpoints)
        if number not in self._channels:
            target = f"dns:///{self._address.endpoints[number]}"
            if self._credentials is None:
                self._channels[number] = grpc.aio.insecure_channel(target, options=_OPTIONS)
            else:
                self._channels[number] = grpc.aio.secure_channel(target, self._credentials, options=_OPTIONS)
        return self._channels[number]

    def _turn(self, channel: grpc.aio.Channel) -> None:
        """To the next member, unless that was done already; streams go along."""
        number = self._current % len(self._address.endpoints)
        if self._channels.get(number) is not channel:
            return
        if len(self._address.endpoints) > 1:
            self._current += 1
            for stream in list(self._streams):
                stream.cancel()


class EtcdStream:
    """Both directions of one call."""

    def __init__(self, client: EtcdClient, call: Any) -> None:
        self._client = client
        self._call = call

    async def send(self, request: Any) -> None:
        """Say something."""
        try:
            await self._call.write(request)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError) as error:
            raise self._broken(error) from error

    async def receive(self) -> Any:
        """What comes next."""
        try:
            answer = await self._call.read()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError) as error:
            raise self._broken(error) from error
        except asyncio.CancelledError:
            if self._call.cancelled() and not _being_cancelled():
                raise Unavailable("another member of etcd is turned to") from None
            raise
        if answer is grpc.aio.EOF:
            raise Unavailable("etcd ended the stream")
        self._client.seen = max(self._client.seen, answer.header.revision)
        return answer

    def cancel(self) -> None:
        """End it."""
        self._client.ended(self)
        self._call.cancel()

    def _broken(self, error: Exception) -> Unavailable:
        why = error.details() if isinstance(error, grpc.aio.AioRpcError) else str(error)
        return Unavailable(f"the stream from etcd broke: {why}")


def _being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def _connected(channel: grpc.aio.Channel, until: float) -> bool:
    state = channel.get_state(try_to_connect=True)
    try:
        async with asyncio.timeout_at(until):
            while state is not grpc.ChannelConnectivity.READY:
                if state is grpc.ChannelConnectivity.TRANSIENT_FAILURE:
                    await asyncio.sleep(0.05)
                    return False
                await channel.wait_for_state_change(state)
                state = channel.get_state(try_to_connect=True)
    except TimeoutError:
        return False
    return True


async def _why(channel: grpc.aio.Channel) -> str:
    """The reason why a connection does not stand; only a call gets to know it."""
    call = channel.unary_unary(
        _KV + "Range",
        request_serializer=m.RangeRequest.SerializeToString,
        response_deserializer=m.RangeResponse.FromString,
    )
    try:
        await call(m.RangeRequest(key=b"\0"), timeout=0.5)
    except grpc.aio.AioRpcError as error:
        return str(error.details())
    return "it does now"


def _translated(error: grpc.aio.AioRpcError, *, repeat: bool) -> Exception:
    words = str(error.details())
    if "compacted" in words:
        return Conflict("etcd has compacted what was to be read; read everything again")
    if error.code() is grpc.StatusCode.NOT_FOUND:
        return LeaseGone(f"etcd has ended a lease: {words}")
    if "space exceeded" in words:
        return Unavailable(
            "etcd's database is full: compact and defragment it, or give it a larger quota, then disarm the alarm"
        )
    if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED) and not repeat:
        if _UNSENT in words:
            return Unavailable(f"no member of etcd answers: {words}")
        return Unavailable(f"etcd did not say whether the change was made: {words}")
    return Unavailable(f"etcd does not answer as it should: {words}")


def _credentials(address: EtcdAddress) -> grpc.ChannelCredentials | None:
    if not address.ca:
        return None
    found = {}
    for name, path in (("ca", address.ca), ("certificate", address.certificate), ("key", address.key)):
        try:
            found[name] = Path(path).read_bytes() if path else None
        except OSError as error:
            raise WrongStore(f"cannot read {path} (the {name} for etcd): {error.strerror}") from error
    return grpc.ssl_channel_credentials(found["ca"], found["key"], found["certificate"])
