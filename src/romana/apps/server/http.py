"""HTTP made from one table of endpoints: routing, the index at `/`, OpenAPI, and errors as RFC 9457 problem details.

Owns how requests are read and answers written. Knows no verb. Invariant: an error of the error tree always becomes its
own status and carries its reason word and every fault.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Generic, TypeVar

import msgspec
import structlog
from starlette.applications import Starlette
from starlette.datastructures import QueryParams
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from romana import __version__
from romana.codec.document import load, read, suggestion
from romana.codec.json import decode, encode
from romana.model.address import Address, Prefix
from romana.model.errors import (
    AlreadyExists,
    Conflict,
    Exhausted,
    Fault,
    Invalid,
    NotFound,
    RomanaError,
    Unavailable,
)

STATUS: dict[type[RomanaError], int] = {
    NotFound: 404,
    AlreadyExists: 409,
    Conflict: 409,
    Invalid: 422,
    Exhausted: 507,
    Unavailable: 503,
}
MOST_BODY = 4 << 20
"""Bytes of a request's body at most."""
MOST_PAGE = 1000

T = TypeVar("T")

log = structlog.get_logger()


class Call(msgspec.Struct):
    """One request: path parameters, query parameters, body."""

    path: dict[str, str]
    query: dict[str, str]
    body: bytes

    def flag(self, name: str) -> bool:
        """A query parameter that is `true` or `false` (when it is not given); Invalid for anything else."""
        value = self.query.get(name, "false")
        if value not in ("true", "false"):
            raise Invalid(Fault(name, f"expected true or false, got {value!r}"))
        return value == "true"

    def words(self, name: str) -> tuple[str, ...]:
        """A query parameter that is a list with commas between its words; empty when it is not given."""
        return tuple(word for word in self.query.get(name, "").split(",") if word)

    def number(self, name: str, default: int) -> int:
        """A query parameter that is a whole number, not negative; Invalid for anything else."""
        value = self.query.get(name, str(default))
        if not (value.isascii() and value.isdigit() and len(value) < 19):
            raise Invalid(Fault(name, f"expected a whole number, got {value!r}"))
        return int(value)

    def document(self) -> object:
        """The body as a document that a person wrote, JSON or YAML."""
        return load(self.body) if self.body.strip() else {}

    def wanted(self, kind: type[T]) -> T:
        """The same as a value of `kind`; Invalid with every fault."""
        return read(self.body if self.body.strip() else b"{}", kind)

    def message(self, kind: Any) -> Any:
        """The body as a message that a program of ours wrote."""
        try:
            return decode(self.body, kind)
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            raise Invalid(Fault("", f"is not a {kind.__name__}: {error}")) from error


class Stream(msgspec.Struct):
    """An answer without end: one JSON value a line."""

    lines: AsyncIterator[object]


class Text(msgspec.Struct):
    """An answer in a form of its own."""

    body: bytes
    media: str


class Page(msgspec.Struct, Generic[T], frozen=True):
    """Part of a list; `next` is what `after` says to go on, null at the end."""

    items: list[T]
    next: str | None


class Problem(msgspec.Struct, frozen=True):
    """RFC 9457 problem details: `title` is the reason word, `detail` the sentence; all faults of a document."""

    type: str
    title: str
    status: int
    detail: str
    faults: tuple[Fault, ...] = ()


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the table. `takes` and `gives` are types of the model, or None; `query` names parameters."""

    method: str
    path: str
    summary: str
    handler: Callable[[Call], Awaitable[object]]
    takes: Any = None
    gives: Any = None
    query: tuple[str, ...] = ()
    streams: bool = False
    rel: str = ""


def page(items: Iterable[T], call: Call, name: Callable[[T], str]) -> Page[T]:
    """Part of a list: at most `limit` items whose name is after `after`; `next` says where to go on."""
    size, after = page_size(call), call.query.get("after", "")
    rest = heapq.nsmallest(size + 1, (item for item in items if name(item) > after), key=name)
    shown = rest[:size]
    return Page(shown, name(shown[-1]) if len(rest) > size else None)


def page_size(call: Call) -> int:
    """How many items a page has at most, as the `limit` of a request says."""
    return max(1, min(call.number("limit", MOST_PAGE), MOST_PAGE))


def application(endpoints: Sequence[Endpoint], lifespan: Any) -> Service:
    """The whole service."""
    described = openapi(endpoints)
    index = _index(endpoints)
    lines = [Route(one.path, _Line(one), methods=[one.method]) for one in endpoints]
    routes = [
        *lines,
        Route("/", _constant(index), methods=["GET"]),
        Route("/openapi.json", _constant(described), methods=["GET"]),
    ]
    missing = {404: _missing, 405: _missing}
    return Service(Starlette(routes=routes, lifespan=lifespan, exception_handlers=missing), lines)


def openapi(endpoints: Sequence[Endpoint]) -> dict[str, object]:
    """The OpenAPI 3.1 document of the table."""
    kinds = [kind for one in endpoints for kind in (one.takes, one.gives) if kind is not None]
    schemas, components = msgspec.json.schema_components(
        [*kinds, Problem], schema_hook=_schema, ref_template="#/components/schemas/{name}"
    )
    found = iter(schemas)
    refused = {"description": "a problem", "content": {"application/problem+json": {"schema": schemas[-1]}}}
    paths: dict[str, dict[str, object]] = {}
    for one in endpoints:
        names = [part[1:-1].partition(":")[0] for part in one.path.split("/") if part.startswith("{")]
        text: dict[str, object] = {"type": "string"}
        operation: dict[str, object] = {
            "summary": one.summary,
            "operationId": one.method.lower() + re.sub(r"[^a-zA-Z0-9_]", "", _plain(one.path).replace("/", "_")),
            "parameters": [
                *({"name": name, "in": "path", "required": True, "schema": text} for name in names),
                *({"name": name, "in": "query", "required": False, "schema": text} for name in one.query),
            ],
        }
        if one.takes is not None:
            operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": next(found)}}}
        media = "application/jsonl" if one.streams else "application/json"
        answer: dict[str, object] = {"description": "done"}
        if one.gives is not None:
            answer["content"] = {media: {"schema": next(found)}}
        operation["responses"] = {"200": answer, "default": refused}
        paths.setdefault(_plain(one.path), {})[one.method.lower()] = operation
    return _with_short_names(
        {
            "openapi": "3.1.0",
            "info": {"title": "romanad", "version": __version__, "license": {"name": "Apache-2.0"}},
            "paths": paths,
            "components": {"schemas": components},
        }
    )


def _with_short_names(described: dict[str, Any]) -> dict[str, Any]:
    """Types of one name in two modules are told apart by the module's last word, not by its whole path."""
    text = encode(described).decode()
    for name in described["components"]["schemas"]:
        if "." in name:
            text = text.replace(f'{name}"', f'{"_".join(name.split(".")[-2:])}"')
    short: dict[str, Any] = msgspec.json.decode(text)
    return short


def problem(error: RomanaError) -> Response:
    """RFC 9457 problem details of an error."""
    faults = error.faults if isinstance(error, Invalid) else ()
    return _problem(STATUS.get(type(error), 500), error.reason, str(error), faults)


def _problem(status: int, reason: str, sentence: str, faults: tuple[Fault, ...] = ()) -> Response:
    body = Problem(f"urn:romana:{reason}", reason, status, sentence, faults)
    return Response(encode(body), status_code=status, media_type="application/problem+json")


class Service:
    """The application. What the table names is found without asking each line of it; everything else, and what is not
    there, is Starlette's.
    """

    def __init__(self, rest: Starlette, routes: Sequence[Route]) -> None:
        self._rest = rest
        self._routes: dict[tuple[str, str], list[Route]] = {}
        for route in routes:
            for method in route.methods or ():
                self._routes.setdefault((method, _corner(route.path)), []).append(route)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""
        if scope["type"] == "http":
            path = scope["path"]
            for route in self._routes.get((scope["method"], _corner(path)), ()):
                found = route.path_regex.match(path)
                if found is not None:
                    scope["path_params"] = found.groupdict()
                    await route.app(scope, receive, send)
                    return
        await self._rest(scope, receive, send)


def _corner(path: str) -> str:
    """The first two parts of a path, which have no parameters."""
    return "/".join(path.split("/", 3)[:3])


class _Line:
    """One line of the table as an ASGI application."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; every error becomes a problem."""
        answer: object
        try:
            query = dict(QueryParams(scope["query_string"])) if scope["query_string"] else {}
            _check_query(self._endpoint, query)
            call = Call(scope["path_params"], query, await _body(receive))
            answer = await self._endpoint.handler(call)
            if isinstance(answer, Text):
                await Response(answer.body, media_type=answer.media)(scope, receive, send)
                return
            if not isinstance(answer, Stream):
                body = encode(answer)
                await send({"type": "http.response.start", "status": 200, "headers": _headers(body)})
                await send({"type": "http.response.body", "body": body})
                return
            response: Response = StreamingResponse(await _lines(answer.lines), media_type="application/jsonl")
        except RomanaError as error:
            log.info("refused", method=scope["method"], path=scope["path"], reason=error.reason, error=str(error))
            response = problem(error)
        except ClientDisconnect:
            response = Response(status_code=499)
        except Exception:
            log.exception("failed", method=scope["method"], path=scope["path"])
            response = problem(RomanaError("romanad has a fault of its own; its log says more"))
        await response(scope, receive, send)


def _headers(body: bytes) -> list[tuple[bytes, bytes]]:
    return [(b"content-length", str(len(body)).encode()), (b"content-type", b"application/json")]


def _check_query(endpoint: Endpoint, query: Mapping[str, str]) -> None:
    """A parameter that nobody reads would silently do nothing: a misspelled filter, or a dry run that is none."""
    unknown = [name for name in query if name not in endpoint.query]
    if unknown:
        raise Invalid(*(Fault(name, f"unknown parameter; {suggestion(name, endpoint.query)}") for name in unknown))


async def _body(receive: Receive) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        part = message.get("body", b"")
        size += len(part)
        if size > MOST_BODY:
            raise Invalid(Fault("", f"is larger than {MOST_BODY >> 20} MiB"))
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)


async def _lines(values: AsyncIterator[object]) -> AsyncIterator[bytes]:
    """The stream's lines; the first value is made before the answer begins, so that its error has a status."""
    first = await anext(values)

    async def lines() -> AsyncIterator[bytes]:
        yield encode(first) + b"\n"
        try:
            async for value in values:
                yield encode(value) + b"\n"
        except RomanaError as error:
            log.info("stream ended", reason=error.reason, error=str(error))

    return lines()


def _constant(value: object) -> Callable[[Request], Awaitable[Response]]:
    async def handle(_request: Request) -> Response:
        return Response(encode(value), media_type="application/json")

    return handle


async def _missing(request: Request, error: Exception) -> Response:
    status = getattr(error, "status_code", 404)
    sentence = f"there is no {request.method} {request.url.path}; GET / lists everything there is"
    return _problem(status, NotFound.reason, sentence)


def _index(endpoints: Sequence[Endpoint]) -> dict[str, object]:
    links = [{"rel": one.rel, "href": one.path, "summary": one.summary} for one in endpoints if one.rel]
    return {
        "service": "romanad",
        "version": __version__,
        "links": [*links, {"rel": "openapi", "href": "/openapi.json"}],
    }


def _plain(path: str) -> str:
    """A path as OpenAPI writes it."""
    return path.replace(":path", "")


def _schema(kind: type) -> dict[str, object]:
    if issubclass(kind, Address):
        return {"type": "string", "description": "an IPv4 or IPv6 address"}
    if issubclass(kind, Prefix):
        return {"type": "string", "description": "a CIDR"}
    raise NotImplementedError
