from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from romana.codec.document import load
from romana.codec.plan_words import count_words, percent_words
from romana.codec.svg import CHARACTER
from romana.codec.svg_plan import draw_plan
from romana.codec.topology import read_plan
from romana.core.planner.load import Load, draw
from romana.core.planner.report import plan_report
from romana.core.planner.usage import modelled
from romana.core.topology import carve
from romana.model.errors import Invalid

SVG = "{http://www.w3.org/2000/svg}"
EXAMPLES = sorted(Path("examples/topologies").glob("*.[jy]*"))
Rectangle = tuple[float, float, float, float]


def picture(document: object, *, hosts: int = 12, title: str = "A plan") -> ET.Element:
    plan = carve(read_plan(document))
    load_ = Load(hosts=hosts, pods=40 * hosts, tenants=5, churn=0.0)
    text = draw_plan(plan_report(plan, modelled(plan, draw(load_)), load_), title)
    return ET.fromstring(text)


def rectangle(group: ET.Element) -> Rectangle:
    """The outer box of a group."""
    rect = group.find(f"{SVG}rect")
    assert rect is not None
    x, y, width, height = (float(rect.attrib[name]) for name in ("x", "y", "width", "height"))
    return x, y, x + width, y + height


def inside(one: Rectangle, other: Rectangle) -> bool:
    slack = 0.02  # coordinates are written with two digits
    return (
        one[0] >= other[0] - slack
        and one[1] >= other[1] - slack
        and one[2] <= other[2] + slack
        and one[3] <= other[3] + slack
    )


def apart(one: Rectangle, other: Rectangle) -> bool:
    slack = 0.02
    return (
        one[2] <= other[0] + slack
        or other[2] <= one[0] + slack
        or one[3] <= other[1] + slack
        or other[3] <= one[1] + slack
    )


def check_boxes(element: ET.Element, outer: Rectangle) -> int:
    """That boxes nest and siblings do not overlap; how many there are."""
    groups = element.findall(f"{SVG}g")
    boxes = [rectangle(group) for group in groups]
    assert all(inside(box, outer) for box in boxes)
    for index, box in enumerate(boxes):
        assert all(apart(box, other) for other in boxes[:index])
        assert box[2] > box[0]
        assert box[3] > box[1]
    return len(groups) + sum(check_boxes(group, box) for group, box in zip(groups, boxes, strict=True))


def texts(element: ET.Element) -> Iterator[Rectangle]:
    for text in element.iter(f"{SVG}text"):
        x, y = float(text.attrib["x"]), float(text.attrib["y"])
        yield x, y - 9, x + len(text.text or "") * CHARACTER * 0.98, y + 2


def check_labels(root: ET.Element, page: Rectangle) -> None:
    """That no two texts touch, and each lies in the box it is about."""
    found = list(texts(root))
    for index, one in enumerate(found):
        assert inside(one, page)
        assert all(apart(one, other) for other in found[:index])
    for group in root.iter(f"{SVG}g"):
        own = [text for child in group.findall(f"{SVG}text") for text in texts_of(child)]
        assert all(inside(text, rectangle(group)) for text in own)


def texts_of(text: ET.Element) -> list[Rectangle]:
    holder = ET.Element("g")
    holder.append(text)
    return list(texts(holder))


def page_of(root: ET.Element) -> Rectangle:
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    return 0, 0, width, height


@pytest.mark.parametrize("path", EXAMPLES, ids=[path.stem for path in EXAMPLES])
def test_the_boxes_of_an_example_nest_and_its_labels_are_apart(path: Path) -> None:
    root = picture(load(path.read_bytes()))
    assert check_boxes(root, page_of(root)) > 0
    check_labels(root, page_of(root))


def test_every_group_has_a_box_and_a_tooltip_in_each_network() -> None:
    groups: list[dict[str, Any]] = [
        {"name": "a"},
        {"name": "b", "groups": [{"name": "c"}, {"name": "d"}, {"name": "e"}]},
    ]
    root = picture(document(groups))
    paths = [group.attrib["data-path"] for group in root.iter(f"{SVG}g")]
    assert sorted(paths) == sorted(2 * ["/", "/a", "/b", "/b/c", "/b/d", "/b/e", "/b/spare-4"])
    for group in root.iter(f"{SVG}g"):
        title = group.find(f"{SVG}title")
        assert title is not None
        assert group.attrib["data-cidr"] in (title.text or "")


def test_a_name_is_text_whatever_is_in_it() -> None:
    root = picture(document([{"name": 'a<b>&"'}, {"name": "x" * 60}]), title="<script>alert(1)</script>")
    assert not list(root.iter(f"{SVG}script"))
    assert '/a<b>&"' in [group.attrib["data-path"] for group in root.iter(f"{SVG}g")]


def test_the_drawing_has_a_title_a_description_and_colours_for_a_dark_page() -> None:
    root = picture(document([{"name": "a"}, {"name": "b"}]))
    assert root.attrib["role"] == "img"
    labels = {root.find(f"{SVG}title"), root.find(f"{SVG}desc")}
    assert {label.attrib["id"] for label in labels if label is not None} == set(root.attrib["aria-labelledby"].split())
    style = root.find(f"{SVG}style")
    assert style is not None
    assert "prefers-color-scheme: dark" in (style.text or "")
    assert "href" not in ET.tostring(root, encoding="unicode")


def test_spare_parts_are_hatched_and_full_groups_are_red() -> None:
    groups: list[dict[str, Any]] = [{"name": "large", "weight": 8}, {"name": "small"}]
    root = picture(document(groups, cidr="10.0.0.0/21"), hosts=8)
    kinds = [rect.attrib.get("class") for rect in root.iter(f"{SVG}rect")]
    assert "spare" in kinds
    assert "over" in kinds


def document(groups: list[dict[str, Any]], cidr: str = "10.0.0.0/14", **more: Any) -> dict[str, Any]:
    networks = [{"name": "v4", "cidr": cidr, "span_length": 25}, {"name": "v6", "cidr": "fd00::/48"}]
    topology = {"name": "dc", "networks": ["v4", "v6"], "groups": groups, **more}
    return {"version": 1, "networks": networks, "topologies": [topology]}


TREES = st.recursive(
    st.integers(1, 4), lambda part: st.tuples(st.integers(1, 4), st.lists(part, min_size=1, max_size=5)), max_leaves=24
)


def tree(shape: Any, name: str) -> dict[str, Any]:
    if isinstance(shape, int):
        return {"name": name, "weight": shape}
    weight, parts = shape
    return {
        "name": name,
        "weight": weight,
        "groups": [tree(part, f"{name}{index}") for index, part in enumerate(parts)],
    }


@given(st.lists(TREES, min_size=1, max_size=12), st.integers(0, 40))
@settings(max_examples=60, deadline=None)
def test_the_boxes_of_any_tree_nest_and_its_labels_are_apart(shapes: list[Any], spare: int) -> None:
    groups: list[dict[str, Any]] = [tree(shape, f"g{index}-") for index, shape in enumerate(shapes)]
    try:
        root = picture(document(groups, spare=spare), hosts=3)
    except Invalid:
        return
    check_boxes(root, page_of(root))
    check_labels(root, page_of(root))


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0, "0"),
        (1792, "1,792"),
        (9_999_999, "9,999,999"),
        (1 << 64, "2^64"),
        (3 << 64, "~2^66"),
        ((1 << 64) + 1, "~2^64"),
    ],
)
def test_numbers_stay_short(number: int, words: str) -> None:
    assert count_words(number) == words


@pytest.mark.parametrize(
    ("part", "words"),
    [(0, "0 %"), (0.0001, "< 0.1 %"), (0.012, "1.2 %"), (0.5, "50 %"), (1.5, "150 %"), (0.0997, "10 %")],
)
def test_percentages_stay_short(part: float, words: str) -> None:
    assert percent_words(part) == words
