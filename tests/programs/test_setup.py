"""What set-up leaves on a machine. apt-get is ours here, and /usr/sbin a layer over the machine's own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
POLICY = Path("/usr/sbin/policy-rc.d")
DPKG_QUERY = "#!/bin/sh\nexit 1\n"
APT_GET = """#!/bin/sh
echo "$@" >>"$STAGE/calls"
/usr/sbin/policy-rc.d nginx start
echo "$?" >>"$STAGE/verdicts"
touch "$STAGE/installing"
sleep "${APT_SECONDS:-0}"
echo "E: no such package"
exit 100
"""
INSIDE = """
mount -t tmpfs stage "$STAGE/upper"
mkdir "$STAGE/upper/files" "$STAGE/upper/work"
mount -t overlay sbin -o "lowerdir=/usr/sbin,upperdir=$STAGE/upper/files,workdir=$STAGE/upper/work" /usr/sbin
rm -f /usr/sbin/policy-rc.d  # in the layer: this machine's own may be there, or not
if [ -n "$OWN" ]; then printf '%s' "$OWN" >/usr/sbin/policy-rc.d && chmod 755 /usr/sbin/policy-rc.d; fi
scripts/setup.sh &
echo $! >"$STAGE/pid"
wait $!
echo $? >"$STAGE/status"
if [ -e /usr/sbin/policy-rc.d ]; then cp /usr/sbin/policy-rc.d "$STAGE/left"; fi
"""


class Stage:
    """A copy of set-up in a mount namespace of its own; no package can be installed there."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        tools = directory / "tools"
        for made in (directory / "scripts", directory / "upper", tools):
            made.mkdir()
        shutil.copy(REPOSITORY / "scripts" / "setup.sh", directory / "scripts")
        for name, text in (("apt-get", APT_GET), ("dpkg-query", DPKG_QUERY)):
            (tools / name).write_text(text)
            (tools / name).chmod(0o755)
        self.environment = {**os.environ, "STAGE": str(directory), "PATH": f"{tools}:{os.environ['PATH']}", "OWN": ""}

    def run(self, kill: signal.Signals | None = None, **environment: str) -> str:
        """Set-up's standard error; `kill` ends it in the middle of apt-get."""
        heard = ["env", "--default-signal=HUP,INT,TERM"]  # a shell cannot trap what its parent had it ignore
        command = [*heard, "unshare", "--mount", "--propagation", "private", "bash", "-uc", INSIDE]
        with (self.directory / "stderr").open("w") as stderr:
            running = subprocess.Popen(
                command, cwd=self.directory, env=self.environment | environment, stdout=stderr, stderr=stderr
            )
        if kill is not None:
            until = time.monotonic() + 15
            while not (self.directory / "installing").exists():
                assert time.monotonic() < until, "apt-get was not started"
                time.sleep(0.01)
            os.kill(int(self.text("pid")), kill)
        running.wait(timeout=30)
        return self.text("stderr")

    def text(self, name: str) -> str:
        return (self.directory / name).read_text()

    @property
    def left(self) -> bool:
        return (self.directory / "left").exists()


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    before = POLICY.read_bytes() if POLICY.exists() else None
    yield Stage(tmp_path)
    assert (POLICY.read_bytes() if POLICY.exists() else None) == before


def test_services_do_not_start_and_the_policy_is_gone_after_a_failure(stage: Stage) -> None:
    told = stage.run()
    assert stage.text("status") == "1\n"
    assert set(stage.text("verdicts").split()) == {"101"}
    assert "setup: apt-get update failed" in told
    assert not stage.left


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_the_policy_is_gone_after_a_signal(stage: Stage, number: signal.Signals) -> None:
    stage.run(kill=number, APT_SECONDS="1")
    assert stage.text("status") == f"{128 + number}\n"
    assert not stage.left


def test_a_policy_of_the_machine_stays(stage: Stage) -> None:
    own = "#!/bin/sh\nexit 104\n"
    stage.run(OWN=own)
    assert stage.text("left") == own
    assert set(stage.text("verdicts").split()) == {"104"}


def test_a_policy_that_a_killed_set_up_left_is_taken_away_by_the_next(stage: Stage) -> None:
    stage.run(kill=signal.SIGKILL, APT_SECONDS="1")
    abandoned = stage.text("left")
    (stage.directory / "left").unlink()
    stage.run(OWN=abandoned)
    assert not stage.left
