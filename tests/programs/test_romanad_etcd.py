"""romanad with its records in etcd: several at once, and an etcd that comes and goes."""

from __future__ import annotations

import json
import signal
import subprocess
import time
import urllib.error
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.probes.etcd import EtcdCluster
from tests.programs.test_romanad import ROMANAD, Romanad


def configured(directory: Path, cluster: EtcdCluster, prefix: str, timeout: float = 3.0) -> Romanad:
    directory.mkdir()
    one = Romanad(directory)
    one.config.write_text(
        f'[store]\nkind = "etcd"\n[etcd]\nendpoints = {json.dumps(cluster.endpoints)}\nprefix = "{prefix}"\n'
        f'timeout_seconds = {timeout}\n[listen]\nsocket = "{one.socket}"\nport = {one.port}\n'
    )
    return one


def names(romanad: Romanad) -> list[str]:
    return [item["name"] for item in romanad.get("/v1/tenants")["items"]]


def status(romanad: Romanad, path: str, method: str = "GET") -> int:
    try:
        romanad.get(path, method, None if method == "GET" else {})
    except urllib.error.HTTPError as error:
        error.close()
        return error.code
    return 200


def wait(true: Callable[[], bool], seconds: float = 15) -> None:
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_two_romanads_on_one_etcd_are_both_active(tmp_path: Path, etcd: EtcdCluster) -> None:
    with ExitStack() as ending:
        both = [configured(tmp_path / name, etcd, "/programs/two/") for name in ("first", "second")]
        for one in both:
            one.start()
            ending.callback(one.kill)
        first, second = both
        assert first.get("/healthz")["incarnation"] == second.get("/healthz")["incarnation"]
        for number in range(6):
            both[number % 2].get(f"/v1/tenants/t{number}", "PUT", {})
        wait(lambda: names(first) == names(second) == [f"t{number}" for number in range(6)])
        first.get("/v1/tenants/t0/segments/web", "PUT")
        wait(lambda: bool(second.get("/v1/segments")["items"]))
        assert first.kill(signal.SIGTERM) == 0
        ending.pop_all()
        ending.callback(second.kill)
        second.get("/v1/tenants/t0/segments/db", "PUT")


def test_an_etcd_that_restarts_is_waited_for_and_nothing_is_lost(tmp_path: Path) -> None:
    with EtcdCluster(tmp_path / "etcd") as cluster, ExitStack() as ending:
        romanad = configured(tmp_path / "romanad", cluster, "/romana/", 0.7)
        romanad.start()
        ending.callback(romanad.kill)
        romanad.get("/v1/tenants/before", "PUT", {})
        cluster.kill(0)
        for path, method in (("/readyz", "GET"), ("/v1/tenants/lost", "PUT")):
            assert status(romanad, path, method) == 503
        assert names(romanad) == ["before"]
        assert romanad.get("/healthz")["healthy"]
        cluster.start(0)
        wait(lambda: status(romanad, "/readyz") == 200)
        romanad.get("/v1/tenants/behind", "PUT", {})
        assert names(romanad) == ["before", "behind"]


def test_a_start_without_etcd_waits_for_it_says_so_once_and_can_be_ended(tmp_path: Path) -> None:
    cluster = EtcdCluster(tmp_path / "etcd")
    with cluster, ExitStack() as ending:
        cluster.kill(0)
        romanad = configured(tmp_path / "romanad", cluster, "/romana/", 0.3)
        for away in (True, False):
            process = subprocess.Popen([ROMANAD, "--config", str(romanad.config)], stderr=subprocess.PIPE)
            ending.callback(process.kill)
            assert process.stderr is not None
            line = json.loads(process.stderr.readline())
            assert line["event"] == "the store is away; waiting for it"
            assert cluster.endpoints[0] in line["error"]
            if not away:
                cluster.start(0)
                assert json.loads(process.stderr.readline())["event"] == "ready"
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0
            process.stderr.close()


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ('[store]\nkind = "redis"', ["store.kind: 'redis' is no kind of store"]),
        ('[store]\nkind = "etcd"', ["etcd.endpoints: is needed"]),
        ('[etcd]\nendpoints = ["a:1"]', ["etcd: is set, but store.kind is sqlite"]),
        (
            '[store]\nkind = "etcd"\n[etcd]\nendpoints = ["https://a:1"]\nprefix = "romana"\nkey = "k"',
            ["etcd.endpoints[0]: 'https://a:1' is not HOST:PORT", "etcd.prefix", "etcd.certificate: goes with"],
        ),
        (
            '[store]\nkind = "etcd"\n[etcd]\nendpoints = ["a:1"]\ncertificate = "c"\nkey = "k"\ntimeout_seconds = 0',
            ["etcd.ca: is needed", "etcd.timeout_seconds: 0.0 is not between"],
        ),
        ('[store]\npath = ""', ["store.path: is empty"]),
    ],
)
def test_a_store_that_makes_no_sense_is_refused_with_every_fault(
    text: str, sentences: list[str], tmp_path: Path
) -> None:
    config = tmp_path / "romanad.toml"
    config.write_text(f'{text}\n[listen]\nsocket = "{tmp_path}/socket"\nport = 0\n')
    done = subprocess.run([ROMANAD, "--config", str(config)], capture_output=True, text=True, check=False, timeout=20)
    assert done.returncode == 2
    for sentence in sentences:
        assert sentence in done.stderr


def test_certificates_that_are_not_there_end_the_start(tmp_path: Path) -> None:
    config = tmp_path / "romanad.toml"
    config.write_text(
        '[store]\nkind = "etcd"\n[etcd]\nendpoints = ["127.0.0.1:1"]\nca = "/nowhere/ca.pem"\n'
        f'[listen]\nsocket = "{tmp_path}/socket"\nport = 0\n'
    )
    done = subprocess.run([ROMANAD, "--config", str(config)], capture_output=True, text=True, check=False, timeout=20)
    assert done.returncode == 1
    assert "cannot read /nowhere/ca.pem" in done.stderr


def test_only_a_romanad_with_etcd_imports_grpcio(tmp_path: Path) -> None:
    one = Romanad(tmp_path)
    one.start()
    try:
        assert one.process is not None
        assert "grpc" not in Path(f"/proc/{one.process.pid}/maps").read_text()
    finally:
        one.kill()
