"""Copies of a store: taking one while romanad runs, and filling an empty store from one.

Owns what a backup has (all records but leases) and what a restore adds: every host that had an agent is unsettled until
it has said what it holds, for it may have done things that the copy does not know; and fixed addresses are held back,
for the control plane may have given some. Invariant: a restore that fails leaves the store empty.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator

import msgspec

from romana import __version__
from romana.codec.backup import BackupReader, BackupWriter, Header
from romana.codec.records import HELD, HELD_KEY, HOST, KINDS, UNSETTLED, Held, Unsettled
from romana.model.errors import Fault, Invalid, Unavailable
from romana.ports import EmptyStore, Store

BATCH = 1000
"""Records that are handed to the store at once."""
TAKEN_EVERY = 200
"""Lines after which others get a turn."""


class Restored(msgspec.Struct, frozen=True, kw_only=True):
    """What a restore has done: the copy's header, how many records, which hosts are unsettled, the new incarnation."""

    header: Header
    records: int
    unsettled: tuple[str, ...]
    incarnation: str


async def backup(store: Store) -> AsyncIterator[msgspec.Raw]:
    """The lines of a backup, without line feeds, as of one revision; changes go on meanwhile."""
    writer = BackupWriter()
    revision, pages = await store.read()
    incarnation = await store.incarnation()
    yield msgspec.Raw(writer.header(incarnation=incarnation, revision=revision, made_by=f"romana {__version__}"))
    async for page in pages:
        for number, record in enumerate(page):
            if record.key.partition("/")[0] in KINDS:
                yield msgspec.Raw(writer.record(record.key, record.value))
            if number % TAKEN_EVERY == 0:
                await asyncio.sleep(0)
    yield msgspec.Raw(writer.end())


def check_backup(lines: Iterable[bytes]) -> Header:
    """Read all of a backup; Invalid, with a sentence, when it is none, not whole, or of a newer program."""
    reader = BackupReader()
    for key, value in reader.records(lines):
        kind, _, name = key.partition("/")
        if kind not in KINDS or not name:
            raise Invalid(Fault(key, "is a record that this program does not know; restore with a newer one"))
        try:
            KINDS[kind].decode(value, key)
        except Unavailable as error:
            raise Invalid(Fault(key, str(error))) from error
    return reader.finish()


async def restore(read: Callable[[], Iterable[bytes]], target: EmptyStore) -> Restored:
    """Fill an empty store with a backup that `check_backup` found whole; `read` begins to read its lines.

    Whatever fails, the store is left empty.
    """
    try:
        reader = BackupReader()
        unsettled: list[str] = []
        batch: list[tuple[str, bytes]] = []
        for key, value in _with_doubts(reader.records(read()), unsettled):
            batch.append((key, value))
            if len(batch) == BATCH:
                await target.add(batch)
                batch = []
        await target.add(batch)
        header = reader.finish()
        incarnation = await target.finish()
    except BaseException:
        await asyncio.shield(target.abandon())
        raise
    return Restored(header=header, records=reader.count, unsettled=tuple(unsettled), incarnation=incarnation)


def _with_doubts(records: Iterator[tuple[str, bytes]], unsettled: list[str]) -> Iterator[tuple[str, bytes]]:
    """The records, with what the copy may not know in place of such records that were there: one for each host that had
    an agent, whose names are appended, and one for fixed addresses, also where the copy has no static range yet.
    """
    for key, value in records:
        kind, _, name = key.partition("/")
        if kind in (UNSETTLED.name, HELD.name):
            continue
        if kind == HOST.name and HOST.decode(value, key).instance:
            unsettled.append(name)
        yield key, value
    for name in unsettled:
        yield UNSETTLED.key(name), UNSETTLED.encode(Unsettled(host=name))
    yield HELD_KEY, HELD.encode(Held())
