"""What must stay the same, and what must be told apart, when a world changes."""

from __future__ import annotations

import msgspec
import pytest

from romana.codec.text import parse_address
from romana.core.policy.classes import classify
from romana.core.policy.compile import WORDS_LIMIT, comment, compile_program
from romana.core.policy.places import find_places
from romana.core.policy.world import PolicyWorld
from romana.model.address import Address, Family, Prefix
from romana.model.errors import NotFound
from romana.model.ipam import Block
from romana.model.policy import Action, Direction, Operator, Policy, PolicyTier, Requirement, Rule, Selector
from romana.model.program import ACCEPT, DROP, Program
from romana.model.tenancy import Identity, Isolation, Tenant
from tests.unit.core.policy.evaluate import verdict
from tests.worlds.policy_states import A_DB, A_WEB, A_WEB_LIVE, A_WEB_TEST, B_WEB, THREE, endpoint, policy, world

EVERYBODY = (A_WEB, A_DB, B_WEB, A_WEB_LIVE, A_WEB_TEST)


def compiled(**parts: object) -> Program:
    return compile_program(msgspec.structs.replace(world(*THREE, identities=EVERYBODY), **parts))


def by_id(*policies: Policy) -> dict[str, Policy]:
    return {one.id: one for one in policies}


def test_tenants_without_isolation_and_policy_are_one_class() -> None:
    tenants = {name: Tenant(name=name, isolation=Isolation.NONE) for name in ("a", "b")}
    program = compiled(tenants=tenants)
    assert len(set(program.classes.values())) == 1
    assert len(program.rows) == 2


def test_only_labels_that_a_policy_looks_at_make_classes() -> None:
    looks = policy("p", Selector(tenants=("a",), labels=(Requirement("env", Operator.EXISTS),)), ingress=())
    program = compiled(policies=by_id(looks))
    assert program.classes[A_WEB_LIVE.id] == program.classes[A_WEB_TEST.id] != program.classes[A_WEB.id]


def test_a_new_policy_leaves_other_classes_their_ids() -> None:
    before = compiled()
    selects = policy("p", Selector(tenants=("a",)), ingress=(Rule(peers=(Selector(),)),))
    after = compiled(policies=by_id(selects))
    assert after.classes[B_WEB.id] == before.classes[B_WEB.id]
    assert after.classes[A_WEB.id] != before.classes[A_WEB.id]


def test_rules_do_not_change_the_class_of_those_they_govern() -> None:
    subject = Selector(tenants=("a",))
    open_, closed = (compiled(policies=by_id(policy("p", subject, ingress=rules))) for rules in ((Rule(),), ()))
    assert open_.classes == closed.classes
    assert open_.rows != closed.rows


def test_classes_about_which_the_same_decides_share_a_row() -> None:
    selects = policy("p", Selector(tenants=("a",)), ingress=())
    program = compiled(policies=by_id(selects))
    of_a, of_b = (program.row_ids[program.classes[one.id]] for one in (A_WEB, B_WEB))
    assert of_a.egress == of_b.egress  # no policy for sending, and no isolation default
    assert of_a.ingress != of_b.ingress
    assert set(program.rows) == {of_a.ingress, of_a.egress, of_b.ingress}


def test_a_row_keeps_its_id_when_a_policy_says_something_else() -> None:
    subject = Selector(tenants=("a",))
    open_, closed = (compiled(policies=by_id(policy("p", subject, ingress=rules))) for rules in ((Rule(),), ()))
    assert open_.row_ids == closed.row_ids
    both = compiled(policies=by_id(policy("p", subject, ingress=(), egress=())))
    assert both.row_ids[both.classes[A_WEB.id]].ingress == closed.row_ids[closed.classes[A_WEB.id]].ingress
    assert both.row_ids[both.classes[A_WEB.id]].egress != closed.row_ids[closed.classes[A_WEB.id]].egress


def test_where_a_class_could_live_that_nobody_has_yet_it_is_denied_already() -> None:
    """A host that has not heard of the first endpoint of a class does not let it in meanwhile."""
    sick = Identity(owner=A_WEB.owner, labels={"state": "sick"})
    peers = (Selector(labels=(Requirement("state", Operator.EXISTS),)),)
    walls = msgspec.structs.replace(
        policy("walls", Selector(), ingress=(Rule(peers=peers, action=Action.DENY),)), tier=PolicyTier.ADMIN
    )
    open_ = {name: Tenant(name=name, isolation=Isolation.NONE) for name in ("a", "b")}
    before = compiled(policies=by_id(walls), tenants=open_)
    lodger = endpoint("e1", sick, "10.0.7.1", "10.0.7.0/29")
    after = compiled(policies=by_id(walls), tenants=open_, endpoints={"e1": lodger})
    for program in (before, after):
        own = program.classes[B_WEB.id]
        assert verdict(program, Direction.INGRESS, own, lodger.addresses[0])[1] == DROP
        assert verdict(program, Direction.INGRESS, own, parse_address("10.0.0.1"))[1] == ACCEPT
        assert verdict(program, Direction.INGRESS, own, parse_address("192.0.2.1"))[1] == ACCEPT


def test_a_mixed_block_means_nothing_as_a_whole() -> None:
    cidr = Prefix(Family.V4, 0x0A000000, 29)
    block = Block(
        cidr=cidr, span=cidr, network="n", host="h", allocator="h", identities=(A_WEB.id, B_WEB.id), mixed=True
    )
    alone = msgspec.structs.replace(block, identities=(A_WEB.id,))
    lodgers = {"e1": endpoint("e1", A_WEB, "10.0.0.1", str(cidr)), "e2": endpoint("e2", B_WEB, "10.0.0.2", str(cidr))}
    made = msgspec.structs.replace(world(*THREE, identities=EVERYBODY), blocks={cidr: block}, endpoints=lodgers)
    classes = classify(made)
    places = find_places(made, classes)
    assert [places.class_of(cidr.address(offset)) == classes.of[A_WEB.id] for offset in range(3)] == [
        False,
        True,
        False,
    ]
    assert places.class_of(cidr.address(2)) == classes.of[B_WEB.id]
    assert places.class_of(cidr.address(0)) not in classes.by_id
    assert cidr not in places.at
    one = msgspec.structs.replace(made, blocks={cidr: alone}, endpoints={"e1": lodgers["e1"]})
    assert list(find_places(one, classes).at) == [cidr.address(1)]


def test_an_endpoint_in_a_known_block_changes_nothing() -> None:
    lodger = endpoint("e1", A_WEB, "10.0.0.1", "10.0.0.0/29")
    assert compiled(endpoints={"e1": lodger}) == compiled()


def test_a_tenant_that_is_not_listed_is_isolated() -> None:
    assert compiled() == compiled(tenants={name: Tenant(name=name) for name in ("a", "b")})


def test_an_empty_world_compiles() -> None:
    assert compile_program(PolicyWorld()) == Program(classes={}, row_ids={}, rows={}, profiles={})


def test_an_identity_known_only_by_its_endpoint_has_rows() -> None:
    alone = Identity(owner=B_WEB.owner, labels={"only": "here"})
    lodger = endpoint("e1", alone, "10.0.7.1", "10.0.7.0/29")
    assert alone.id in compiled(endpoints={"e1": lodger}).classes


def test_a_class_without_rows_has_no_verdict() -> None:
    with pytest.raises(NotFound):
        verdict(compiled(), Direction.INGRESS, "feedfeedfeed", Address(Family.V4, 1))


@pytest.mark.parametrize("words", ['say "hello" \\', "tenänt\nwith\ttabs", "x" * 500])
def test_comments_are_what_the_kernel_takes(words: str) -> None:
    text = comment(words)
    assert len(text) <= WORDS_LIMIT
    assert all(" " <= char <= "~" and char not in '"\\' for char in text)
