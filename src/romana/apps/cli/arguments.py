"""Arguments and options that several commands have, and what they mean."""

from __future__ import annotations

from typing import Annotated

import typer

from romana.model.errors import Fault, Invalid

OnHost = Annotated[str | None, typer.Option("--host", help="Only those of this host.")]
OfTenant = Annotated[str | None, typer.Option("--tenant", help="Only those of this tenant.")]
OfSegment = Annotated[str | None, typer.Option("--segment", help="Only those of this segment.")]
Labels = Annotated[
    list[str] | None, typer.Option("--label", "-l", metavar="KEY=VALUE", help="A label; may be repeated.")
]
Name = Annotated[str, typer.Argument(metavar="NAME", show_default=False)]
File = Annotated[str, typer.Argument(metavar="FILE", help="JSON or YAML; - is standard input.", show_default=False)]


def labels_from_options(options: list[str] | None) -> dict[str, str]:
    """`k=v` each; Invalid with all that are not."""
    wrong = [text for text in options or [] if "=" not in text or text.startswith("=")]
    if wrong:
        raise Invalid(*(Fault("--label", f"{text!r} is not KEY=VALUE") for text in wrong))
    pairs = (text.partition("=") for text in options or [])
    return {key: value for key, _, value in pairs}
