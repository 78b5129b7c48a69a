from __future__ import annotations

import contextlib
from enum import StrEnum
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from romana.codec.document import convert, faults, load, load_all, read
from romana.codec.json import encode, from_text
from romana.model.address import Address, Family, Prefix
from romana.model.errors import Invalid
from romana.model.topology import Group, Network
from romana.model.view import View


class Colour(StrEnum):
    RED = "red"
    GREEN = "green"


class Wheel(msgspec.Struct, frozen=True, tag="wheel"):
    size: int


class Door(msgspec.Struct, frozen=True, tag="door"):
    name: str


class Car(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    cidr: Prefix
    address: Address | None = None
    colour: Colour = Colour.RED
    doors: tuple[Door | Wheel, ...] = ()
    speed: float = 0.0
    labels: dict[str, str] = {}
    routes: dict[Prefix, int] = {}
    port: int | str = 0
    parts: tuple[Car, ...] = ()


class Even(msgspec.Struct, frozen=True):
    number: int

    def __post_init__(self) -> None:
        if self.number % 2:
            raise ValueError(f"{self.number} is odd")


GOOD: dict[str, Any] = {"name": "a", "cidr": "10.0.0.0/8"}


def said(value: object, kind: Any) -> dict[str, str]:
    return {fault.path: fault.sentence for fault in faults(value, kind)}


def test_all_faults_at_once_with_their_paths() -> None:
    found = said(
        {
            "cidr": "10.0.0.1/8",
            "colr": "red",
            "colour": "blue",
            "address": "here",
            "doors": [{"type": "door", "name": 3}, {"type": "wing"}, {"name": "x"}, 7],
            "speed": "fast",
            "labels": {"a/b": 1},
            "routes": {"x": 1},
            "parts": [{"name": "b", "cidr": "::/0", "parts": [{"name": None}]}],
        },
        Car,
    )
    assert found == {
        "name": "is missing; expected text",
        "cidr": "'10.0.0.1/8' has bits set after its length; did you mean 10.0.0.0/8?",
        "colr": "unknown field; did you mean `colour`?",
        "colour": "expected one of red, green, got the text 'blue'",
        "address": "'here' is not an IP address, such as 10.0.0.1 or 2001:db8::1",
        "doors[0].name": "expected text, got int 3",
        "doors[1].type": "expected one of door, wheel, got the text 'wing'",
        "doors[2].type": "is missing; expected one of door, wheel",
        "doors[3]": "expected a mapping, got int 7",
        "speed": "expected a number, got the text 'fast'",
        'labels["a/b"]': "expected text, got int 1",
        "routes.x": "'x' is not a CIDR, such as 10.0.0.0/8 or 2001:db8::/48",
        "parts[0].parts[0].name": "expected text, got nothing (null)",
        "parts[0].parts[0].cidr": "is missing; expected a CIDR",
    }


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        pytest.param("speed", True, "expected a number, got true", id="true-is-no-number"),
        pytest.param("port", 1.5, "expected a whole number or text, got float 1.5", id="union"),
        pytest.param("speed", float("nan"), "expected a number, got float nan", id="nan"),
        pytest.param("labels", [], "expected a mapping, got a list of 0", id="list-for-mapping"),
        pytest.param("doors", "x", "expected a list, got the text 'x'", id="text-for-list"),
        pytest.param("name", "x" * 99, None, id="long-text-is-text"),
        pytest.param("zzz", 1, "unknown field; known here: name, cidr, address, colour, doors", id="far-from-all"),
    ],
)
def test_one_fault(field: str, value: object, sentence: str | None) -> None:
    found = said(GOOD | {field: value}, Car)
    if sentence is None:
        assert found == {}
    else:
        assert found.keys() == {field}
        assert found[field].startswith(sentence)


def test_a_document_of_the_wrong_form() -> None:
    assert said([], Car) == {"": "expected a mapping with name, cidr, got a list of 0"}
    assert said({1: 2} | GOOD, Car)["1"].startswith("unknown field")


def test_a_type_that_checks_itself_says_why() -> None:
    assert said({"number": 3}, Even) == {"": "3 is odd"}
    assert said([{"number": 2}, {"number": 5}], list[Even]) == {"[1]": "5 is odd"}


def test_converts_addresses_also_as_keys() -> None:
    car = convert(GOOD | {"address": "10.0.0.9", "routes": {"10.1.0.0/16": 4}}, Car)
    assert car.cidr == Prefix(Family.V4, 10 << 24, 8)
    assert isinstance(car.address, Address)
    assert car.routes == {Prefix(Family.V4, (10 << 24) + (1 << 16), 16): 4}


@pytest.mark.parametrize("text", ['{"a": %s}', "a: %s", "[%s]"])
def test_a_number_without_end_is_refused_in_words_for_people(text: str) -> None:
    with pytest.raises(Invalid, match="too long a number"):
        load(text % ("9" * 5000))


def test_cycles_and_depth_are_refused() -> None:
    cycle: dict[str, Any] = dict(GOOD)
    cycle["parts"] = [cycle]
    assert faults(cycle, Car)[0].sentence == "is nested too deeply"
    with pytest.raises(Invalid, match="nested too deeply"):
        load("[" * 100_000)
    with pytest.raises(Invalid, match="nested too deeply"):
        load("- " * 100_000)


words = st.text(max_size=6)
plain: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | words,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(words | st.sampled_from(["name", "cidr", "doors", "parts", "labels"]), inner, max_size=4)
    ),
    max_leaves=12,
)
cidrs = st.builds(
    lambda value, length: str(Prefix(Family.V4, value >> (32 - length) << (32 - length), length)),
    st.integers(0, 2**32 - 1),
    st.integers(0, 32),
)
cars: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {"name": words, "cidr": cidrs},
    optional={
        "colour": st.sampled_from(["red", "green"]),
        "speed": st.floats(allow_nan=False, allow_infinity=False) | st.integers(0, 9),
        "labels": st.dictionaries(words, words, max_size=2),
        "port": st.integers(0, 9) | words,
        "doors": st.lists(st.fixed_dictionaries({"type": st.just("door"), "name": words}), max_size=2),
        "parts": st.lists(st.fixed_dictionaries({"name": words, "cidr": cidrs}), max_size=2),
    },
)


@settings(max_examples=200, deadline=None)
@given(plain)
def test_convert_raises_nothing_but_invalid(value: object) -> None:
    for kind in (Car, Network, Group, View):
        with contextlib.suppress(Invalid):
            convert(value, kind)


@settings(max_examples=100, deadline=None)
@given(cars)
def test_a_valid_document_has_no_faults_and_converts_as_msgspec_does(value: dict[str, Any]) -> None:
    assert faults(value, Car) == []
    assert convert(value, Car) == msgspec.convert(value, Car, dec_hook=from_text)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=40) | st.text(max_size=40))
@example(b"?")
@example("true: 1")
def test_load_raises_nothing_but_invalid(text: bytes | str) -> None:
    with contextlib.suppress(Invalid):
        encode(load_all(text))


@settings(max_examples=50, deadline=None)
@given(cars)
def test_json_loads_as_it_was_written(value: dict[str, Any]) -> None:
    assert load(encode(value)) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        pytest.param("a: no\nb: 010\nc: 2020-01-01\nd: 1:30\n", {"a": "no", "b": 10, "c": "2020-01-01", "d": "1:30"}),
        pytest.param('{"a": [1, null, true]}', {"a": [1, None, True]}),
        pytest.param("{a: b}", {"a": "b"}),
        pytest.param(b"\xef\xbb\xbfa: 1", {"a": 1}),
        pytest.param("a: 0x10\nb: 1.5\nc: ~\nd:\n", {"a": 16, "b": 1.5, "c": None, "d": None}),
    ],
    ids=["yaml-1.2-scalars", "json", "flow-yaml", "byte-order-mark", "numbers-and-nothing"],
)
def test_load(text: bytes | str, value: object) -> None:
    assert load(text) == value


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param('{"a": 1,\n "b" 2}', "line 2, column 6: is not JSON", id="json-place"),
        pytest.param("a: 1\n b: 2\n", "line 2, column 3: is neither JSON nor YAML", id="yaml-place"),
        pytest.param("a: 1\na: 2\n", "line 2, column 1: .*the key 'a' is there twice", id="yaml-key-twice"),
        pytest.param('{"a": 1, "a": 2}', "the key 'a' is there twice", id="json-key-twice"),
        pytest.param("a: &x 1\nb: *x\n", "line 2, column 4: .*aliases are not taken", id="alias"),
        pytest.param("a: !!python/name:os.system\n", "the tag .* is not taken", id="tag"),
        pytest.param('{"a": NaN}', "NaN is no JSON number", id="nan"),
        pytest.param("a: 1\n---\nb: 2\n", "expected one document, found 2", id="two-documents"),
        pytest.param("", "expected one document, found 0", id="empty"),
        pytest.param(b"\xff\xfe", "is not UTF-8 text", id="not-utf-8"),
        pytest.param('{"a": "\\ud800"}', "half of a character", id="json-half-a-character"),
        pytest.param('"\\udc00": 1', "half of a character", id="yaml-half-a-character"),
        pytest.param("a: \x00", "is neither JSON nor YAML", id="control-character"),
    ],
)
def test_load_refuses(text: bytes | str, words: str) -> None:
    with pytest.raises(Invalid, match=words):
        load(text)


def test_load_all_gives_each_document() -> None:
    assert load_all("a: 1\n---\n---\nb: 2\n") == [{"a": 1}, {"b": 2}]


def test_of_very_many_faults_the_first_are_told() -> None:
    found = faults({f"k{index}": 1 for index in range(5000)}, Car)
    assert len(found) == 101
    assert found[-1].sentence == "and perhaps more faults: only the first ones are told"


def test_a_large_yaml_is_sent_elsewhere_and_a_large_json_is_read() -> None:
    large = "x" * (1 << 20)
    with pytest.raises(Invalid, match="is YAML larger than 1 MiB; write it as JSON, which may have 16"):
        load(f"a: {large}")
    assert load(f'{{"a": "{large}"}}') == {"a": large}
    with pytest.raises(Invalid, match="is larger than 16 MiB"):
        load(" " * (16 << 20) + "1")


class Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str
    cidr: Prefix
    address: Address | None = None
    labels: dict[str, str] = {}
    speed: float = 0.0


_KEYS = st.sampled_from(["name", "cidr", "address", "doors", "labels", "speed", "nosuch"])
_TEXTS = st.sampled_from(
    ['"a"', '"10.0.0.0/8"', '"10.0.0.1/8"', "true", "1", '{"a":"b"}', '{"a":"b","a" :"c"}', "[]", "null", '"\\u0061:"']
)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([Car, Strict]), st.lists(st.tuples(_KEYS, st.sampled_from([":", " : "]), _TEXTS), max_size=4))
def test_reading_at_once_is_the_same_as_in_two_steps(kind: Any, pairs: list[tuple[str, str, str]]) -> None:
    text = '{"name":"n","cidr":"10.0.0.0/8"' + "".join(f',"{key}"{colon}{value}' for key, colon, value in pairs) + "}"

    def answer(one: Any) -> object:
        try:
            return one()
        except Invalid as error:
            return str(error)

    assert answer(lambda: read(text.encode(), kind)) == answer(lambda: convert(load(text), kind))
