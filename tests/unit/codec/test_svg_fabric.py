from __future__ import annotations

from xml.etree import ElementTree as ET

from romana.codec.svg import WIDTH
from romana.codec.svg_fabric import MOST_ROUTERS, draw_fabric
from romana.codec.text import parse_address
from romana.core.routing import RoutePlan
from romana.model.route import Away, RouteException
from tests.unit.core.routing.test_plan import HOSTS, PLAN, SPANS, carved

LONE = RouteException(prefix=parse_address("10.112.9.1"), host="h21", reason=Away.FIXED, name="d<n>s")


def test_every_router_is_drawn_with_its_aggregates_under_the_one_above() -> None:
    text = draw_fabric(RoutePlan(PLAN, HOSTS.values(), SPANS, [LONE]), "A & B")
    drawn = ET.fromstring(text)
    boxes = {one.attrib["data-path"]: one for one in drawn.iter() if "data-path" in one.attrib}
    assert list(boxes) == ["/", "/rack1", "/rack2"]
    words = ["".join(box.itertext()) for box in boxes.values()]
    assert "10.112.0.0/13" in words[1]
    assert "exceptions" in words[0]
    left = [float(box.findall("{*}rect")[0].attrib["x"]) for box in boxes.values()]
    assert left[0] < left[1] == left[2]
    assert (
        "10.112.9.1/32 on h21 (fixed-address of d&lt;n&gt;s), home /rack1: /rack1 &gt; / &gt; /rack2 &gt; h21" in text
    )
    for one in drawn.iter("{http://www.w3.org/2000/svg}rect"):
        assert float(one.attrib.get("x", 0)) + float(one.attrib["width"]) <= WIDTH
    assert draw_fabric(RoutePlan(PLAN, HOSTS.values(), SPANS, [LONE]), "A & B") == text


def test_more_routers_than_fit_are_counted() -> None:
    plan = RoutePlan(carved([{"name": f"r{number}"} for number in range(MOST_ROUTERS + 20)]))
    text = draw_fabric(plan, "large")
    assert text.count("data-path") == MOST_ROUTERS
    assert "and 21 routers more" in text
    assert "0 exceptions" in text
