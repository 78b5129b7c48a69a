"""A small AWS on loopback: moto's server, and in front of it a gate that does what moto does not.

The gate passes every call on, writes down which came, refuses to create a route that exists, and can throttle, refuse,
lose answers, stop the caller in the middle, count routes against a quota, and show instances whose status checks fail
and routes that nobody takes.
"""

from __future__ import annotations

import http.client
import http.server
import os
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import boto3
import msgspec
from botocore.config import Config

from tests.probes.agenthost import wait
from tests.probes.spaces import within

REGION = "eu-north-1"
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "example",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": "/nonexistent",
    "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
}
"""What a program finds in its environment; moto asks for no particular ones."""
NAMESPACE = "{http://ec2.amazonaws.com/doc/2016-11-15}"
TIED = ("setpriv", "--pdeathsig", "KILL", "--")
"""Before a command: it ends with the process that started it, however that ends."""
ANSWER_LOST = "answer lost"
WRITES = frozenset({"CreateRoute", "ReplaceRoute", "DeleteRoute", "ModifyNetworkInterfaceAttribute"})


class Call(msgspec.Struct, frozen=True):
    """A call that came: its action and parameters."""

    action: str
    parameters: dict[str, str]

    @property
    def destination(self) -> str:
        return self.parameters.get("DestinationCidrBlock", self.parameters.get("DestinationIpv6CidrBlock", ""))


class Rule(msgspec.Struct):
    """What becomes of the next so many calls of some actions: an error code, or ANSWER_LOST after it was done.

    With `hold` a call is not passed on and never answered, and `reached` is set.
    """

    actions: frozenset[str]
    code: str = ""
    times: int = 1
    after: int = 0
    """So many calls of these actions are passed on first."""
    hold: bool = False
    message: str = "said the gate"
    reached: threading.Event = msgspec.field(default_factory=threading.Event)


class _Server(http.server.ThreadingHTTPServer):
    """Callers may be killed."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class Gate:
    """The endpoint that programs under test use. Everything is set from the test's thread."""

    def __init__(self, behind: int, space: str = "") -> None:
        """`behind` is moto's port; callers are in the network namespace at the path `space`, if one is given."""
        self.calls: list[Call] = []
        self.rules: list[Rule] = []
        self.quota: int | None = None
        self.impaired: set[str] = set()
        self.blackholes: set[str] = set()
        self.times: list[float] = []
        """When each call came, on the monotonic clock."""
        self._behind = behind
        self._lock = threading.Lock()
        self._closing = threading.Event()
        gate = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                gate._handle(self)

            def log_message(self, *_: object) -> None:
                """Nothing."""

        with within(space) if space else nullcontext():
            self._server = _Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def close(self) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def rule(self, *actions: str, code: str = "", times: int = 1, **more: Any) -> Rule:
        """From now on."""
        rule = Rule(actions=frozenset(actions), code=code, times=times, **more)
        with self._lock:
            self.rules.append(rule)
        return rule

    def writes(self) -> list[Call]:
        """The writing calls so far."""
        return [call for call in self.calls if call.action in WRITES]

    def forget(self) -> None:
        """The calls so far, and rules."""
        with self._lock:
            self.calls.clear()
            self.times.clear()
            self.rules.clear()

    def _handle(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers["Content-Length"]))
        parameters = dict(parse_qsl(body.decode()))
        call = Call(parameters.get("Action", ""), parameters)
        with self._lock:
            self.calls.append(call)
            self.times.append(time.monotonic())
            rule = self._matching(call)
        if rule is not None and rule.hold:
            rule.reached.set()
            self._closing.wait()
            handler.close_connection = True
            return
        if rule is not None and rule.code != ANSWER_LOST:
            _answer(handler, *_error(rule.code, rule.message))
            return
        refused = self._refuse(call) if call.action == "CreateRoute" else ""
        if refused:
            _answer(handler, *_error(refused, f"{call.destination} cannot be created"))
            return
        status, answer = self._pass_on(handler, body)
        if rule is not None:
            handler.close_connection = True
            return
        _answer(handler, status, self._changed(call.action, answer))

    def _matching(self, call: Call) -> Rule | None:
        for rule in self.rules:
            if call.action in rule.actions and rule.times:
                if rule.after:
                    rule.after -= 1
                    return None
                rule.times -= 1
                return rule
        return None

    def _pass_on(self, handler: http.server.BaseHTTPRequestHandler, body: bytes) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self._behind, timeout=30)
        try:
            headers = {name: value for name, value in handler.headers.items() if name.lower() != "host"}
            connection.request("POST", "/", body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def _refuse(self, call: Call) -> str:
        """Why AWS would not create a route; moto replaces one that is there, and counts none."""
        id_ = call.parameters["RouteTableId"]
        found = client(self._behind).describe_route_tables(Filters=[{"Name": "route-table-id", "Values": [id_]}])
        routes = [route for table in found["RouteTables"] for route in table["Routes"]]
        same = [route for route in routes if _field(call.destination) in route]
        if any(route[_field(call.destination)] == call.destination for route in same):
            return "RouteAlreadyExists"
        return "RouteLimitExceeded" if self.quota is not None and len(same) >= self.quota else ""

    def _changed(self, action: str, answer: bytes) -> bytes:
        wanted = {"DescribeInstanceStatus": self._impair, "DescribeRouteTables": self._blackhole}.get(action)
        if wanted is None or not (self.impaired or self.blackholes):
            return answer
        root = ET.fromstring(answer)
        wanted(root)
        return ET.tostring(root)

    def _impair(self, root: ET.Element) -> None:
        for item in root.iter(f"{NAMESPACE}item"):
            found = item.find(f"{NAMESPACE}instanceId")
            status = item.find(f"{NAMESPACE}instanceStatus/{NAMESPACE}status")
            if found is not None and found.text in self.impaired and status is not None:
                status.text = "impaired"

    def _blackhole(self, root: ET.Element) -> None:
        for item in root.iter(f"{NAMESPACE}item"):
            found, state = item.find(f"{NAMESPACE}networkInterfaceId"), item.find(f"{NAMESPACE}state")
            if found is not None and found.text in self.blackholes and state is not None:
                state.text = "blackhole"


def _error(code: str, message: str) -> tuple[int, bytes]:
    status = 503 if code in ("RequestLimitExceeded", "Unavailable", "InternalError") else 400
    status = 403 if code in ("UnauthorizedOperation", "AuthFailure") else status
    error = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    return status, f"<Response><Errors>{error}</Errors><RequestID>r</RequestID></Response>".encode()


def _answer(handler: http.server.BaseHTTPRequestHandler, status: int, body: bytes) -> None:
    handler.send_response(status)
    handler.send_header("Content-Type", "text/xml")
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def client(port: int) -> Any:
    """boto3's client of moto itself, for what a test does to the cloud."""
    return boto3.client(
        "ec2",
        region_name=REGION,
        endpoint_url=f"http://127.0.0.1:{port}",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(retries={"total_max_attempts": 1}),
    )


class Cloud:
    """moto with a gate, and what a test makes in it; ids by the names that the test gives."""

    def __init__(self, port: int, gate: Gate) -> None:
        self.gate = gate
        self.ec2 = client(port)
        self.ids: dict[str, str] = {}
        self.image = self.ec2.describe_images()["Images"][0]["ImageId"]

    def vpc(self, name: str, cidr: str) -> str:
        self.ids[name] = self.ec2.create_vpc(CidrBlock=cidr, AmazonProvidedIpv6CidrBlock=True)["Vpc"]["VpcId"]
        return self.ids[name]

    def subnet(self, name: str, vpc: str, cidr: str) -> str:
        made = self.ec2.create_subnet(VpcId=self.ids[vpc], CidrBlock=cidr)["Subnet"]
        self.ids[name] = made["SubnetId"]
        return self.ids[name]

    def table(self, name: str, vpc: str, **tags: str) -> str:
        specifications = [{"ResourceType": "route-table", "Tags": [{"Key": k, "Value": v} for k, v in tags.items()]}]
        made = self.ec2.create_route_table(VpcId=self.ids[vpc], TagSpecifications=specifications if tags else [])
        self.ids[name] = made["RouteTable"]["RouteTableId"]
        return self.ids[name]

    def gateway(self, name: str, vpc: str) -> str:
        made = self.ec2.create_internet_gateway()["InternetGateway"]
        self.ids[name] = made["InternetGatewayId"]
        self.ec2.attach_internet_gateway(InternetGatewayId=self.ids[name], VpcId=self.ids[vpc])
        return self.ids[name]

    def instance(self, name: str, subnet: str, address: str) -> str:
        """An instance; its id is under its name, its interface's under `NAME/eni`."""
        made = self.ec2.run_instances(
            ImageId=self.image, MinCount=1, MaxCount=1, SubnetId=self.ids[subnet], PrivateIpAddress=address
        )["Instances"][0]
        self.ids[name] = made["InstanceId"]
        self.ids[f"{name}/eni"] = made["NetworkInterfaces"][0]["NetworkInterfaceId"]
        return self.ids[name]

    def stop(self, name: str) -> None:
        self.ec2.stop_instances(InstanceIds=[self.ids[name]])

    def start(self, name: str) -> None:
        self.ec2.start_instances(InstanceIds=[self.ids[name]])

    def terminate(self, name: str) -> None:
        self.ec2.terminate_instances(InstanceIds=[self.ids[name]])

    def add_route(self, table: str, prefix: str, **target: str) -> None:
        """A route of somebody else."""
        self.ec2.create_route(RouteTableId=self.ids[table], **{_field(prefix): prefix}, **target)

    def routes(self, table: str) -> dict[str, str]:
        """What a table has beside the VPC's own: destination -> the name of an instance, else the target's id."""
        (found,) = self.ec2.describe_route_tables(RouteTableIds=[self.ids[table]])["RouteTables"]
        names = {id_: name.removesuffix("/eni") for name, id_ in self.ids.items() if name.endswith("/eni")}
        routes = {}
        for one in found["Routes"]:
            target = one.get("NetworkInterfaceId") or one.get("InstanceId") or one.get("GatewayId", "?")
            if target != "local":
                prefix = one.get("DestinationCidrBlock") or one["DestinationIpv6CidrBlock"]
                routes[prefix] = names.get(target, target)
        return routes

    def checks(self, name: str) -> bool:
        """Whether the interface of an instance checks source and destination."""
        found = self.ec2.describe_network_interfaces(NetworkInterfaceIds=[self.ids[f"{name}/eni"]])
        return bool(found["NetworkInterfaces"][0]["SourceDestCheck"])


def _field(prefix: str) -> str:
    return "DestinationIpv6CidrBlock" if ":" in prefix else "DestinationCidrBlock"


@contextmanager
def moto_server(log: Path) -> Iterator[int]:
    """moto's server as a process; its port."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as probe:
        port = int(probe.server_address[1])
    command = [*TIED, sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    environment = {**os.environ, "MOTO_EC2_LOAD_DEFAULT_AMIS": "true"}
    with log.open("ab") as file, subprocess.Popen(command, stdout=file, stderr=file, env=environment) as server:
        try:
            wait(lambda: _is_up(port), f"moto does not start: {log}")
            yield port
        finally:
            server.kill()


def _is_up(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/moto-api/data.json")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


@contextmanager
def cloud(port: int, space: str = "") -> Iterator[Cloud]:
    """An empty cloud on moto's server at a port, and a gate of its own, in a namespace of the callers' if need be."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("POST", "/moto-api/reset")
    assert connection.getresponse().status == 200
    connection.close()
    with ExitStack() as undo:
        gate = Gate(port, space)
        undo.callback(gate.close)
        yield Cloud(port, gate)
