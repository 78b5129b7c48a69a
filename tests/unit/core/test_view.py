"""Views: a message always turns the old view into the new one."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from romana.codec.json import decode, encode
from romana.codec.text import parse_prefix
from romana.core.view import apply_change, diff_view, snapshot
from romana.model.policy import Direction
from romana.model.program import ACCEPT, DROP, Profile
from romana.model.tenancy import Identity, Owner
from romana.model.topology import Network
from romana.model.view import IdentityRows, RowHead, View, ViewChange

PREFIXES = [
    parse_prefix(text) for text in ("0.0.0.0/0", "::/0", "10.0.0.0/29", "10.0.0.8/29", "10.0.0.1/32", "fd00::/122")
]
PROFILES = {profile.id: profile for profile in (ACCEPT, DROP, Profile(protocols=((6, ((80, 80),)),)))}


@st.composite
def views(draw: st.DrawFn) -> View:
    rows = draw(st.lists(st.sampled_from(["in_a", "out_a", "in_b"]), unique=True))
    names = draw(st.lists(st.sampled_from(["web", "db"]), unique=True))
    entries = st.dictionaries(st.sampled_from(PREFIXES), st.sampled_from(sorted(PROFILES)))
    return View(
        incarnation="x",
        revision=draw(st.integers(1, 9)),
        networks={
            name: Network(name=name, cidr=PREFIXES[0], block_length=29, span_length=24)
            for name in draw(st.lists(st.sampled_from(["n1", "n2"]), unique=True))
        },
        identities={
            name: IdentityRows(
                identity=Identity(owner=Owner("a", name)),
                class_id=draw(st.sampled_from("ab")),
                ingress=draw(st.sampled_from(["in_a", "in_b"])),
                egress="out_a",
            )
            for name in names
        },
        rows={row: RowHead(direction=Direction.INGRESS, words=draw(st.sampled_from(["", "w"]))) for row in rows},
        entries={row: draw(entries) for row in rows},
        profiles={name: PROFILES[name] for name in draw(st.lists(st.sampled_from(sorted(PROFILES)), unique=True))},
    )


@settings(max_examples=200)
@given(views(), views())
def test_a_change_makes_the_old_view_the_new_one(old: View, new: View) -> None:
    change = diff_view(old, new)
    if change is None:
        assert {**_sections(old)} == {**_sections(new)}
        return
    over_the_wire = decode(encode(change), ViewChange)
    assert apply_change(old, over_the_wire) == new


@given(views())
def test_a_snapshot_replaces_everything(view: View) -> None:
    assert apply_change(View(revision=99), decode(encode(snapshot(view)), ViewChange)) == view


@given(views())
def test_nothing_changed_is_no_message(view: View) -> None:
    assert diff_view(view, view) is None


def _sections(view: View) -> dict[str, object]:
    fields = ("networks", "spans", "blocks", "identities", "rows", "entries", "profiles")
    return {field: getattr(view, field) for field in fields}
