"""The parts that Kubernetes' policy objects have in common: names, label selectors, CIDRs.

Owns their reading and their faults. Knows no particular object.

Source: Kubernetes API reference, ObjectMeta and LabelSelector; the limits of its validation.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from typing import Any

import msgspec

from romana.codec.document import field_path
from romana.codec.parts import Parts
from romana.codec.traffic import PORT_NAME, PORT_NAME_WORDS
from romana.model.address import Family, Prefix
from romana.model.policy import Operator, Requirement

LAST_PORT = 65535
STAGED = "romana.io/staged"
"""The annotation of a policy that decides nothing yet, and is told of where it would."""
_SUBDOMAIN = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
NAMES = {
    "name": rf"(?=.{{1,253}}\Z){_SUBDOMAIN}",
    "namespace": r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?",
}
"""What Kubernetes allows, by field of an object's metadata."""
_LABEL_NAME = re.compile(rf"({_SUBDOMAIN}/)?[A-Za-z0-9]([-A-Za-z0-9_.]{{0,61}}[A-Za-z0-9])?")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
NAMESPACED_ID, CLUSTER_ID = "kube.", "kube-cluster."
"""How the ids of policies of a namespace begin (its name comes next), and those of the whole cluster; no others do."""


class PolicyObject(msgspec.Struct, frozen=True, kw_only=True):
    """A whole object; metadata has fields that are none of our business, so only the names are looked at."""

    api_version: str = msgspec.field(name="apiVersion")
    kind: str
    metadata: dict[str, Any]
    spec: dict[str, Any] = {}
    status: Any = None


class LabelExpression(msgspec.Struct, frozen=True, kw_only=True):
    """One element of `matchExpressions`."""

    key: str
    operator: Operator
    values: list[str] | None = None


class LabelSelector(msgspec.Struct, frozen=True, kw_only=True):
    """A label selector, whose parts are read one by one; an empty one matches everything."""

    match_labels: dict[str, Any] | None = msgspec.field(default=None, name="matchLabels")
    match_expressions: list[Any] | None = msgspec.field(default=None, name="matchExpressions")


def read_names(metadata: object, keys: tuple[str, ...], parts: Parts) -> tuple[str, ...]:
    """The names of those fields of an object's metadata; empty ones where a fault was noted."""
    found: dict[str, str] = {}
    for key in keys if isinstance(metadata, dict) else ():
        value = metadata.get(key) if isinstance(metadata, dict) else None
        if value is None:
            parts.fault(f"metadata.{key}", f"is missing; write the policy's {key}")
        elif not isinstance(value, str) or not re.fullmatch(NAMES[key], value):
            parts.fault(f"metadata.{key}", f"{value!r} is not a {key} that Kubernetes allows")
        else:
            found[key] = value
    return tuple(found.get(key, "") for key in keys)


def read_staged(metadata: object, parts: Parts) -> bool:
    """Whether the policy is only staged, by its annotation."""
    value = mapping(mapping(metadata).get("annotations")).get(STAGED)
    if value not in (None, "true", "false"):
        parts.fault(f"metadata.annotations.{STAGED}", f"{value!r} is neither 'true' nor 'false'")
    return value == "true"


def read_selector(written: object, path: str, parts: Parts) -> tuple[Requirement, ...]:
    """A label selector's requirements; none written matches everything."""
    parts.read({} if written is None else written, LabelSelector, path)
    body = mapping(written)
    found = []
    for key, written_value in sorted(mapping(body.get("matchLabels")).items()):
        place = field_path(f"{path}.matchLabels", key)
        value = parts.read(written_value, str, place)
        values = () if value is None else (value,)
        _check_label(key, place, values, (place,) * len(values), parts)
        found.append(Requirement(key, Operator.IN, values))
    for index, written_one in enumerate(elements(body.get("matchExpressions"))):
        place = f"{path}.matchExpressions[{index}]"
        one = parts.read(written_one, LabelExpression, place)
        if one is not None:
            _check(one, place, parts)
            found.append(Requirement(one.key, one.operator, tuple(one.values or ())))
    return tuple(found)


def read_cidr(text: str, path: str, parts: Parts) -> Prefix | None:
    """A CIDR; Kubernetes takes those with bits set after their length, so they are cut off."""
    try:
        if not re.fullmatch(r"[^/]+/\d{1,3}", text, re.ASCII):
            raise ValueError  # noqa: TRY301 - one sentence for all of it
        network = ipaddress.ip_network(text, strict=False)
        if "%" in text or getattr(network.network_address, "ipv4_mapped", None) is not None:
            raise ValueError  # noqa: TRY301 - no packet has such addresses
    except ValueError:
        parts.fault(path, f"{text!r} is not a CIDR, such as 10.0.0.0/8 or 2001:db8::/48")
        return None
    return Prefix(Family(network.version), int(network.network_address), network.prefixlen)


def check_port(number: int, path: str, parts: Parts) -> bool:
    """Whether a number is a port; notes the fault when not."""
    if 1 <= number <= LAST_PORT:
        return True
    parts.fault(path, f"{number} is no port; ports are 1 to {LAST_PORT}")
    return False


def check_port_name(name: str, path: str, parts: Parts) -> bool:
    """Whether a text can be the name of a container's port; notes the fault when not."""
    if PORT_NAME.fullmatch(name):
        return True
    parts.fault(path, f"{name!r} {PORT_NAME_WORDS}")
    return False


def mapping(value: object) -> dict[str, Any]:
    """The value as a mapping; an empty one when it is none."""
    return value if isinstance(value, dict) else {}


def elements(value: object) -> list[Any]:
    """The value as a list; an empty one when it is none."""
    return value if isinstance(value, list) else []


def _check_label(key: str, place: str, values: Sequence[str], places: Sequence[str], parts: Parts) -> None:
    """Note what no object can have: a slip in a label would mean nobody, or with NotIn everybody."""
    if not _LABEL_NAME.fullmatch(key):
        parts.fault(place, f"{key!r} is no name of a label, such as app or example.org/app")
    for value, at in zip(values, places, strict=True):
        if not _LABEL_VALUE.fullmatch(value):
            parts.fault(at, f"{value!r} is no value of a label: at most 63 letters, digits, dots, dashes, underscores")


def _check(one: LabelExpression, path: str, parts: Parts) -> None:
    values = one.values or ()
    places = [f"{path}.values[{index}]" for index in range(len(values))]
    _check_label(one.key, f"{path}.key", values, places, parts)
    compares = one.operator in (Operator.IN, Operator.NOT_IN)
    if compares and not one.values:
        parts.fault(f"{path}.values", f"is empty; {one.operator} needs at least one value")
    if not compares and one.values:
        parts.fault(f"{path}.values", f"must be left out; {one.operator} looks at the label's presence only")
