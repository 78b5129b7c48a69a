"""Configuration: a TOML file, with every key also as an environment variable, as one typed value.

Owns the merging and the names of the variables. Refuses to know files. Invariant: a value or Invalid with every fault.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, get_type_hints

import msgspec

from romana.codec.salvage import salvage
from romana.model.errors import Fault, Invalid, first_faults

T = TypeVar("T", bound=msgspec.Struct)


def load(
    kind: type[T],
    text: str,
    environment: Mapping[str, str],
    check: Callable[[T], None] | None = None,
    depends: Sequence[tuple[str, str]] = (),
) -> T:
    """The configuration of a program; Invalid with every fault of form, and of what `check` says of the rest.

    `kind` is a struct whose fields are sections (structs of plain keys). `ROMANA_<SECTION>_<KEY>` in the environment
    goes before the file; it is read as TOML where the key is not text. `check` raises Invalid with paths
    `SECTION.KEY`, and `depends` is for `Salvaged.told`.
    """
    try:
        document: dict[str, Any] = tomllib.loads(text)
    except ValueError as error:  # tomllib.TOMLDecodeError, or a number of thousands of digits
        raise Invalid(Fault("", f"is not TOML: {error}")) from error
    except RecursionError:
        raise Invalid(Fault("", "is nested too deeply")) from None
    unread: dict[str, Fault] = {}
    for (section, key), (name, hint) in variables(kind).items():
        if name in environment:
            place = document.setdefault(section, {})
            try:
                value = environment[name] if hint is str else _value(name, environment[name])
            except Invalid as error:
                value = None  # TOML has none: no key may be this
                unread[f"{section}.{key}"] = error.faults[0]
            if isinstance(place, dict):
                place[key] = value
    rest = salvage(document, kind)
    meant: tuple[Fault, ...] = ()
    if check is not None and rest.value is not None:
        try:
            check(rest.value)
        except Invalid as error:
            meant = error.faults
    found = [unread.pop(fault.path, fault) for fault in rest.told(meant, depends)] + list(unread.values())
    if found or rest.value is None:
        raise Invalid(*first_faults(found))
    return rest.value


def range_faults(numbers: Mapping[str, tuple[float, float, float]]) -> list[Fault]:
    """The faults of numbers, by path, that are not from the least to the most that they may be; not-a-number is one."""
    return [
        Fault(path, f"must be {least} to {most}, got {value}")
        for path, (value, least, most) in numbers.items()
        if not least <= value <= most
    ]


def unreadable(error: OSError | UnicodeDecodeError) -> Fault:
    """The fault of a configuration file that is named and cannot be read."""
    return Fault("", f"cannot be read: {error.strerror if isinstance(error, OSError) else 'it is not UTF-8 text'}")


def variables(kind: type[msgspec.Struct]) -> dict[tuple[str, str], tuple[str, Any]]:
    """(section, key) -> (environment variable, type), in the order of the fields."""
    found: dict[tuple[str, str], tuple[str, Any]] = {}
    for section, inner in get_type_hints(kind).items():
        for key, hint in get_type_hints(inner).items():
            found[section, key] = (f"ROMANA_{section}_{key}".upper(), hint)
    return found


def _value(name: str, text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except ValueError:
        raise Invalid(Fault(name, f"{text!r} is not a TOML value, such as 5, true or ['a', 'b']")) from None
    except RecursionError:
        raise Invalid(Fault(name, "is nested too deeply")) from None
