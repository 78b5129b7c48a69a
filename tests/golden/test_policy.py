"""Policy documents beside what they become: the neutral policy, and the rows of a small world.

`pytest tests/golden --rewrite-golden` writes what is computed over the files; read the difference before committing it.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from romana.codec.document import load_all
from romana.codec.json import decode, encode, to_text
from romana.codec.policy import read_policies
from romana.core.policy.compile import compile_program
from romana.core.policy.profile import profile_words
from romana.core.policy.world import PolicyWorld
from romana.model.policy import Direction, Policy
from romana.model.tenancy import Identity, Isolation, Tenant
from tests.worlds.policy_states import block, identity, world

DIRECTORY = Path(__file__).parent / "policy"
DOCUMENTS = sorted(DIRECTORY.glob("*.yaml"))

LODGERS: dict[str, tuple[Identity, str, str]] = {
    "shop/web": (identity("shop/web", app="web"), "10.0.0.0/29", "fd00::/122"),
    "shop/api": (identity("shop/api", app="api"), "10.0.0.8/29", "fd00::40/122"),
    "shop/db": (identity("shop/db", app="db"), "10.0.0.16/29", "fd00::80/122"),
    "bank/web": (identity("bank/web", app="web"), "10.0.1.0/29", "fd00::c0/122"),
}


def small_world(policies: list[Policy]) -> PolicyWorld:
    blocks = [block(cidr, who) for who, *cidrs in LODGERS.values() for cidr in cidrs]
    made = world(*blocks, policies=tuple(policies), identities=tuple(who for who, *_ in LODGERS.values()))
    tenants = {
        "shop": Tenant(name="shop", isolation=Isolation.NONE, labels={"team": "blue"}),
        "bank": Tenant(name="bank", isolation=Isolation.TENANT, labels={"team": "red"}),
    }
    return msgspec.structs.replace(made, tenants=tenants)


def result(path: Path) -> str:
    """The neutral policies and the rows they govern, as JSON that people can read."""
    policies = read_policies(load_all(path.read_bytes()))
    program = compile_program(small_world(policies))
    rows = {}
    for owner, (who, *_) in LODGERS.items():
        for direction in Direction:
            row = program.rows[program.row_ids[program.classes[who.id]].of(direction)]
            if row.policies:
                rows[f"{direction} of {owner}"] = {
                    "words": row.words,
                    "entries": {
                        str(prefix): profile_words(program.profiles[id_]) for prefix, id_ in row.entries.items()
                    },
                }
    neutral = [msgspec.structs.replace(policy, document="") for policy in policies]
    text = msgspec.json.encode({"policies": neutral, "rows": rows}, enc_hook=to_text)
    return msgspec.json.format(text, indent=2).decode() + "\n"


@pytest.mark.parametrize("path", DOCUMENTS, ids=[path.stem for path in DOCUMENTS])
def test_policy_document(path: Path, rewrite_golden: bool) -> None:
    golden = path.with_suffix(".json")
    if rewrite_golden:
        golden.write_text(result(path))
    assert result(path) == golden.read_text()


@pytest.mark.parametrize("path", DOCUMENTS, ids=[path.stem for path in DOCUMENTS])
def test_policies_survive_being_stored(path: Path) -> None:
    for policy in read_policies(load_all(path.read_bytes())):
        assert decode(encode(policy), Policy) == policy


def test_there_are_documents_and_no_stray_results() -> None:
    assert len(DOCUMENTS) >= 6
    assert sorted(DIRECTORY.glob("*.json")) == [path.with_suffix(".json") for path in DOCUMENTS]


def test_kubernetes_and_native_documents_that_say_the_same_compile_to_the_same_rows() -> None:
    def entries(name: str) -> object:
        program = compile_program(small_world(read_policies(load_all((DIRECTORY / f"{name}.yaml").read_bytes()))))
        id_ = program.row_ids[program.classes[LODGERS["shop/db"][0].id]].ingress
        return {prefix: program.profiles[one] for prefix, one in program.rows[id_].entries.items()}

    assert entries("kubernetes-db-from-api") == entries("native-db-from-api")
