"""The part of the table that is about proofs and about changes of policy that are not in force yet."""

from __future__ import annotations

from typing import Any

import msgspec

from romana.apps.server.http import Call, Endpoint
from romana.codec.document import convert
from romana.core.policy.impact import Impact
from romana.model.statement import Finding
from romana.services.control.core import Core
from romana.services.control.proofs import ProofVerbs


class StatementsDocument(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Statements as people write them, one a line."""

    statements: str


class ImpactDocument(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Policies that would be put in force, and the ids of those that would be taken out of it."""

    policies: list[Any] = []
    remove: tuple[str, ...] = ()


def proof_endpoints(core: Core) -> list[Endpoint]:
    """Their lines."""
    verbs = ProofVerbs(core)

    async def verify(call: Call) -> list[Finding]:
        return await verbs.verify(convert(call.document(), StatementsDocument).statements)

    async def impact(call: Call) -> Impact:
        asked = convert(call.document(), ImpactDocument)
        return await verbs.impact(asked.policies, asked.remove)

    return [
        Endpoint(
            method="POST",
            path="/v1/verify",
            summary="Prove statements about who reaches whom",
            handler=verify,
            takes=StatementsDocument,
            gives=list[Finding],
            rel="verify",
        ),
        Endpoint(
            method="POST",
            path="/v1/policy-impact",
            summary="What a change of policies would open and close",
            handler=impact,
            takes=ImpactDocument,
            gives=Impact,
            rel="policy-impact",
        ),
    ]
