"""`romana backup` and `romana restore` by their front doors."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.probes.etcd import EtcdCluster
from tests.programs.test_romanad import NETWORKS, PLAN, Romanad

ROMANA = str(Path(sys.executable).parent / "romana")


@pytest.fixture
def romanad(tmp_path: Path) -> Iterator[Romanad]:
    one = Romanad(tmp_path)
    one.start()
    try:
        yield one
    finally:
        if one.process is not None:
            one.kill()


def romana(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([ROMANA, *arguments], capture_output=True, text=True, check=False, timeout=30)


def test_a_backup_is_restored_into_another_store_and_romanad_goes_on_from_there(
    romanad: Romanad, tmp_path: Path, etcd: EtcdCluster
) -> None:
    romanad.get("/v1/topology", "PUT", PLAN)
    for number in range(5):
        romanad.get(f"/v1/tenants/t{number}", "PUT", {})
    incarnation = romanad.get("/healthz")["incarnation"]
    file = tmp_path / "copy"
    done = romana("backup", str(file), "--server", f"unix://{romanad.socket}", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["records"] == len(file.read_bytes().splitlines()) - 2
    assert file.stat().st_mode & 0o777 == 0o600
    assert "another romanad holds it" in romana("restore", str(file), "--path", f"{tmp_path}/romanad.db").stderr
    tenants = romanad.get("/v1/tenants")
    romanad.kill()
    for where in (["--path", f"{tmp_path}/new.db"], ["--etcd", etcd.endpoints[0], "--prefix", "/programs/backup/"]):
        assert (found := romana("restore", str(file), *where, "--json")).returncode == 0, found.stderr
        assert json.loads(found.stdout)["unsettled"] == []
        again = romana("restore", str(file), *where)
        assert (again.returncode, "has records" in again.stderr) == (4, True)
    for store in (
        f'[store]\npath = "{tmp_path}/new.db"\n',
        f'[store]\nkind = "etcd"\n[etcd]\nendpoints = ["{etcd.endpoints[0]}"]\nprefix = "/programs/backup/"\n',
    ):
        romanad.config.write_text(f'{store}[listen]\nsocket = "{romanad.socket}"\nport = {romanad.port}\n')
        romanad.start()
        assert romanad.get("/v1/tenants") == tenants
        assert romanad.get("/v1/topology")["plan"]["networks"][0]["name"] == "pods"
        assert romanad.get("/healthz")["incarnation"] != incarnation
        romanad.kill()


def test_a_fixed_address_that_was_given_after_the_backup_is_not_given_again(romanad: Romanad, tmp_path: Path) -> None:
    romanad.get("/v1/topology", "PUT", {**PLAN, "networks": [{**NETWORKS[0], "static": ["10.1.0.0/24"]}]})
    romanad.get("/v1/tenants/a", "PUT", {})
    romanad.get("/v1/tenants/a/segments/web", "PUT", {})
    server = ("--server", f"unix://{romanad.socket}")
    add = ("--tenant", "a", "--segment", "web", *server)
    assert romana("backup", f"{tmp_path}/copy", *server).returncode == 0
    given = romana("address", "add", "vma", *add).stdout.split()[-1]
    romanad.kill()
    done = romana("restore", f"{tmp_path}/copy", "--path", f"{tmp_path}/new.db")
    assert "romana address confirm" in done.stdout
    romanad.config.write_text(
        f'[store]\npath = "{tmp_path}/new.db"\n[listen]\nsocket = "{romanad.socket}"\nport = {romanad.port}\n'
    )
    romanad.start()
    refused = romana("address", "add", "vmb", *add)
    assert (refused.returncode, "romana address confirm" in refused.stderr) == (7, True)
    assert romana("address", "add", "vma", "--address", given, *add).returncode == 0
    assert romana("address", "confirm", *server).returncode == 2
    assert "given again" in romana("address", "confirm", "--yes", *server).stdout
    assert romana("address", "add", "vmb", *add).stdout.split()[-1] not in ("", given)


def test_bad_files_are_refused_with_a_sentence_and_nothing_is_written(romanad: Romanad, tmp_path: Path) -> None:
    file, store = tmp_path / "copy", tmp_path / "new.db"
    romanad.get("/v1/tenants/a", "PUT", {})
    assert romana("backup", str(file), "--server", f"unix://{romanad.socket}").returncode == 0
    text = file.read_bytes()
    for wrong, sentence in (
        (text[:-30], "cut off"),
        (text.replace(b'"version":1', b'"version":7'), "upgrade"),
        (text.replace(b"tenant/a", b"tenant/b"), "checksum"),
        (b"something else\n", "is no backup"),
    ):
        file.write_bytes(wrong)
        done = romana("restore", str(file), "--path", str(store))
        assert done.returncode == 5
        assert sentence in done.stderr
        assert str(file) in done.stderr
        assert not store.exists()
    assert romana("restore", str(tmp_path / "nothing"), "--path", str(store)).returncode == 5
    assert romana("restore", str(file)).returncode == 2


def test_a_backup_that_fails_leaves_the_older_file(romanad: Romanad, tmp_path: Path) -> None:
    file = tmp_path / "copy"
    file.write_text("the older one")
    romanad.kill()
    assert romana("backup", str(file), "--server", f"unix://{romanad.socket}").returncode == 7
    assert file.read_text() == "the older one"
    assert sorted(path.name for path in tmp_path.glob("copy*")) == ["copy"]
    assert "cannot write" in romana("backup", f"{tmp_path}/nowhere/copy").stderr
