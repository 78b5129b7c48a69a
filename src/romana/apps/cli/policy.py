"""`romana policy`, `romana trace`, `romana watch`: who may talk to whom, why, and what changes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import msgspec
import typer

from romana.apps.cli.failure import ExitStatus
from romana.apps.cli.session import GivenDocuments, Session, command, in_file, name_in_path, read_text
from romana.apps.cli.table import Column
from romana.model.errors import Invalid

policy_app = typer.Typer(help="Policies: who may talk to whom.", no_args_is_help=True)


def _selector_text(selector: Any) -> str:
    parts = [*(selector.get("tenants") or []), *(f"segment {name}" for name in selector.get("segments") or [])]
    parts += [_requirement_text(one) for one in (*selector.get("tenant_labels", ()), *selector.get("labels", ()))]
    return " ".join(parts) or "everyone"


def _hosts_text(hosts: Any) -> str:
    names, labels = hosts.get("names"), [_requirement_text(one) for one in hosts.get("labels", ())]
    return " ".join([("host" if names and len(names) == 1 else "hosts"), *(names or ["any"]), *labels])


def _subjects(item: Any) -> list[str]:
    return [*map(_selector_text, item["subjects"]), *map(_hosts_text, item.get("hosts", ()))]


def _tier_text(item: Any) -> str:
    tier = item.get("tier", "policies")
    return tier if tier == "policies" else f"{tier} {item.get('priority', 0)}"


def _requirement_text(requirement: Any) -> str:
    key, values = requirement["key"], requirement.get("values") or []
    match requirement["operator"]:
        case "In" if len(values) == 1:
            return f"{key}={values[0]}"
        case "Exists":
            return str(key)
        case "DoesNotExist":
            return f"!{key}"
        case word:
            return f"{key} {word} ({' '.join(values)})"


def _rules_text(rules: Any) -> str:
    if rules is None:
        return "not governed"
    return f"{len(rules)} rule{'s' if len(rules) != 1 else ''}" if rules else "nothing allowed"


POLICY = (
    Column("policy", "id"),
    Column("kind", "kind"),
    Column("tier", _tier_text),
    Column("applies to", _subjects),
    Column("ingress", lambda item: _rules_text(item.get("ingress"))),
    Column("egress", lambda item: _rules_text(item.get("egress"))),
    Column("staged", lambda item: "staged" if item.get("staged") else ""),
    Column("description", "description"),
)


@command(policy_app, "list")
def policy_list(session: Session) -> None:
    """All policies."""
    session.show(session.items("policies"), POLICY, empty="no policies; tenants' isolation alone decides")


@command(policy_app, "show")
def policy_show(session: Session, name: Annotated[str, typer.Argument(metavar="POLICY", show_default=False)]) -> None:
    """One policy, and the document that it came from."""
    policy = session.get(f"policies/{name_in_path(name)}")
    session.show_one(policy, POLICY)
    if session.is_table and policy.get("document"):
        typer.echo(msgspec.json.format(policy["document"], indent=2))


@command(policy_app, "apply")
def policy_apply(
    session: Session,
    files: Annotated[
        list[str], typer.Argument(metavar="FILE...", help="JSON or YAML; - is standard input.", show_default=False)
    ],
) -> None:
    """Put policies in force: native ones (`version: 1`), Kubernetes' NetworkPolicies and ClusterNetworkPolicies, and
    Romana v2's. All that the files have, or nothing.
    """
    given = GivenDocuments(files)
    with given.placed():
        applied = session.post("policies", given.documents)
    names = ", ".join(policy["id"] for policy in applied)
    session.say(f"in force: {names or 'nothing, the documents hold no policy'}", applied)
    for words in _strangers(session, applied):
        typer.echo(f"romana: {words}", err=True)


def _strangers(session: Session, policies: Sequence[Any]) -> list[str]:
    """A sentence for each name in policies that nobody has yet: it may come later, or be a slip."""
    selectors = [(one["id"], each) for one in policies for each in _ends_of(one)]
    tenants = {one["name"] for one in session.items("tenants")} if selectors else set()
    segments = {(one["tenant"], one["name"]) for one in session.items("segments")} if selectors else set()
    named_hosts = any(each.get("names") for _, each in selectors)
    hosts = {one["name"] for one in session.items("hosts")} if named_hosts else set()
    found: dict[str, None] = {}
    for id_, each in selectors:
        strange = [f"tenant {name!r}" for name in each.get("tenants") or () if name not in tenants]
        whose = [name for name in each.get("tenants") or tenants if name in tenants]
        strange += [
            f"segment {'/'.join([*(whose if len(whose) == 1 else ()), segment])!r}"
            for segment in (each.get("segments") or () if whose else ())
            if not any((tenant, segment) in segments for tenant in whose)
        ]
        strange += [f"host {name!r}" for name in each.get("names") or () if name not in hosts]
        found |= dict.fromkeys(f"policy {id_} names {words}, which is not there (yet)" for words in strange)
    return list(found)


def _ends_of(policy: Any) -> Iterator[Any]:
    """Everybody whom a policy is about: subjects, hosts, and the peers of its rules."""
    yield from (*policy["subjects"], *policy.get("hosts", ()))
    for direction in ("ingress", "egress"):
        for rule in policy.get(direction) or ():
            yield from rule.get("peers") or ()


@command(policy_app, "remove")
def policy_remove(
    session: Session, names: Annotated[list[str], typer.Argument(metavar="POLICY...", show_default=False)]
) -> None:
    """Take policies out of force."""
    for name in names:
        session.delete(f"policies/{name_in_path(name)}")
        session.say(f"policy {name} removed")


def _traffic_text(words: str) -> str:
    """Traffic as a profile names it: the one that accepts all of it is `accept`."""
    return "everything" if words == "accept" else words


PAIR = (
    Column("from", "source"),
    Column("to", "destination"),
    Column("opens", lambda item: _traffic_text(item["opened"])),
    Column("closes", lambda item: _traffic_text(item["closed"])),
)


@command(policy_app, "impact")
def policy_impact(
    session: Session,
    files: Annotated[
        list[str] | None, typer.Argument(metavar="[FILE...]", help="Policies that would be put in force.")
    ] = None,
    remove: Annotated[list[str] | None, typer.Option(metavar="POLICY", help="Would be taken out of force.")] = None,
) -> None:
    """Say which pairs of owners a change would open and close, before it is made. Nothing is changed."""
    given = GivenDocuments(files or ())
    with given.placed():
        answer = session.post("policy-impact", {"policies": given.documents, "remove": remove or []})
    if not session.is_table:
        session.say("", answer)
        return
    session.show(answer["pairs"], PAIR, empty="nobody reaches anybody that they did not before, or the reverse")
    if not answer["complete"]:
        typer.echo("romana: too many pairs to look at; this is a part of them", err=True)


def add_trace(app: typer.Typer) -> None:
    """Declare `trace`, `verify` and `watch` on the program itself."""
    command(app, "trace")(_trace)
    command(app, "verify")(_verify)
    command(app, "watch")(_watch)


End = Annotated[str, typer.Argument(help="An address, an endpoint's name or id, or a host.", show_default=False)]


def _trace(
    session: Session,
    source: End,
    destination: End,
    traffic: Annotated[str, typer.Argument(help="Such as tcp/80, udp/53-60, icmp, any.", show_default=False)],
    expect: Annotated[
        str | None, typer.Option(metavar="accept|deny", help="Exit with status 8 when the verdict is another one.")
    ] = None,
) -> None:
    """Explain, step by step at both ends, whether a connection is accepted."""
    if expect not in (None, "accept", "deny"):
        raise typer.BadParameter(f"{expect!r} is neither accept nor deny", param_hint="--expect")
    answer = session.post("trace", {"source": source, "destination": destination, "traffic": traffic})
    for line in answer["lines"] if session.is_table else ():
        typer.echo(line)
    if not session.is_table:
        session.say("", answer["trace"])
    if expect is not None and answer["trace"]["verdict"] is not (expect == "accept"):
        typer.echo(
            f"romana: the connection was expected to be {'accepted' if expect == 'accept' else 'denied'}", err=True
        )
        raise typer.Exit(ExitStatus.UNEXPECTED_VERDICT)


def _verify(
    session: Session,
    file: Annotated[str, typer.Argument(help="Statements, one a line; - is standard input.", show_default=False)],
) -> None:
    """Prove statements such as `tenant red never reaches tenant blue`, or refute them by a connection.

    Exits with status 8 when one does not hold.
    """
    text = read_text(file)
    try:
        findings = session.post("verify", {"statements": text})
    except Invalid as error:
        raise in_file(file, error) from error
    for one in findings if session.is_table else ():
        word = typer.style("holds ", fg="green") if one["holds"] else typer.style("FAILS ", fg="red")
        typer.echo(f"{word} {one['text']}: {one['sentence']}")
    if not session.is_table:
        session.say("", findings)
    if not all(one["holds"] for one in findings):
        raise typer.Exit(ExitStatus.UNEXPECTED_VERDICT)


def _watch(
    session: Session,
    since: Annotated[int | None, typer.Option("--from", help="From this revision on, instead of from now.")] = None,
) -> None:
    """Follow every change, a line each, until interrupted."""
    for event in session.lines("watch", **{"from": None if since is None else str(since)}):
        if not session.is_table:
            typer.echo(msgspec.json.encode(event))
        elif event["key"]:
            word = typer.style("removed", fg="red") if event["deleted"] else typer.style("is now", fg="green")
            typer.echo(f"{event['revision']:>8}  {event['key']}  {word}  {_short(event.get('value'))}".rstrip())
        else:
            typer.echo(f"{event['revision']:>8}  watching", err=True)


def _short(value: Any) -> str:
    text = "" if value is None else msgspec.json.encode(value["value"]).decode()
    return text if len(text) <= 100 else f"{text[:97]}..."
