"""What every agent's memory promises: the fake, and SQLite over a close and a fresh open."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from romana.adapters.agent_state import SqliteAgentState
from romana.codec.text import parse_address, parse_prefix
from romana.model.endpoint import Endpoint
from romana.model.errors import Unavailable
from romana.model.ipam import Allocation
from romana.model.tenancy import Identity, Owner
from romana.model.view import BlockReturned, BlockTaken
from romana.ports import AgentMemory, AgentState
from tests.fakes.agent_state import MemoryAgentState

WEB = Identity(owner=Owner("red", "web"), labels={"app": "shop"})


def pod(container: str, address: str, sequence: int) -> Endpoint:
    allocation = Allocation(
        address=parse_address(address),
        block=parse_prefix("10.0.0.0/29"),
        endpoint=f"{container}/eth0",
        sequence=sequence,
    )
    return Endpoint(
        id=f"{container}/eth0",
        name=container,
        host="h1",
        identity=WEB,
        allocations=(allocation,),
        link=f"rom{container}",
    )


ONE, TWO = pod("one", "10.0.0.1", 1), pod("two", "10.0.0.2", 7)
TAKEN = BlockTaken(cidr=parse_prefix("10.0.0.8/29"), owner=WEB.owner, identity=WEB.id, sequence=3)
BACK = BlockReturned(cidr=TAKEN.cidr, sequence=3)


class Kept:
    """A memory, and what another process would find of it."""

    def __init__(self, state: AgentState, again: Callable[[], AgentState]) -> None:
        self.state = state
        self._again = again

    def reopened(self) -> AgentState:
        self.state.close()
        self.state = self._again()
        return self.state

    def found(self) -> AgentMemory:
        return self.reopened().load()


@pytest.fixture(params=["fake", "sqlite"])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Kept]:
    if request.param == "fake":
        memory = MemoryAgentState()
        yield Kept(memory, lambda: memory)
        return

    def again() -> AgentState:
        return SqliteAgentState(tmp_path / "agent", boot_id="boot-1")

    keeper = Kept(again(), again)
    yield keeper
    keeper.state.close()


def test_new_memory_is_empty_and_has_an_instance_of_its_own(kept: Kept) -> None:
    memory = kept.state.load()
    assert (memory.endpoints, memory.resting, memory.unlinking, memory.pending) == ({}, {}, {}, ())
    assert (memory.view, memory.sequence, memory.epoch) == (None, 0, 0)
    assert kept.state.last_number() == 0
    assert len(kept.state.instance()) == 32
    assert kept.state.instance() == kept.reopened().instance()


def test_started_endpoint_is_remembered_and_to_be_published(kept: Kept) -> None:
    kept.state.start(ONE)
    kept.state.start(TWO)
    memory = kept.found()
    assert memory.endpoints == {"one/eth0": ONE, "two/eth0": TWO}
    assert [entry.started for entry in memory.pending] == [ONE, TWO]
    assert memory.sequence == 7


def test_released_endpoint_rests_unlinks_and_is_to_be_published(kept: Kept) -> None:
    kept.state.start(ONE)
    kept.state.release(ONE, 100)
    memory = kept.found()
    assert memory.endpoints == {}
    assert memory.resting == {parse_address("10.0.0.1"): (100, "boot-1", WEB.id)}
    assert memory.unlinking == {"one/eth0": ONE}
    assert [(entry.started, entry.released) for entry in memory.pending] == [(ONE, None), (None, ONE)]
    assert memory.sequence == 1


def test_release_of_what_was_never_started_rests_it_and_keeps_its_sequence(kept: Kept) -> None:
    kept.state.release(TWO, 100)
    memory = kept.found()
    assert (memory.endpoints, memory.sequence) == ({}, 7)
    assert memory.resting == {parse_address("10.0.0.2"): (100, "boot-1", WEB.id)}
    assert [entry.released for entry in memory.pending] == [TWO]


def test_release_that_is_only_said_changes_nothing_else(kept: Kept) -> None:
    kept.state.start(TWO)
    before = kept.found()
    old = pod("two", "10.0.0.2", 5)
    kept.state.say_released(old)
    memory = kept.found()
    assert (memory.endpoints, memory.resting, memory.unlinking) == (before.endpoints, {}, {})
    assert [entry.released for entry in memory.pending] == [None, old]


def test_address_that_starts_again_no_longer_rests(kept: Kept) -> None:
    kept.state.start(ONE)
    kept.state.release(ONE, 100)
    kept.state.start(pod("next", "10.0.0.1", 8))
    memory = kept.found()
    assert memory.resting == {}
    assert list(memory.endpoints) == ["next/eth0"]
    assert list(memory.unlinking) == ["one/eth0"]


def test_finished_rests_and_links_are_forgotten(kept: Kept) -> None:
    kept.state.start(ONE)
    kept.state.release(ONE, 100)
    kept.state.unlinked("one/eth0")
    kept.state.unlinked("never-there/eth0")
    kept.state.rested({parse_address("10.0.0.1"): 100, parse_address("10.0.0.77"): 100})
    memory = kept.found()
    assert (memory.resting, memory.unlinking) == ({}, {})


def test_rest_that_began_since_another_was_over_goes_on(kept: Kept) -> None:
    address = parse_address("10.0.0.1")
    kept.state.start(ONE)
    kept.state.release(ONE, 100)
    kept.state.start(ONE)
    kept.state.release(ONE, 300)
    kept.state.rested({address: 100})
    assert kept.found().resting == {address: (300, "boot-1", WEB.id)}
    kept.state.rested({address: 301})
    assert kept.found().resting == {}


def test_rest_of_an_earlier_boot_is_over_with_the_one_that_it_began_again(tmp_path: Path) -> None:
    state = SqliteAgentState(tmp_path, boot_id="boot-1")
    state.release(ONE, 5000)
    state.close()
    state = SqliteAgentState(tmp_path, boot_id="boot-2")
    state.rested({parse_address("10.0.0.1"): 10})
    assert state.load().resting == {}
    state.close()


def test_published_entries_go_and_numbers_never_come_back(kept: Kept) -> None:
    kept.state.take(TAKEN)
    kept.state.start(ONE)
    pending = kept.state.load().pending
    assert pending[0].taken == TAKEN
    assert (kept.state.pending(1), kept.state.pending(9)) == (pending[:1], pending)
    kept.state.published(pending[0].number)
    assert kept.found().pending == pending[1:]
    kept.state.published(pending[1].number)
    assert kept.found().pending == ()
    assert kept.state.last_number() == pending[1].number
    kept.state.start(TWO)
    assert kept.found().pending[0].number > pending[1].number


def test_block_that_is_given_back_is_closed_and_to_be_published(kept: Kept) -> None:
    kept.state.take(TAKEN)
    kept.state.give_back(BACK)
    other = parse_prefix("10.0.0.16/29")
    kept.state.close_blocks({other: 2, BACK.cidr: 4})
    memory = kept.found()
    assert [entry.returned for entry in memory.pending] == [None, BACK]
    assert memory.closed == {BACK.cidr: 4, other: 2}
    kept.state.published(memory.pending[-1].number)
    assert memory.taken == (TAKEN,)
    kept.state.forget_blocks(closed={other: 2, BACK.cidr: 3, parse_prefix("10.9.0.0/29"): 1}, taken={TAKEN.cidr: 2})
    memory = kept.found()
    assert (memory.closed, memory.taken) == ({BACK.cidr: 4}, (TAKEN,))
    kept.state.forget_blocks(closed={}, taken={TAKEN.cidr: 3})
    memory = kept.found()
    assert (memory.closed, memory.taken) == ({BACK.cidr: 4}, ())


def test_epoch_is_the_one_joined_last(kept: Kept) -> None:
    kept.state.joined(2)
    kept.state.joined(3)
    assert kept.found().epoch == 3


def test_view_is_the_last_one(kept: Kept) -> None:
    kept.state.save_view(b'{"revision":1}')
    kept.state.save_view(b'{"revision":2}')
    assert kept.found().view == b'{"revision":2}'


def test_second_agent_on_the_same_memory_is_refused(tmp_path: Path) -> None:
    state = SqliteAgentState(tmp_path, boot_id="boot-1")
    with pytest.raises(Unavailable, match="another agent"):
        SqliteAgentState(tmp_path, boot_id="boot-1")
    state.close()
    SqliteAgentState(tmp_path, boot_id="boot-1").close()


def test_memory_of_a_newer_program_is_refused(tmp_path: Path) -> None:
    state = SqliteAgentState(tmp_path, boot_id="boot-1")
    state._connection.execute("PRAGMA user_version = 99")
    state.close()
    with pytest.raises(Unavailable, match="newer"):
        SqliteAgentState(tmp_path, boot_id="boot-1")


def test_memory_of_the_first_schema_is_taken_over(tmp_path: Path) -> None:
    state = SqliteAgentState(tmp_path, boot_id="boot-1")
    instance = state.instance()
    state.start(ONE)
    state.start(TWO)
    state.release(TWO, 100)
    state.take(TAKEN)
    old = "CREATE TABLE r (address TEXT PRIMARY KEY, since INTEGER NOT NULL, boot TEXT NOT NULL) WITHOUT ROWID"
    for statement in (
        "DROP TABLE closed",
        "DROP TABLE taken",
        old,
        "INSERT INTO r SELECT address, since, boot FROM resting",
        "DROP TABLE resting",
        "ALTER TABLE r RENAME TO resting",
        "PRAGMA user_version = 1",
    ):
        state._connection.execute(statement)
    state.close()
    state = SqliteAgentState(tmp_path, boot_id="boot-2")
    memory = state.load()
    assert state.instance() == instance
    assert memory.endpoints == {"one/eth0": ONE}
    assert memory.resting == {parse_address("10.0.0.2"): (100, "boot-1", "")}
    assert (memory.closed, memory.taken) == ({}, (TAKEN,))
    state.release(ONE, 200)
    state.give_back(BACK)
    state.close()
    assert SqliteAgentState(tmp_path, boot_id="boot-2").load().resting[parse_address("10.0.0.1")][2] == WEB.id


def test_what_cannot_be_written_is_unavailable_and_nothing_half(tmp_path: Path) -> None:
    state = SqliteAgentState(tmp_path, boot_id="boot-1")
    state._connection.execute("DROP TABLE pending")
    with pytest.raises(Unavailable, match="no such table"):
        state.start(ONE)
    assert state._connection.execute("SELECT count(*) FROM endpoints").fetchone() == (0,)
    state.close()


def test_disowned_memory_has_another_id_and_agrees_with_nobody(kept: Kept) -> None:
    kept.state.start(ONE)
    kept.state.joined(3)
    kept.state.renewed(7, "boot-1", 60)
    before = kept.state.instance()
    kept.state.disown()
    found = kept.found()
    assert kept.state.instance() != before
    assert (found.epoch, found.renewed, found.endpoints) == (0, None, {ONE.id: ONE})


def test_endpoint_that_is_forgotten_rests_and_is_to_be_published_and_its_link_is_left_alone(kept: Kept) -> None:
    kept.state.start(ONE)
    kept.state.forget(ONE, 50)
    found = kept.found()
    assert (found.endpoints, found.unlinking) == ({}, {})
    assert found.resting == {ONE.addresses[0]: (50, "boot-1", WEB.id)}
    assert [entry.released for entry in found.pending] == [None, ONE]


def test_an_older_copy_of_a_memory_disowns_itself_and_the_memory_itself_does_not(tmp_path: Path) -> None:
    place, mark = tmp_path / "agent", tmp_path / "run" / "agent.mark"

    def opened() -> SqliteAgentState:
        return SqliteAgentState(place, boot_id="boot-1", mark=mark)

    state = opened()
    assert mark.read_text() == "0" * 20  # nothing has to be found room for later
    state.start(ONE)
    state.joined(1)
    state.close()
    shutil.copytree(place, tmp_path / "copy")
    state = opened()
    instance = state.instance()
    state.published(1)
    state.start(TWO)
    state.release(TWO, 9)
    state.close()
    state = opened()
    assert (state.instance(), state.load().epoch) == (instance, 1)
    state.close()
    shutil.rmtree(place)
    (tmp_path / "copy").rename(place)
    state = opened()
    assert state.instance() != instance
    assert (state.load().epoch, state.load().endpoints) == (0, {ONE.id: ONE})
    instance = state.instance()
    state.close()
    state = opened()
    assert state.instance() == instance
    state.close()


@pytest.mark.parametrize("text", ["", "12", "x" * 20])
def test_a_mark_that_cannot_be_read_is_later_than_any_memory(tmp_path: Path, text: str) -> None:
    (tmp_path / "mark").write_text(text)
    state = SqliteAgentState(tmp_path / "agent", boot_id="boot-1")
    state.joined(1)
    state.close()
    state = SqliteAgentState(tmp_path / "agent", boot_id="boot-1", mark=tmp_path / "mark")
    assert state.load().epoch == (0 if text else 1)
    state.close()


def test_a_mark_that_cannot_be_written_keeps_an_agent_from_starting(tmp_path: Path) -> None:
    (tmp_path / "mark").mkdir()
    with pytest.raises(Unavailable, match=r"agent mark .*/mark: Is a directory"):
        SqliteAgentState(tmp_path / "agent", boot_id="boot-1", mark=tmp_path / "mark")
    SqliteAgentState(tmp_path / "agent", boot_id="boot-1").close()
