"""Writes docs/configuration.md from the types of the configurations; without `--write` it fails when that is stale.

A section is a struct whose docstring has a line `key: what it is.` for each key; more lines may follow.
"""

from __future__ import annotations

import inspect
import sys
import types
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import msgspec

from romana.apps.agent.config import AgentConfig
from romana.apps.aws.config import AwsConfig
from romana.apps.server.config import ServerConfig
from romana.codec.config import variables
from romana.codec.json import encode

PLACE = Path("docs/configuration.md")
PROGRAMS: tuple[tuple[str, str, type[msgspec.Struct]], ...] = (
    ("romanad", "/etc/romana/romanad.toml", ServerConfig),
    ("romana-agent", "/etc/romana/agent.toml", AgentConfig),
    ("romana-aws", "/etc/romana/aws.toml", AwsConfig),
)
START = """\
# Configuration

Made from the types by `make docs`; `make check` fails when it is stale.

Each program reads one TOML file (`--config` names another one), and starts without one where every key has a default.
An environment variable goes before the file. Unknown keys and wrong values are refused, all of them at once, with
their place.
"""


def reference() -> str:
    """The whole document."""
    parts = [START]
    for program, path, kind in PROGRAMS:
        names = variables(kind)
        parts.append(f"\n## {program}\n\n`{path}`\n")
        for section, inner in get_type_hints(kind).items():
            summary, keys = described(inner)
            parts.append(
                f"\n### `[{section}]`\n\n{summary}\n\n| key | type | default | variable | |\n|---|---|---|---|---|\n"
            )
            for field in msgspec.structs.fields(inner):
                if field.name not in keys:
                    raise SystemExit(
                        f"{inner.__module__}.{inner.__name__}: its docstring has no line `{field.name}: ...`"
                    )
                variable = names[section, field.name][0]
                hint = get_type_hints(inner)[field.name]
                row = (f"`{field.name}`", type_text(hint), default_text(field), f"`{variable}`", keys[field.name])
                parts.append("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |\n")
    return "".join(parts)


def described(kind: type[msgspec.Struct]) -> tuple[str, dict[str, str]]:
    """A section's docstring: the text before the keys, and a text for each key."""
    parts: list[tuple[str, list[str]]] = [("", [])]
    for line in inspect.cleandoc(kind.__doc__ or "").splitlines():
        key, colon, rest = line.partition(": ")
        if colon and key in kind.__struct_fields__:
            parts.append((key, [rest]))
        else:
            parts[-1][1].append(line.strip())
    texts = {key: " ".join(lines).strip() for key, lines in parts}
    return texts.pop(""), texts


def type_text(hint: Any) -> str:
    """A type in words."""
    if get_origin(hint) is types.UnionType:
        return " or ".join(type_text(one) for one in get_args(hint) if one is not type(None))
    if get_origin(hint) in (tuple, list):
        return f"list of {type_text(get_args(hint)[0])}"
    if get_origin(hint) is dict:
        return f"table of {type_text(get_args(hint)[1])}"
    words = {str: "text", int: "number", float: "number", bool: "true or false"}
    return words.get(hint, getattr(hint, "__name__", str(hint)).lower())


def default_text(field: msgspec.structs.FieldInfo) -> str:
    """A default as it would be written in the file."""
    if field.required:
        return "(required)"
    value = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    return "(none)" if value in (None, "") else f"`{encode(value).decode()}`"


def main() -> int:
    """Exit status: 0 when the document is as the types say."""
    text = reference()
    if "--write" in sys.argv:
        PLACE.write_text(text)
    elif not PLACE.exists() or PLACE.read_text() != text:
        print(f"{PLACE} is not what the types say; write it again with `make docs`")
        return 1
    print(f"{PLACE} is what the types say")
    return 0


if __name__ == "__main__":
    sys.exit(main())
