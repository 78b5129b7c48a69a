"""`romana backup` and `romana restore`: a copy of the store, and an empty store filled from one.

Owns the file. Invariant: a file has its name only when it is whole and on the disk.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from romana.adapters.store.etcd.address import EtcdAddress
from romana.adapters.store.sqlite_file import EmptyFile
from romana.apps.cli.session import JsonOption, Output, OutputOption, Session, command, in_file
from romana.apps.cli.table import print_value
from romana.apps.cli.waiting import busy
from romana.codec.backup import BackupReader
from romana.model.errors import Fault, Invalid, Unavailable
from romana.ports import EmptyStore
from romana.services.control.backup import Restored, check_backup, restore

SHOWN = 20
"""Names of hosts in one sentence at most."""

File = Annotated[Path, typer.Argument(metavar="FILE", show_default=False)]
Database = Annotated[
    Path | None, typer.Option("--path", metavar="DB", help="The SQLite file to make, romanad's `\\[store] path`.")
]
Endpoints = Annotated[
    str, typer.Option("--etcd", metavar="HOST:PORT,...", help="The members of an etcd cluster, instead of --path.")
]
EtcdPrefix = Annotated[str, typer.Option("--prefix", help="romanad's `\\[etcd] prefix`.")]
EtcdCa = Annotated[str, typer.Option("--ca", metavar="FILE", help="romanad's `\\[etcd] ca`.")]
EtcdCertificate = Annotated[str, typer.Option("--certificate", metavar="FILE", help="`\\[etcd] certificate`.")]
EtcdKey = Annotated[str, typer.Option("--key", metavar="FILE", help="`\\[etcd] key`.")]


def add_backup(app: typer.Typer) -> None:
    """Both commands."""
    command(app, "backup")(_backup)
    app.command("restore")(_restore)


def _backup(session: Session, file: File) -> None:
    """Copy the store, as of one moment, into a file; romanad goes on meanwhile. An older file is replaced."""
    new = file.with_name(f"{file.name}.{os.getpid()}.new")
    reader = BackupReader()
    try:
        try:
            with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
                with busy("copying the store"):
                    for line in session.raw_lines("backup"):
                        reader.line(line + b"\n")
                        out.write(line + b"\n")
                header = reader.finish()
                out.flush()
                os.fsync(out.fileno())
            new.replace(file)
            _sync_directory(file.parent)
        except Invalid as error:
            raise Unavailable(f"romanad broke the backup off ({error}); nothing was written") from error
        except OSError as error:
            raise Unavailable(f"cannot write {file}: {error.strerror}") from error
    finally:
        new.unlink(missing_ok=True)
    item = {"file": str(file), "records": reader.count, "revision": header.revision}
    session.say(f"{file}: {reader.count} records as of revision {header.revision}", item)


def _restore(
    file: File,
    path: Database = None,
    etcd: Endpoints = "",
    prefix: EtcdPrefix = "/romana/",
    ca: EtcdCa = "",
    certificate: EtcdCertificate = "",
    key: EtcdKey = "",
    output: OutputOption = Output.TABLE,
    json: JsonOption = False,
) -> None:
    """Fill an empty store from a backup, with no romanad running on it: all of it, or nothing.

    Hosts that had an agent are unsettled then: nobody gets new blocks until each of them has reported what it holds, or
    was declared lost. Fixed addresses are held back until `romana address confirm`.
    """
    if (path is None) == (not etcd):
        raise typer.BadParameter("say where to: --path DB or --etcd HOST:PORT,...")
    address = EtcdAddress(
        endpoints=tuple(etcd.split(",")) if etcd else (), prefix=prefix, ca=ca, certificate=certificate, key=key
    )
    if path is None and (faults := address.faults()):
        raise Invalid(*faults)

    async def work() -> Restored:
        with Unreadable(file):
            with busy(f"reading {file}"):
                check_backup(_lines(file))
            target = await _target(path, address)
            with busy("filling the store"):
                return await restore(lambda: _lines(file), target)

    done = asyncio.run(work())
    if json or output is not Output.TABLE:
        item = {"records": done.records, "revision": done.header.revision, "unsettled": list(done.unsettled)}
        print_value(item, as_yaml=output is Output.YAML and not json)
        return
    typer.echo(f"{done.records} records restored, as of revision {done.header.revision}")
    typer.echo("no new fixed address is given before `romana address confirm`")
    if done.unsettled:
        names = ", ".join(done.unsettled[:SHOWN])
        more = " and more, which `romana host list` shows" if len(done.unsettled) > SHOWN else ""
        typer.echo(f"{len(done.unsettled)} hosts must report before anybody gets new blocks: {names}{more}")


class Unreadable:
    """Says which file it was that could not be read, or is not as it should be."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def __enter__(self) -> None:
        return

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, OSError):
            raise Invalid(Fault(str(self._file), f"cannot be read: {error.strerror}")) from error
        if isinstance(error, Invalid):
            raise in_file(str(self._file), error) from error


async def _target(path: Path | None, address: EtcdAddress) -> EmptyStore:
    if path is not None:
        return EmptyFile(path)
    from romana.adapters.store.etcd.restore import empty_etcd  # noqa: PLC0415 - grpcio costs memory and time

    return await empty_etcd(address)


def _lines(file: Path) -> Iterator[bytes]:
    with file.open("rb") as lines:
        yield from lines


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
