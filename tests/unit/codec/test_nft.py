"""The nft text of a table, and the way back from a listing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from romana.codec.nft import COMMENT_MAX, comment_text, icmp_parts, render_changes, render_table, table_comment
from romana.codec.nft_chains import base_chains, guard_chain, profile_chains, profile_words, row_chain
from romana.codec.nft_listing import ForeignTable, parse_table
from romana.core.ruleset import Ruleset, Shape, desired_ruleset, ruleset_changes
from romana.model.program import Profile, RowIds
from tests.fakes.rulesets import HTTP, NOT_HTTP, endpoint, entries, view

WORLD = view({"in_web": entries(f"10.0.0.0/8 {HTTP.id}"), "out_web": entries("0.0.0.0/0 accept")})


@given(st.integers(0, 65535), st.integers(0, 65535))
def test_icmp_intervals_are_cut_into_types_and_codes(one: int, other: int) -> None:
    first, last = sorted((one, other))
    covered = [
        kind << 8 | code
        for types_from, types_to, codes_from, codes_to in icmp_parts(first, last)
        for kind in range(types_from, types_to + 1)
        for code in range(codes_from, codes_to + 1)
    ]
    assert sorted(covered) == list(range(first, last + 1))


@given(st.text())
def test_any_words_fit_into_a_comment(words: str) -> None:
    text = comment_text(words)
    assert len(text.encode()) <= COMMENT_MAX
    assert text.isprintable()
    assert '"' not in text


def test_long_words_are_cut_at_a_letter() -> None:
    assert comment_text("ä" * 100) == "ä" * 58 + "..."
    assert comment_text('web of "shop"') == "web of 'shop'"


def test_the_comment_of_the_table_tells_shapes_apart() -> None:
    one, other = table_comment(Shape((29,), (122,))), table_comment(Shape((29, 28), (122,)))
    assert one.startswith("romana blocks ip4:29 ip6:122 rules ")
    assert one.split()[-1] != other.split()[-1]


@pytest.mark.parametrize(
    ("profile", "rules", "words"),
    [
        (
            HTTP,
            [f"icmp type . icmp code @profile_{HTTP.id}_icmp accept", f"tcp dport @profile_{HTTP.id}_tcp accept"],
            "accepts icmp 8; tcp 80, 8000-8080; icmpv6 128; other protocols: none",
        ),
        (
            NOT_HTTP,
            [f"tcp dport @profile_{NOT_HTTP.id}_tcp accept", "meta l4proto 6 return", "meta l4proto 17 return"],
            "accepts tcp 0-79, 81-65535; udp none; other protocols: all",
        ),
        (
            Profile(protocols=((6, ((0, 65535),)), (47, ((0, 65535),)))),
            ["meta l4proto 6 accept", "meta l4proto 47 accept"],
            "accepts tcp all; protocol 47 all; other protocols: none",
        ),
    ],
    ids=["listed-ports", "all-but", "whole-protocols"],
)
def test_a_profile_is_rules_and_words(profile: Profile, rules: list[str], words: str) -> None:
    (chain,) = profile_chains(profile).values()
    assert [rule for rule in rules if rule in chain.rules] == rules
    assert (chain.rules[-1] == "accept") == profile.default
    assert not any("drop" in rule for rule in chain.rules)
    assert profile_words(profile) == words


def test_every_way_ends_in_a_verdict_and_what_is_denied_is_told() -> None:
    """Rows and profiles accept or come back; each base chain in which packets are judged tells and drops at its end."""
    found = base_chains()
    for name, end in {"egress": "from", "input": "from", "ingress": "to", "output": "to"}.items():
        assert found[name].rules[-1] == f"goto {end}_endpoints"
    for chain in (*(found[name] for name in ("from_endpoints", "to_endpoints", "link_source")), guard_chain("in_web")):
        *_, told, last = chain.rules
        assert last == "drop"
        assert "log prefix" in told
    assert found["related"].rules[-1] == "drop"
    assert found["source"].rules[0].endswith("goto link_source")
    assert not any("drop" in rule for rule in row_chain("in_web", Shape((29,), (122,))).rules)


def test_a_guard_is_there_before_the_one_that_it_replaces_goes() -> None:
    before, after = (
        desired_ruleset(view({row: entries()}, host_rows=RowIds(row, "")), ()) for row in ("in_old", "in_new")
    )
    first, *_, last = [step.text for step in render_changes(ruleset_changes(after, before))]
    assert "create chain inet romana guard_in_new { type filter hook prerouting" in first
    assert "add rule inet romana guard_in_new drop" in first
    assert "guard_in_old" not in first
    assert "delete chain inet romana guard_in_old" in last


def test_a_host_that_no_policy_selects_has_no_chain_about_itself() -> None:
    hooks = [line for line in render_table(desired_ruleset(WORLD, [endpoint(1)])).splitlines() if " hook " in line]
    assert len(hooks) == len([chain for chain in base_chains().values() if chain.hook]) == 5


def text_of(before: Ruleset, after: Ruleset) -> str:
    return "".join(step.text for step in render_changes(ruleset_changes(after, before)))


def test_a_new_endpoint_is_elements_and_nothing_else() -> None:
    before, after = (desired_ruleset(WORLD, [endpoint(number) for number in range(1, last)]) for last in (3, 4))
    commands = text_of(before, after).splitlines()
    assert len(commands) == 6
    assert all(command.startswith("add element inet romana ") for command in commands)


def test_another_verdict_is_a_deletion_and_an_addition() -> None:
    one = view({"in_web": entries("10.0.0.0/29 accept"), "out_web": entries()})
    other = view({"in_web": entries("10.0.0.0/29 drop"), "out_web": entries()})
    before, after = (desired_ruleset(world, [endpoint(1)]) for world in (one, other))
    assert text_of(before, after).splitlines() == [
        "delete element inet romana in_web_4_block29 { 10.0.0.0 }",
        "add element inet romana in_web_4_block29 { 10.0.0.0 : return }",
    ]


def test_a_row_that_nobody_uses_goes_after_what_led_to_it() -> None:
    before, after = desired_ruleset(WORLD, [endpoint(1)]), desired_ruleset(WORLD, [])
    commands = text_of(before, after).splitlines()
    last_element = max(number for number, command in enumerate(commands) if "element" in command)
    first_removal = commands.index("flush chain inet romana in_web")
    profile_removal = commands.index(f"delete chain inet romana profile_{HTTP.id}")
    assert last_element < first_removal < commands.index("delete map inet romana in_web_4_range") < profile_removal


def test_many_elements_are_several_commands() -> None:
    row = entries(*(f"10.1.{number >> 8}.{number & 255} accept" for number in range(2500)))
    ruleset = desired_ruleset(view({"in_web": row, "out_web": entries()}), [endpoint(1)])
    assert render_table(ruleset).count("add element inet romana in_web_4 {") == 3


@pytest.mark.parametrize(
    ("listing", "sentence"),
    [
        ("", "not one of table"),
        ("table inet other {\n}", "not one of table"),
        ("table inet romana {\n}", "comment is ''"),
        ('table inet romana {\n\tcomment "mine"\n}', "comment is 'mine'"),
        ('table inet romana {\n\tcomment "romana blocks ip4: ip6: rules 0"\n}', "another version"),
        (f'table inet romana {{\n\tcomment "{table_comment(Shape())}"\n}}', "differs"),
        ("table inet romana {\n\tflowtable f {\n\t}\n}", "flowtable"),
        ("table inet romana {\n\tchain a {\n}", "in the middle"),
    ],
    ids=["nothing", "other-table", "bare", "other-comment", "other-version", "empty", "other-object", "cut"],
)
def test_a_table_that_is_not_ours_is_told(listing: str, sentence: str) -> None:
    with pytest.raises(ForeignTable, match=sentence):
        parse_table(listing)


def test_an_empty_ruleset_is_a_whole_table() -> None:
    text = render_table(Ruleset())
    assert text.startswith("table inet romana {\n")
    assert "hook forward" in text
    assert "add element" not in text
