"""Route tables and instances through the EC2 API, by boto3.

Owns the calls, their pages and what their errors mean. Refuses to decide. Invariant: an error of AWS comes back as one
of the error tree with the name of the call and AWS's own words, and nothing here retries more than twice.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

from romana.codec.text import parse_address, parse_prefix
from romana.model.address import Family, Prefix
from romana.model.errors import AlreadyExists, Exhausted, Fault, Invalid, NotFound, RomanaError, Unavailable
from romana.model.vpc import Instance, Interface, RouteTable, TableRoute

ATTEMPTS = 3
"""Of one call, with pauses that grow; whoever calls waits much longer before the next."""
CONNECT_SECONDS, READ_SECONDS = 5, 20
PAGES = {"describe_instances": 500, "describe_managed_prefix_lists": 100, "describe_route_tables": 100}
"""How many of a list come in one answer."""
STATUSES_AT_ONCE = 100
PROPAGATED = "EnableVgwRoutePropagation"
LOCAL = "local"
TARGETS = (
    "NetworkInterfaceId",
    "InstanceId",
    "GatewayId",
    "NatGatewayId",
    "TransitGatewayId",
    "VpcPeeringConnectionId",
    "EgressOnlyInternetGatewayId",
    "LocalGatewayId",
    "CarrierGatewayId",
    "CoreNetworkArn",
    "OdbNetworkArn",
)
"""The fields of a route that may say where it leads."""

WRONG_CREDENTIALS = frozenset(
    {
        "AuthFailure",
        "ExpiredToken",
        "ExpiredTokenException",
        "IncompleteSignature",
        "InvalidClientTokenId",
        "MissingAuthenticationToken",
        "OptInRequired",
        "RequestExpired",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)
FORBIDDEN = frozenset({"AccessDenied", "AccessDeniedException", "UnauthorizedOperation"})
THROTTLED = frozenset(
    {"EC2ThrottledException", "RequestLimitExceeded", "RequestThrottled", "Throttling", "ThrottlingException"}
)
NOT_FOUND = frozenset(
    {
        "InvalidInstanceID.NotFound",
        "InvalidNetworkInterfaceID.NotFound",
        "InvalidRoute.NotFound",
        "InvalidRouteTableID.NotFound",
    }
)


class Ec2:
    """`ports.Vpcs`. Credentials are found as boto3 finds them: environment, files, the instance's role."""

    def __init__(self, region: str, endpoint: str = "") -> None:
        """Invalid when there is no region or no boto3; nothing is called yet."""
        try:
            import boto3  # noqa: PLC0415 - it is an extra of this package, and slow to import
            from botocore.config import Config  # noqa: PLC0415
            from botocore.exceptions import BotoCoreError  # noqa: PLC0415
        except ImportError as error:
            raise Invalid(Fault("", f"boto3 is missing ({error}): install romana[aws]")) from error
        config = Config(
            retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
            connect_timeout=CONNECT_SECONDS,
            read_timeout=READ_SECONDS,
            user_agent_extra="romana-aws",
        )
        try:
            self._client = boto3.client("ec2", region_name=region or None, endpoint_url=endpoint or None, config=config)
        except (BotoCoreError, ValueError) as error:
            raise _local_error(error, "", region) from error
        self.region: str = self._client.meta.region_name

    def tables(self, ids: Collection[str], tags: Mapping[str, str]) -> tuple[RouteTable, ...]:
        """By id and by tags; both as filters, so that one unknown id does not hide the others."""
        asked = [[{"Name": "route-table-id", "Values": sorted(ids)}]] if ids else []
        if tags:
            asked.append([{"Name": f"tag:{key}", "Values": [value]} for key, value in sorted(tags.items())])
        found = {
            one["RouteTableId"]: one
            for filters in asked
            for one in self._pages("describe_route_tables", "RouteTables", Filters=filters)
        }
        lists = self._prefix_lists(found.values())
        return tuple(_table(found[id_], lists) for id_ in sorted(found))

    def instances(self, vpcs: Collection[str]) -> dict[str, Instance]:
        """Page by page."""
        if not vpcs:
            return {}
        filters = [{"Name": "vpc-id", "Values": sorted(vpcs)}]
        pages = self._pages("describe_instances", "Reservations", Filters=filters)
        found = (_instance(one) for reservation in pages for one in reservation["Instances"])
        return {one.id: one for one in found}

    def statuses(self, instances: Collection[str]) -> dict[str, str]:
        """A hundred at a time; nothing about those of a part in which one is not known any more."""
        ordered, found = sorted(instances), dict[str, str]()
        for first in range(0, len(ordered), STATUSES_AT_ONCE):
            part = ordered[first : first + STATUSES_AT_ONCE]
            try:
                for one in self._pages("describe_instance_status", "InstanceStatuses", InstanceIds=part):
                    found[one["InstanceId"]] = _worse(one["SystemStatus"]["Status"], one["InstanceStatus"]["Status"])
            except NotFound:
                continue
        return found

    def add_route(self, table: str, prefix: Prefix, interface: str) -> None:
        """CreateRoute."""
        self._call("create_route", RouteTableId=table, NetworkInterfaceId=interface, **_destination(prefix))

    def replace_route(self, table: str, prefix: Prefix, interface: str) -> None:
        """ReplaceRoute."""
        self._call("replace_route", RouteTableId=table, NetworkInterfaceId=interface, **_destination(prefix))

    def remove_route(self, table: str, prefix: Prefix) -> None:
        """DeleteRoute."""
        try:
            self._call("delete_route", RouteTableId=table, **_destination(prefix))
        except NotFound:
            return

    def stop_checking(self, interface: str) -> None:
        """ModifyNetworkInterfaceAttribute; the one of instances does not work where there are several interfaces."""
        self._call("modify_network_interface_attribute", NetworkInterfaceId=interface, SourceDestCheck={"Value": False})

    def _prefix_lists(self, tables: Iterable[Any]) -> dict[str, tuple[Family, int]]:
        """Family, and how many routes it counts as, of each prefix list that some route leads to."""
        routes = (route for table in tables for route in table["Routes"])
        ids = sorted({route["DestinationPrefixListId"] for route in routes if "DestinationPrefixListId" in route})
        if not ids:
            return {}
        filters = [{"Name": "prefix-list-id", "Values": ids}]
        try:
            lists = list(self._pages("describe_managed_prefix_lists", "PrefixLists", Filters=filters))
        except Invalid:  # counted as one each; AWS itself still knows its quota
            return {}
        return {one["PrefixListId"]: (_family(one), int(one.get("MaxEntries") or 1)) for one in lists}

    def _pages(self, name: str, field: str, **arguments: Any) -> Iterator[Any]:
        size = {"PaginationConfig": {"PageSize": PAGES[name]}} if name in PAGES else {}
        paginator = self._client.get_paginator(name)
        pages = iter(paginator.paginate(**arguments, **size))
        while True:
            answer = self._guard(name, lambda: next(pages, None))
            if answer is None:
                return
            yield from answer[field]

    def _call(self, name: str, **arguments: Any) -> Any:
        return self._guard(name, lambda: getattr(self._client, name)(**arguments))

    def _guard(self, name: str, call: Callable[[], Any]) -> Any:
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415

        action = "".join(word.title() for word in name.split("_"))
        try:
            return call()
        except ClientError as error:
            raise _aws_error(error.response, action) from error
        except BotoCoreError as error:
            raise _local_error(error, action, self.region) from error


def _aws_error(response: Any, action: str) -> RomanaError:
    """What AWS answered, as one of the error tree."""
    code = str(response.get("Error", {}).get("Code", ""))
    message = str(response.get("Error", {}).get("Message", "")).partition(" Encoded authorization")[0]
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    words = f"{action}: {message} ({code})"
    if code in THROTTLED:
        return Unavailable(f"AWS asks for fewer calls: {words}")
    if code in WRONG_CREDENTIALS:
        return Invalid(Fault("credentials", f"AWS refuses them: {words}"))
    if code in FORBIDDEN:
        return Invalid(Fault(f"ec2:{action}", f"these credentials may not do it: {message} ({code}); allow it"))
    if code == "RouteAlreadyExists":
        return AlreadyExists(words)
    if code == "RouteLimitExceeded":
        return Exhausted(words)
    if code in NOT_FOUND or (code == "InvalidParameterValue" and "There is no route defined" in message):
        return NotFound(words)
    if status >= 500 or status == 429:
        return Unavailable(f"AWS fails: {words}")
    return Invalid(Fault(f"ec2:{action}", f"AWS refuses it: {message} ({code})"))


def _local_error(error: Exception, action: str, region: str) -> RomanaError:
    """What failed before AWS answered: credentials that are not there, a region that does not exist, the network."""
    kind = type(error).__name__
    if kind in ("NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "ProfileNotFound"):
        where = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the instance a role"
        return Invalid(Fault("credentials", f"there are none: {error}; {where}"))
    if kind in ("NoRegionError", "InvalidRegionError", "ValueError"):
        return Invalid(Fault("aws.region", f"{region!r} is no region ({error}); it is a name such as eu-north-1"))
    where = f"region {region or '(none)'}, {action}" if action else f"region {region or '(none)'}"
    hint = ""
    if kind == "EndpointConnectionError" and region and region not in _known_regions():
        hint = f"; boto3 knows no region {region!r}: is aws.region right?"
    return Unavailable(f"AWS cannot be reached ({where}): {error}{hint}")


def _known_regions() -> set[str]:
    import boto3  # noqa: PLC0415

    session = boto3.session.Session()
    partitions = session.get_available_partitions()
    return {region for partition in partitions for region in session.get_available_regions("ec2", partition)}


def _destination(prefix: Prefix) -> dict[str, str]:
    name = "DestinationCidrBlock" if prefix.family is Family.V4 else "DestinationIpv6CidrBlock"
    return {name: str(prefix)}


def _table(found: Any, lists: Mapping[str, tuple[Family, int]]) -> RouteTable:
    routes: dict[Prefix, TableRoute] = {}
    counted = dict.fromkeys(Family, 0)
    for one in found["Routes"]:
        propagated = one.get("Origin") == PROPAGATED
        text = one.get("DestinationCidrBlock") or one.get("DestinationIpv6CidrBlock")
        if text is None:
            family, weight = lists.get(one.get("DestinationPrefixListId", ""), (Family.V4, 1))
            counted[family] += 0 if propagated else weight
            continue
        prefix = parse_prefix(text)
        counted[prefix.family] += 0 if propagated else 1
        target = next((one[name] for name in TARGETS if one.get(name)), "")
        if not (propagated and prefix in routes):
            routes[prefix] = TableRoute(target=target, blackhole=one.get("State") == "blackhole", local=target == LOCAL)
    return RouteTable(id=found["RouteTableId"], vpc=found["VpcId"], routes=routes, counted=counted)


def _instance(found: Any) -> Instance:
    return Instance(
        id=found["InstanceId"],
        vpc=found.get("VpcId", ""),
        state=found["State"]["Name"],
        interfaces=tuple(_interface(one) for one in found.get("NetworkInterfaces", ())),
    )


def _interface(found: Any) -> Interface:
    texts = [one["PrivateIpAddress"] for one in found.get("PrivateIpAddresses", ())]
    texts += [one["Ipv6Address"] for one in found.get("Ipv6Addresses", ())]
    return Interface(
        id=found["NetworkInterfaceId"],
        subnet=found.get("SubnetId", ""),
        addresses=tuple(map(parse_address, texts)),
        index=int(found.get("Attachment", {}).get("DeviceIndex", 0)),
        checked=bool(found.get("SourceDestCheck", True)),
    )


def _family(prefix_list: Any) -> Family:
    return Family.V6 if prefix_list.get("AddressFamily") == "IPv6" else Family.V4


def _worse(*statuses: str) -> str:
    return "impaired" if "impaired" in statuses else next((one for one in statuses if one != "ok"), "ok")
