"""Which spans a host can do without, and what is free again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from romana.codec.text import parse_prefix
from romana.core.ipam.retirement import acknowledged, empty_spans, waiting_for
from romana.model.address import Prefix
from romana.model.ipam import Block, Retired, Span

SPANS = list(parse_prefix("10.0.0.0/24").subnets(27))
BLOCKS = [block for span in SPANS for block in span.subnets(30)]
HOSTS = ("h1", "h2")


def block(cidr: Prefix, host: str) -> Block:
    return Block(cidr=cidr, span=cidr.supernet(27), network="pods", host=host, allocator=host)


@given(
    st.dictionaries(st.sampled_from(SPANS), st.sampled_from(HOSTS)),
    st.sets(st.sampled_from(BLOCKS)),
    st.sets(st.sampled_from(BLOCKS)),
    st.sets(st.sampled_from(HOSTS)),
)
def test_what_is_used_or_still_retired_stays_and_a_host_keeps_one_span_unless_it_drains(
    owned: dict[Prefix, str], used: set[Prefix], retired: set[Prefix], draining: set[str]
) -> None:
    spans = {cidr: Span(cidr=cidr, network="pods", host=host) for cidr, host in owned.items()}
    blocks = [block(cidr, owned[cidr.supernet(27)]) for cidr in used if cidr.supernet(27) in owned]
    found = {span.cidr for span in empty_spans(spans, blocks, retired, draining)}
    busy = {one.span for one in blocks} | {cidr.supernet(27) for cidr in retired}
    assert not found & busy
    for host in HOSTS:
        own = {cidr for cidr, name in owned.items() if name == host}
        assert len(own - found) == max(len(own & busy), 0 if host in draining else min(len(own), 1))


@given(st.lists(st.integers(1, 9), max_size=5), st.dictionaries(st.sampled_from("abc"), st.integers(0, 9)))
def test_what_one_reader_did_not_acknowledge_is_not_free(revisions: list[int], applied: dict[str, int]) -> None:
    retired = [
        Retired(cidr=BLOCKS[index], network="pods", host="h1", revision=revision)
        for index, revision in enumerate(revisions)
    ]
    free = acknowledged(retired, applied)
    for one in retired:
        assert (one in free) == all(known >= one.revision for known in applied.values())
    late = waiting_for(retired, applied)
    assert bool(late) == (len(free) < len(retired))
