"""romana-agent: reads its configuration and runs, installs, shows or cleans up."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from romana import __version__
from romana.adapters.logs import set_up_logs
from romana.adapters.startup import read_settings, told
from romana.apps.agent import install, serve, serve_router
from romana.apps.agent.config import AgentConfig, check_config
from romana.apps.agent.joints import COMMAND
from romana.apps.agent.server import ask
from romana.apps.plain import PlainGroup
from romana.model.errors import Conflict, Unavailable

app = typer.Typer(cls=PlainGroup, pretty_exceptions_enable=False)
PROGRAM = "romana-agent"
DEFAULT_CONFIG = Path("/etc/romana/agent.toml")
ConfigOption = Annotated[Path, typer.Option("--config", help="Configuration file (TOML).")]


class Output(StrEnum):
    """The form of an answer."""

    TABLE = "table"
    JSON = "json"


def main() -> None:
    """The program."""
    app()


@app.callback(invoke_without_command=True)
def default(
    context: typer.Context,
    config: ConfigOption = DEFAULT_CONFIG,
    cleanup: Annotated[
        bool, typer.Option("--cleanup", help="Take everything of ours off this host, say what it was, and stop.")
    ] = False,
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
) -> None:
    """The agent of romana on a host: makes the kernel match the plan, and serves the CNI plugin."""
    context.obj = config
    if version:
        typer.echo(f"romana-agent {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is not None:
        return
    with told(PROGRAM, config):
        settings = _read(config)
        set_up_logs(settings.log.level, settings.log.format)
        if cleanup:
            _clean_up(settings)
        elif settings.agent.mode == "router":
            serve_router.run(settings)
        else:
            serve.run(settings)


@app.command("install-cni")
def install_cni(
    context: typer.Context,
    plugin: Annotated[Path | None, typer.Option(help="The compiled plugin; by default this installation's.")] = None,
) -> None:
    """Write the CNI plugin and its network configuration where runtimes look for them."""
    with told(PROGRAM, context.obj):
        for path in install.install_cni(_read(context.obj), plugin):
            typer.echo(f"wrote {path}")


@app.command()
def status(
    context: typer.Context,
    output: Annotated[Output, typer.Option("-o", "--output", help="The form of the answer.")] = Output.TABLE,
    json: Annotated[bool, typer.Option("--json", help="Short for `-o json`.")] = False,
) -> None:
    """Ask the running agent how it is; exit status 1 when an ADD would fail."""
    with told(PROGRAM, context.obj):
        _, answer = ask(Path(_read(context.obj).agent.socket), {COMMAND: "status"})
        found = msgspec.json.decode(answer)
        if json or output is Output.JSON:
            typer.echo(answer.decode())
        else:
            _show(found)
        if not found["ready"]:
            raise typer.Exit(1)


@app.command()
def flows(context: typer.Context) -> None:
    """Show as JSON what this host's kernel told of: denied packets, and what staged policies would decide about."""
    with told(PROGRAM, context.obj):
        _, answer = ask(Path(_read(context.obj).agent.socket), {COMMAND: "flows"})
        typer.echo(answer.decode())


def _read(config: Path) -> AgentConfig:
    return read_settings(AgentConfig, config, DEFAULT_CONFIG, check_config)


def _clean_up(settings: AgentConfig) -> None:
    try:
        ask(Path(settings.agent.socket), {COMMAND: "status"}, timeout=2)
    except Unavailable:
        pass
    else:
        raise Conflict(f"an agent is running on {settings.agent.socket}; stop it before the clean-up")
    count = 0
    for words in install.clean_up(settings):
        typer.echo(f"removed {words}")
        count += 1
    if not count:
        typer.echo("nothing of romana's agent was here")


def _show(found: dict[str, Any]) -> None:
    width = max(map(len, found), default=0)
    for name, value in found.items():
        words = ", ".join(f"{one['name']} {one['state']}" for one in value) if name == "sessions" else _in_words(value)
        typer.echo(f"{name.replace('_', ' '):{width}}  {words or '-'}")


def _in_words(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}: {words}" for key, words in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return "" if value is None else str(value)


if __name__ == "__main__":
    main()
