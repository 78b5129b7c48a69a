"""romana-aws's configuration, /etc/romana/aws.toml."""

from __future__ import annotations

import msgspec

from romana.adapters.logs import log_faults
from romana.model.errors import Fault, Invalid

MOST_TABLES = 200
"""Values that a filter of the EC2 API takes."""


class AwsSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The VPCs' route tables. Credentials are found as every AWS program finds them, and are never written here.

    region: such as `eu-north-1`; empty for the one of AWS's own configuration (AWS_REGION).
    endpoint: of the EC2 API, such as a VPC endpoint's URL; empty for the region's own.
    tables: ids of route tables.
    table_tags: tags; route tables that have all of them are written, too.
    routes_per_table: how many routes of each family a table may have: the account's quota.
    instance_label: the label of a host that has its instance's id; hosts without it are found by their addresses.
    lease: programs with one lease take turns; those that write tables of different regions or accounts need their own.
    holder: this program's name among those that take turns; empty for the machine's own name.
    round_seconds: the time between rounds, each of which reads tables and instances.
    socket: the UNIX socket that tells the program's status.
    """

    region: str = ""
    endpoint: str = ""
    tables: tuple[str, ...] = ()
    table_tags: dict[str, str] = {}
    routes_per_table: int = 50
    instance_label: str = "romana.io/instance"
    lease: str = "aws"
    holder: str = ""
    round_seconds: float = 10.0
    socket: str = "/run/romana/aws.sock"


class RomanadSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The control plane.

    url: `unix:///path` or `http://host:port`.
    """

    url: str = "unix:///run/romana/romanad.sock"


class HealthSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a host is left as a next hop, and when it is taken again.

    silent_seconds: for how long romanad may not hear from a host's agent.
    fail_over_seconds: for how long something that may pass is waited for; what is certain is not waited for.
    fail_back_seconds: for how long a host has to be well before it is preferred again; doubled when it fails often.
    most_fail_back_seconds: and at most for how long.
    probe_port: a TCP port at which hosts are probed, where a refusal is an answer, too; 0 for no probes.
    probe_seconds: the time between probes of one host, and within which it has to answer.
    probes: how many of them in a row are a failure when nobody answers.
    """

    silent_seconds: int = 60
    fail_over_seconds: int = 5
    fail_back_seconds: int = 120
    most_fail_back_seconds: int = 3600
    probe_port: int = 0
    probe_seconds: float = 2.0
    probes: int = 3


class LogSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is logged on stderr.

    level: debug, info, warning or error.
    format: `json`, `text`, or `auto` (text on a terminal).
    """

    level: str = "info"
    format: str = "auto"


class AwsConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """romana-aws's configuration."""

    aws: AwsSection = AwsSection()
    romanad: RomanadSection = RomanadSection()
    health: HealthSection = HealthSection()
    log: LogSection = LogSection()


DEPENDS = ((r"aws\.tables: name route tables.*", r"aws\.table_tags.*"),)
"""Which fault hangs on what else than its place (`codec.salvage`)."""


def check(settings: AwsConfig) -> None:
    """Invalid, with every fault, for values that do not make sense."""
    faults = []
    if not settings.aws.tables and not settings.aws.table_tags:
        faults.append(Fault("aws.tables", "name route tables here, or by tags in aws.table_tags"))
    faults += [
        Fault(f"aws.tables[{place}]", f"{id_!r} is not the id of a route table, such as rtb-0123456789abcdef0")
        for place, id_ in enumerate(settings.aws.tables)
        if not id_.startswith("rtb-")
    ]
    if len(settings.aws.tables) > MOST_TABLES:
        faults.append(
            Fault("aws.tables", f"names {len(settings.aws.tables)} route tables, at most {MOST_TABLES} can be")
        )
    positive = {
        "aws.routes_per_table": settings.aws.routes_per_table,
        "aws.round_seconds": settings.aws.round_seconds,
        "health.silent_seconds": settings.health.silent_seconds,
        "health.fail_back_seconds": settings.health.fail_back_seconds,
        "health.probe_seconds": settings.health.probe_seconds,
        "health.probes": settings.health.probes,
    }
    faults += [Fault(name, f"must be more than 0, got {value}") for name, value in positive.items() if value <= 0]
    if settings.health.fail_over_seconds < 0:
        faults.append(Fault("health.fail_over_seconds", "must not be negative"))
    if not 0 <= settings.health.probe_port < 1 << 16:
        faults.append(Fault("health.probe_port", f"{settings.health.probe_port} is no TCP port"))
    faults += log_faults(settings.log.level, settings.log.format)
    if faults:
        raise Invalid(*faults)
