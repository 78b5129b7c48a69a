"""BIRD's include file and the replies of its control socket."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from romana.codec.bird import ControlReply, cleared_text, include_text, read_include
from romana.codec.text import parse_prefix
from romana.model.address import Family, Prefix


def test_include_names_both_protocols() -> None:
    text = include_text({parse_prefix("10.1.0.0/24")})
    assert "protocol static romana4 {\n    ipv4;\n    route 10.1.0.0/24 blackhole;\n}\n" in text
    assert "protocol static romana6 {\n    ipv6;\n}\n" in text


@given(st.frozensets(st.tuples(st.sampled_from(Family), st.integers(0, 2**24 - 1))))
def test_include_is_read_back(parts: frozenset[tuple[Family, int]]) -> None:
    prefixes = frozenset(Prefix(family, value << (family.bits - 24), 24) for family, value in parts)
    assert read_include(include_text(prefixes)) == prefixes


def test_what_a_clean_up_leaves_has_no_prefixes_and_is_left_by_the_next_one() -> None:
    text = cleared_text(include_text({parse_prefix("10.1.0.0/24")}))
    assert read_include(text) == frozenset()
    assert "protocol static romana4 {" in text
    assert cleared_text(text) == text


def test_reply_ends_with_a_blank_after_the_code() -> None:
    reply = ControlReply()
    assert not reply.feed(b"0002-Reading configuration from /etc/bird/bird.conf")
    assert not reply.feed(b" more of it")
    assert reply.feed(b"0003 Reconfigured")
    assert not reply.is_error
    assert reply.words == "Reading configuration from /etc/bird/bird.conf; more of it; Reconfigured"


def test_reply_with_a_high_code_is_an_error() -> None:
    reply = ControlReply()
    assert reply.feed(b"8002 /etc/bird/bird.conf:7:1 syntax error")
    assert reply.is_error
