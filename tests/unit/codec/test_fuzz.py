"""Whatever is in a document, it is read or refused with faults, and costs no more than its size allows."""

from __future__ import annotations

import contextlib

import pytest

from romana.codec.cni_wire import frame_length
from romana.model.errors import Invalid
from tests.fuzz.parsers import PARSERS, Parser, bombs, frame
from tests.fuzz.run import MEGABYTES, documents, memory, read

SEED = 4
DOCUMENTS = 1200
READERS = ("topology", "agent.toml", "environment", "cni", "Publication")
"""One parser for each way in which text is taken apart."""
_BLOCK = b"CNI_COMMAND=CHECK\0CNI_CONTAINERID=c1\0CNI_IFNAME=eth0\0CNI_NETNS=/n\0"
REQUEST = len(_BLOCK).to_bytes(4, "little") + _BLOCK
RESULT = b'{"cniVersion": "1.1.0", "name": "n", "type": "t", "prevResult": {%s}}'


@pytest.mark.parametrize("parser", PARSERS, ids=lambda parser: parser.name)
def test_examples_are_valid(parser: Parser) -> None:
    for text in parser.examples:
        parser.read(text)


def test_nearly_valid_documents_are_read_or_refused_in_order() -> None:
    found = [read(parser, number, text) for number, parser, text in documents(SEED, 0, DOCUMENTS)]
    assert [surprise for surprise in found if surprise is not None] == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        pytest.param("cni", REQUEST + b'{"\xff": 1}', id="no UTF-8"),
        pytest.param("cni", REQUEST + b"[" * 100_000, id="deep configuration"),
        pytest.param("cni", REQUEST + RESULT % b'"ips": [{"address": []}]', id="a list for an address"),
        pytest.param("cni", REQUEST + RESULT % b'"interfaces": [{"name": {}}]', id="a mapping for a name"),
        pytest.param("agent.toml", b"a = " + b"[" * 5000, id="deep file"),
        pytest.param("environment", b"9" * 5000, id="a number of thousands of digits"),
        pytest.param("Claim", b"[" * 100_000, id="deep message"),
    ],
)
def test_what_once_broke_a_parser_no_longer_does(name: str, text: bytes) -> None:
    assert read(next(parser for parser in PARSERS if parser.name == name), 0, text) is None


@pytest.mark.parametrize("name", bombs())
def test_bombs_cost_no_more_than_their_size(name: str) -> None:
    before = memory()
    for parser in PARSERS:
        if parser.name in READERS:
            assert read(parser, 0, bombs()[name]) is None
    assert memory() - before < MEGABYTES


@pytest.mark.parametrize("seed", range(50))
def test_frames_of_the_plugin_announce_a_length_or_are_refused(seed: int) -> None:
    with contextlib.suppress(Invalid):
        assert 0 <= frame_length(frame(seed)[:4]) <= 4 << 20
