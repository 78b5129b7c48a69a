"""Frames between the shim and the agent."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from romana.codec.cni_wire import (
    FRAME_MAX,
    LENGTH_SIZE,
    frame_length,
    read_answer,
    read_request,
    write_answer,
    write_request,
)
from romana.model.errors import Invalid

NAMES = st.text(st.characters(categories=["Lu"], max_codepoint=127), min_size=1)
VALUES = st.text(st.characters(min_codepoint=1, categories=["L", "N", "P"]))


@given(st.dictionaries(NAMES, VALUES, max_size=5), st.binary(max_size=200))
def test_requests_come_through(environment: dict[str, str], stdin: bytes) -> None:
    frame = write_request(environment, stdin)
    assert frame_length(frame[:LENGTH_SIZE]) == len(frame) - LENGTH_SIZE
    assert read_request(frame[LENGTH_SIZE:]) == (environment, stdin)


def test_answers_come_through() -> None:
    frame = write_answer(1, b"{}")
    assert frame == struct.pack("<II", 6, 1) + b"{}"
    assert read_answer(frame[LENGTH_SIZE:]) == (1, b"{}")


def test_value_may_hold_an_equals_sign_and_odd_bytes() -> None:
    block = b"CNI_ARGS=A=1;B=2\0CNI_NETNS=/run/\xff\0"
    environment, stdin = read_request(struct.pack("<I", len(block)) + block + b"x")
    assert environment == {"CNI_ARGS": "A=1;B=2", "CNI_NETNS": "/run/\udcff"}
    assert stdin == b"x"


@pytest.mark.parametrize("payload", [b"", b"\x01\x00", struct.pack("<I", 9) + b"A=1\0"])
def test_short_requests_are_refused(payload: bytes) -> None:
    with pytest.raises(Invalid):
        read_request(payload)


def test_frame_that_is_too_long_is_refused() -> None:
    with pytest.raises(Invalid):
        frame_length(struct.pack("<I", FRAME_MAX + 1))
