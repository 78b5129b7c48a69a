"""An agent's memory in one SQLite file, with the last view in a file beside it.

Owns both files (the first is held by an exclusive lock, so a second agent is refused). Refuses to know what an endpoint
means. Invariants: what a method remembers is durable when it returns (WAL, synchronous FULL), in one
transaction; an address is never in use and resting at once; the log's numbers only grow, and a memory whose log ends
before its mark was set back, so it disowns itself.
"""

from __future__ import annotations

import secrets
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import structlog

from romana.adapters.files import replace_file
from romana.adapters.mark import Mark
from romana.codec.json import decode, encode
from romana.codec.text import parse_address, parse_prefix
from romana.model.address import Address, Prefix
from romana.model.endpoint import Endpoint
from romana.model.errors import Unavailable
from romana.model.view import BlockReturned, BlockTaken
from romana.ports import AgentMemory, PendingPublication

log = structlog.get_logger()

SCHEMA_VERSION = 2
_TABLES = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE endpoints (id TEXT PRIMARY KEY, record BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE resting (
    address TEXT PRIMARY KEY, since INTEGER NOT NULL, boot TEXT NOT NULL, identity TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE closed (cidr TEXT PRIMARY KEY, sequence INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE taken (cidr TEXT PRIMARY KEY, sequence INTEGER NOT NULL, record BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE unlinking (id TEXT PRIMARY KEY, record BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE pending (number INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, record BLOB NOT NULL);
"""
_HIGHEST_SEQUENCE = "UPDATE meta SET value = max(value, ?) WHERE name = 'sequence'"
_UPGRADES = {
    1: """
ALTER TABLE resting ADD COLUMN identity TEXT NOT NULL DEFAULT '';
CREATE TABLE closed (cidr TEXT PRIMARY KEY, sequence INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE taken (cidr TEXT PRIMARY KEY, sequence INTEGER NOT NULL, record BLOB NOT NULL) WITHOUT ROWID;
INSERT OR REPLACE INTO taken
SELECT json_extract(CAST(record AS TEXT), '$.cidr'), json_extract(CAST(record AS TEXT), '$.sequence'), record
FROM pending WHERE kind = 'taken' ORDER BY number;
""",
}
"""Schema version -> what makes it the next one. Nobody knows who had an address that was freed under version 1."""


class SqliteAgentState:
    """ports.AgentState in a directory. Any thread may call; one at a time is served."""

    def __init__(self, directory: Path, *, boot_id: str, mark: Path | None = None) -> None:
        """Open or make it; Unavailable when it cannot be, or another agent has it open. At `mark` is written how far
        the log has come.
        """
        self._path = directory / "agent.db"
        self._view = directory / "view.json"
        self._boot_id = boot_id
        self._lock = threading.Lock()
        try:
            directory.mkdir(parents=True, exist_ok=True, mode=0o750)
            self._connection = _open(self._path)
        except (sqlite3.Error, OSError) as error:
            hint = "; another agent has it open" if "locked" in str(error) else ""
            raise Unavailable(f"agent state {self._path}: {error}{hint}") from error
        self._mark: Mark | None = None
        if mark is not None:
            try:
                self._mark = Mark(mark)
                self._look_at_mark()
            except BaseException:
                self.close()
                raise

    def instance(self) -> str:
        """The random id of this memory."""
        return str(self._meta("instance"))

    def disown(self) -> None:
        """Another id, the epoch 0, no lease."""
        with self._transaction() as rows:
            rows.execute("UPDATE meta SET value = ? WHERE name = 'instance'", (secrets.token_hex(16),))
            rows.execute("UPDATE meta SET value = 0 WHERE name = 'epoch'")
            rows.execute("DELETE FROM meta WHERE name = 'renewed'")

    def load(self) -> AgentMemory:
        """Everything; a view that cannot be read is None."""
        with self._lock:
            rows = self._connection.execute
            return AgentMemory(
                endpoints={name: decode(record, Endpoint) for name, record in rows("SELECT id, record FROM endpoints")},
                resting={
                    parse_address(address): (since, boot, identity)
                    for address, since, boot, identity in rows("SELECT address, since, boot, identity FROM resting")
                },
                closed={parse_prefix(cidr): sequence for cidr, sequence in rows("SELECT cidr, sequence FROM closed")},
                taken=tuple(decode(record, BlockTaken) for (record,) in rows("SELECT record FROM taken ORDER BY cidr")),
                unlinking={name: decode(record, Endpoint) for name, record in rows("SELECT id, record FROM unlinking")},
                pending=tuple(map(_pending, rows("SELECT number, kind, record FROM pending ORDER BY number"))),
                view=self._view.read_bytes() if self._view.exists() else None,
                sequence=int(rows("SELECT value FROM meta WHERE name = 'sequence'").fetchone()[0]),
                epoch=int(rows("SELECT value FROM meta WHERE name = 'epoch'").fetchone()[0]),
                renewed=_renewed(rows("SELECT value FROM meta WHERE name = 'renewed'").fetchone()),
            )

    def start(self, endpoint: Endpoint) -> None:
        """One transaction: the endpoint, its addresses rest no longer, the log, the largest sequence."""
        record = encode(endpoint)
        with self._transaction() as rows:
            rows.execute("INSERT OR REPLACE INTO endpoints VALUES (?, ?)", (endpoint.id, record))
            rows.executemany("DELETE FROM resting WHERE address = ?", [(str(one),) for one in endpoint.addresses])
            rows.execute("DELETE FROM unlinking WHERE id = ?", (endpoint.id,))
            rows.execute("INSERT INTO pending (kind, record) VALUES ('started', ?)", (record,))
            rows.execute(_HIGHEST_SEQUENCE, (_sequence(endpoint),))

    def release(self, endpoint: Endpoint, released_at: int) -> None:
        """One transaction: the endpoint is gone, its addresses rest, its link is to go, the log, the sequence."""
        with self._transaction() as rows:
            self._forget(rows, endpoint, released_at)
            rows.execute("INSERT OR REPLACE INTO unlinking VALUES (?, ?)", (endpoint.id, encode(endpoint)))

    def forget(self, endpoint: Endpoint, released_at: int) -> None:
        """The same without its link."""
        with self._transaction() as rows:
            self._forget(rows, endpoint, released_at)

    def _forget(self, rows: sqlite3.Connection, endpoint: Endpoint, released_at: int) -> None:
        identity = endpoint.identity.id
        rests = [(str(address), released_at, self._boot_id, identity) for address in endpoint.addresses]
        rows.execute("DELETE FROM endpoints WHERE id = ?", (endpoint.id,))
        rows.executemany("INSERT OR REPLACE INTO resting VALUES (?, ?, ?, ?)", rests)
        rows.execute("INSERT INTO pending (kind, record) VALUES ('released', ?)", (encode(endpoint),))
        rows.execute(_HIGHEST_SEQUENCE, (_sequence(endpoint),))

    def say_released(self, endpoint: Endpoint) -> None:
        """The log alone."""
        with self._transaction() as rows:
            rows.execute("INSERT INTO pending (kind, record) VALUES ('released', ?)", (encode(endpoint),))

    def unlinked(self, *endpoints: str) -> None:
        """The links of released endpoints are gone."""
        with self._transaction() as rows:
            rows.executemany("DELETE FROM unlinking WHERE id = ?", [(endpoint,) for endpoint in endpoints])

    def rested(self, rests: Mapping[Address, int]) -> None:
        """These rests are over, and nobody asks for their past; an address may have begun another one meanwhile."""
        over = [(str(address), self._boot_id, since) for address, since in rests.items()]
        with self._transaction() as rows:
            rows.executemany("DELETE FROM resting WHERE address = ? AND (boot != ? OR since <= ?)", over)

    def take(self, taken: BlockTaken) -> None:
        """An ownerless block was given to an owner."""
        with self._transaction() as rows:
            rows.execute(
                "INSERT OR REPLACE INTO taken VALUES (?, ?, ?)", (str(taken.cidr), taken.sequence, encode(taken))
            )
            rows.execute("INSERT INTO pending (kind, record) VALUES ('taken', ?)", (encode(taken),))

    def give_back(self, returned: BlockReturned) -> None:
        """A block was given back."""
        with self._transaction() as rows:
            rows.execute("INSERT OR REPLACE INTO closed VALUES (?, ?)", (str(returned.cidr), returned.sequence))
            rows.execute("INSERT INTO pending (kind, record) VALUES ('returned', ?)", (encode(returned),))

    def close_blocks(self, closed: Mapping[Prefix, int]) -> None:
        """Nothing is allocated from these blocks, as long as they have these sequences."""
        with self._transaction() as rows:
            found = [(str(cidr), sequence) for cidr, sequence in closed.items()]
            rows.executemany("INSERT OR REPLACE INTO closed VALUES (?, ?)", found)

    def forget_blocks(self, *, closed: Mapping[Prefix, int], taken: Mapping[Prefix, int]) -> None:
        """These were closed, those taken, as the kept view says by now."""
        with self._transaction() as rows:
            for statement, blocks in (
                ("DELETE FROM closed WHERE cidr = ? AND sequence <= ?", closed),
                ("DELETE FROM taken WHERE cidr = ? AND sequence <= ?", taken),
            ):
                rows.executemany(statement, [(str(cidr), sequence) for cidr, sequence in blocks.items()])

    def renewed(self, at: int, boot_id: str, lease: int) -> None:
        """The lease was renewed."""
        with self._transaction() as rows:
            rows.execute("INSERT OR REPLACE INTO meta VALUES ('renewed', ?)", (f"{at} {boot_id} {lease}",))

    def pending(self, most: int) -> tuple[PendingPublication, ...]:
        """The first entries of the log, in order."""
        with self._lock:
            found = self._connection.execute(
                "SELECT number, kind, record FROM pending ORDER BY number LIMIT ?", (most,)
            )
            return tuple(map(_pending, found))

    def last_number(self) -> int:
        """The largest number of the log, also of entries that are gone."""
        with self._lock:
            return self._last_number()

    def published(self, number: int) -> None:
        """Drop the log up to this entry."""
        with self._transaction() as rows:
            rows.execute("DELETE FROM pending WHERE number <= ?", (number,))

    def joined(self, epoch: int) -> None:
        """Memory and control plane agree."""
        with self._transaction() as rows:
            rows.execute("UPDATE meta SET value = ? WHERE name = 'epoch'", (epoch,))

    def save_view(self, text: bytes) -> None:
        """Replace the view's file."""
        try:
            replace_file(self._view, text, mode=0o640)
        except OSError as error:
            raise Unavailable(f"keeping the view in {self._view}: {error}") from error

    def close(self) -> None:
        """Close the file; the lock goes with it."""
        with self._lock:
            self._connection.close()
            if self._mark is not None:
                self._mark.close()

    def _look_at_mark(self) -> None:
        """See whether this memory has all that was acted upon; from then on the mark is its own."""
        last = self._last_number()
        if self._mark is not None and last < self._mark.number:
            log.warning("this memory is an older copy of itself, or another one", log=last, mark=self._mark.number)
            self.disown()

    def _last_number(self) -> int:
        found = self._connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'pending'").fetchone()
        return int(found[0]) if found is not None else 0

    def _meta(self, name: str) -> object:
        with self._lock:
            return self._connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()[0]

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                try:
                    yield self._connection
                except BaseException:
                    self._connection.execute("ROLLBACK")
                    raise
                self._connection.execute("COMMIT")
                if self._mark is not None:  # after it is durable, before anybody acts on it
                    self._mark.put(self._last_number())
            except sqlite3.Error as error:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise Unavailable(f"writing agent state {self._path}: {error}") from error


def _pending(row: tuple[int, str, bytes]) -> PendingPublication:
    number, kind, record = row
    if kind == "started":
        return PendingPublication(number=number, started=decode(record, Endpoint))
    if kind == "released":
        return PendingPublication(number=number, released=decode(record, Endpoint))
    if kind == "taken":
        return PendingPublication(number=number, taken=decode(record, BlockTaken))
    return PendingPublication(number=number, returned=decode(record, BlockReturned))


def _sequence(endpoint: Endpoint) -> int:
    return max((allocation.sequence for allocation in endpoint.allocations), default=0)


def _renewed(row: tuple[str] | None) -> tuple[int, str, int] | None:
    if row is None:
        return None
    at, boot_id, lease = row[0].split()
    return int(at), boot_id, int(lease)


def _open(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=1)
    try:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            connection.executescript(f"BEGIN IMMEDIATE; {_TABLES} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
        elif version > SCHEMA_VERSION:
            raise sqlite3.NotSupportedError(f"written by a newer romana (schema {version})")  # noqa: TRY301 - as sqlite does
        while 0 < version < SCHEMA_VERSION:
            upgrade, version = _UPGRADES[version], version + 1
            connection.executescript(f"BEGIN IMMEDIATE; {upgrade} PRAGMA user_version = {version}; COMMIT;")
        # A write takes the exclusive lock, and a lost first start is completed.
        connection.execute("BEGIN IMMEDIATE")
        first = [("instance", secrets.token_hex(16)), ("sequence", 0), ("epoch", 0)]
        connection.executemany("INSERT OR IGNORE INTO meta VALUES (?, ?)", first)
        connection.execute("COMMIT")
    except BaseException:
        connection.close()
        raise
    return connection
