"""romana-aws: reads its configuration and runs, writes once, checks, shows or removes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec
import typer

from romana import __version__
from romana.adapters.logs import set_up_logs
from romana.adapters.startup import read_settings, told
from romana.apps.aws import show
from romana.apps.aws.config import DEPENDS, AwsConfig, check
from romana.apps.plain import PlainGroup
from romana.codec.json import decode
from romana.services.vpc.status import Status

app = typer.Typer(
    cls=PlainGroup,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
T = TypeVar("T")
DEFAULT_CONFIG = Path("/etc/romana/aws.toml")
ConfigOption = Annotated[Path, typer.Option("--config", help="Configuration file (TOML).")]
JsonOption = Annotated[bool, typer.Option("--json", help="The answer as JSON.")]


def main() -> None:
    """The program."""
    app()


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"romana-aws {__version__}")
        raise typer.Exit


@app.callback()
def default(
    _version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Writes the plan's aggregated routes into AWS VPC route tables, and fails them over by health."""


@app.command()
def run(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Keep the route tables as they should be, until SIGTERM or SIGINT."""
    from romana.apps.aws import serve  # noqa: PLC0415 - what it joins is slow to import, and help does without it

    _call(config, serve.run, logs=True)


@app.command()
def sync(
    config: ConfigOption = DEFAULT_CONFIG,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be written, and write nothing.")] = False,
    adopt: Annotated[
        bool, typer.Option("--adopt", help="Take over what others have at the plan's own destinations.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Make the route tables as they should be, once. Exit status 0 when they are, 1 when something is not."""
    from romana.apps.aws import serve  # noqa: PLC0415

    outcome = _call(config, lambda settings: serve.sync(settings, dry_run=dry_run, adopt=adopt))
    show.outcome(outcome, dry_run=dry_run, as_json=json)
    if outcome.problems:
        raise typer.Exit(1)


@app.command()
def remove(
    config: ConfigOption = DEFAULT_CONFIG,
    forget: Annotated[
        bool, typer.Option("--forget", help="Forget routes in tables that do not exist in the region any more.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Take every route of ours out of every route table. Exit status 1 when some could not be removed."""
    from romana.apps.aws import serve  # noqa: PLC0415

    outcome = _call(config, lambda settings: serve.remove(settings, forget=forget))
    show.removed(outcome, as_json=json)
    if outcome.problems:
        raise typer.Exit(1)


@app.command()
def status(config: ConfigOption = DEFAULT_CONFIG, json: JsonOption = False) -> None:
    """Ask the running program how it and its routes are. Exit status 1 when something is not as it should be."""
    from romana.apps.aws import serve  # noqa: PLC0415

    text = _call(config, lambda settings: serve.status(Path(settings.aws.socket)))
    found = decode(text, Status)
    if json:
        typer.echo(msgspec.json.format(text, indent=2).decode())
    else:
        show.status(found)
    if found.problem or found.problems:
        raise typer.Exit(1)


@app.command("check-config")
def check_config(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Check the configuration file alone; `sync --dry-run` also asks AWS and romanad."""
    _call(config, lambda _: None)
    typer.echo(f"{config} is right")


def _call(config: Path, work: Callable[[AwsConfig], T], *, logs: bool = False) -> T:
    """Work with the configuration; what is done once is told at its end, and not logged before, too."""
    with told("romana-aws", config):
        settings = read_settings(AwsConfig, config, DEFAULT_CONFIG, check, DEPENDS)
        level = settings.log.level
        set_up_logs(level if logs or level != "info" else "warning", settings.log.format)
        return work(settings)


if __name__ == "__main__":
    main()
