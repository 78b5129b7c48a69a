"""What every command shares: where romanad is, the form of the output, and asking for things.

Owns the options `--server`, `--output` and `--json`, which each command gets by being declared with `command`. Knows no
resource. Invariant: what a program reads is on stdout and nothing else is.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote, urlencode

import msgspec
import typer

from romana.apps.cli.table import Column, print_table, print_value
from romana.codec.document import load_all
from romana.model.errors import Fault, Invalid, NotFound

if TYPE_CHECKING:
    from romana.adapters.romanad import RomanadClient

DEFAULT_SERVER = "unix:///run/romana/romanad.sock"


class Output(StrEnum):
    """The form of the answer."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


class Session:
    """One command's connection to romanad and its output."""

    def __init__(self, server: str, output: Output) -> None:
        self._server = server
        self.output = output

    @property
    def is_table(self) -> bool:
        """Whether a person reads the answer."""
        return self.output is Output.TABLE

    def get(self, path: str, **query: str | None) -> Any:
        """The resource at a path below `/v1`."""
        return self._call(lambda client: client.get(address(path, query)))

    def find(self, path: str) -> Any:
        """The same, or None when there is none."""
        try:
            return self.get(path)
        except NotFound:
            return None

    def items(self, path: str, **query: str | None) -> list[Any]:
        """Every item of a list."""
        found: list[Any] = self._call(lambda client: client.items(address(path, query)))
        return found

    def put(self, path: str, body: object, **query: str | None) -> Any:
        """Put a document in its place."""
        return self._call(lambda client: client.put(address(path, query), body))

    def post(self, path: str, body: object) -> Any:
        """Hand a document over."""
        return self._call(lambda client: client.post(address(path, {}), body))

    def delete(self, path: str) -> Any:
        """Remove a resource."""
        return self._call(lambda client: client.delete(address(path, {})))

    def lines(self, path: str, **query: str | None) -> Iterator[Any]:
        """The values of a stream, as they come."""
        return map(msgspec.json.decode, self.raw_lines(path, **query))

    def raw_lines(self, path: str, **query: str | None) -> Iterator[bytes]:
        """The lines of a stream, as they come, without line feeds."""
        with asyncio.Runner() as runner:
            client = self._client()
            lines = client.watch(address(path, query))
            try:
                while True:
                    try:
                        yield runner.run(_next(lines))
                    except StopAsyncIteration:
                        return
            finally:
                runner.run(client.close())

    def _client(self) -> RomanadClient:
        # Half of this program's start is this import; help and completion do without it.
        from romana.adapters.romanad import RomanadClient  # noqa: PLC0415

        return RomanadClient(self._server)

    def _call(self, ask: Callable[[RomanadClient], Any]) -> Any:
        async def call() -> Any:
            client = self._client()
            try:
                return await ask(client)
            finally:
                await client.close()

        return asyncio.run(call())

    def show(self, items: Sequence[Any], columns: Sequence[Column], *, empty: str = "") -> None:
        """Show a list: a table for people, with a sentence on stderr when there is nothing; else all of it."""
        if not self.is_table:
            print_value(items, as_yaml=self.output is Output.YAML)
        elif items:
            print_table(items, columns)
        elif empty:
            typer.echo(empty, err=True)

    def show_one(self, item: Any, columns: Sequence[Column]) -> None:
        """Show one thing: a line for each column, or all of it."""
        if not self.is_table:
            print_value(item, as_yaml=self.output is Output.YAML)
            return
        width = max(len(column.title) for column in columns) + 1
        for column in columns:
            title = f"{column.title}:".ljust(width)
            typer.echo(f"{typer.style(title, bold=True)} {column.cell(item)}")

    def say(self, sentence: str, item: object = None) -> None:
        """What was done: a sentence for people; programs get the thing itself, when there is one."""
        if self.is_table:
            typer.echo(sentence)
        elif item is not None:
            print_value(item, as_yaml=self.output is Output.YAML)


def changed(known: Any, said: Mapping[str, object]) -> dict[str, object]:
    """What options said about something; where they said nothing (None), as it is known, if it is."""
    kept = {name: known[name] for name in said if known is not None and name in known}
    return {**kept, **{name: value for name, value in said.items() if value is not None}}


async def _next(lines: AsyncIterator[bytes]) -> bytes:
    return await anext(lines)


def address(path: str, query: Mapping[str, str | None]) -> str:
    """A path below `/v1` with a query of what is not None."""
    asked = urlencode({name: value for name, value in query.items() if value is not None})
    return f"/v1/{path}" + (f"?{asked}" if asked else "")


def name_in_path(name: str) -> str:
    """A name as one part of a path; slashes stay, ids have them."""
    return quote(name, safe="/:")


def read_text(file: str) -> str:
    """A file's text (`-` is stdin). Invalid, naming the file, when it is none."""
    try:
        return _read(file).decode()
    except UnicodeDecodeError as error:
        raise Invalid(Fault(file, "is not text in UTF-8")) from error


def _read(file: str) -> bytes:
    try:
        return typer.get_binary_stream("stdin").read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise Invalid(Fault(file, f"cannot be read: {error.strerror}")) from error


def read_documents(file: str) -> list[object]:
    """All documents in a file (`-` is stdin), JSON or YAML. Invalid, naming the file, when it is neither."""
    text = _read(file)
    try:
        found = load_all(text)
    except Invalid as error:
        raise in_file(file, error) from error
    if not found:
        raise in_file(file, Invalid(Fault("", "has no document in it")))
    return found


def read_document(file: str) -> object:
    """The one document in a file."""
    found = read_documents(file)
    if len(found) != 1:
        raise in_file(file, Invalid(Fault("", f"expected one document, found {len(found)}")))
    return found[0]


class GivenDocuments:
    """The documents of several files, as one list that is asked about at once."""

    def __init__(self, files: Sequence[str]) -> None:
        """Reads them. Invalid, naming the file, when one is neither JSON nor YAML."""
        self.documents: list[object] = []
        self._places: list[tuple[str, str]] = []  # of each document: its file, and its place there
        for file in files:
            found = read_documents(file)
            self.documents += found
            self._places += [(file, f"[{index}]" if len(found) > 1 else "") for index in range(len(found))]

    @contextmanager
    def placed(self) -> Iterator[None]:
        """While asking: faults, which begin with a document's place in the list, name its file and place there."""
        try:
            yield
        except Invalid as error:
            raise Invalid(*map(self._placed, error.faults)) from error

    def _placed(self, fault: Fault) -> Fault:
        found = re.match(r"\[(\d+)\]\.?", fault.path)
        if found is None or int(found[1]) >= len(self._places):
            return fault
        file, place = self._places[int(found[1])]
        rest = fault.path[found.end() :]
        inner = f"{place}.{rest}" if place and rest and not rest.startswith("[") else f"{place}{rest}"
        return in_file(file, Invalid(Fault(inner, fault.sentence))).faults[0]


def in_file(file: str, error: Invalid) -> Invalid:
    """The same faults with the file before each place."""
    name = "standard input" if file == "-" else file
    return Invalid(*(Fault(f"{name}: {fault.path}" if fault.path else name, fault.sentence) for fault in error.faults))


OutputOption = Annotated[Output, typer.Option("--output", "-o", help="The form of the answer.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Short for `-o json`.")]
_ServerOption = Annotated[
    str, typer.Option("--server", envvar="ROMANA_SERVER", help="Where romanad is: unix:///PATH or http://HOST:PORT.")
]


def _option(name: str, default: object, kind: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)


_SHARED = (
    _option("server", DEFAULT_SERVER, _ServerOption),
    _option("output", Output.TABLE, OutputOption),
    _option("json", False, JsonOption),
)


def command(app: typer.Typer, name: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Declare a function of (session, its own arguments) as a command; the shared options are added to it."""

    def declare(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def run(*, server: str, output: Output, json: bool, **own: Any) -> None:
            function(Session(server, Output.JSON if json else output), **own)

        signature = inspect.signature(function, eval_str=True)
        _session, *own = signature.parameters.values()
        named = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]
        run.__signature__ = signature.replace(parameters=[*named, *_SHARED])  # type: ignore[attr-defined]
        run.__annotations__ = {}
        app.command(name)(run)
        return function

    return declare
