"""Policy documents of all kinds; finds out which kind one is, and leaves it to the module that knows it.

Owns the lists that policies come in. Invariant: all policies of a document, or Invalid with the faults of all.
"""

from __future__ import annotations

from romana.codec import policy_cluster, policy_kubernetes, policy_native, policy_v2
from romana.codec.parts import within
from romana.model.errors import MOST_FAULTS, Fault, Invalid
from romana.model.policy import Policy

_LISTS = ("List", "NetworkPolicyList", "ClusterNetworkPolicyList")


def read_policies(document: object) -> list[Policy]:
    """The policies of a loaded document: one, a list of them, or a Kubernetes List. Order is the document's."""
    found: dict[str, Policy] = {}
    wrong: list[Fault] = []
    try:
        documents = _documents(document)
    except RecursionError:
        raise Invalid(Fault("", "is nested too deeply")) from None
    for path, one in documents:
        try:
            policy = _read(one)
        except Invalid as error:
            wrong.extend(within(path, error.faults))
        else:
            if policy.id in found:
                wrong.append(Fault(path, f"is the second policy with the id {policy.id} in this document"))
            found[policy.id] = policy
        if len(wrong) > MOST_FAULTS:
            wrong[MOST_FAULTS:] = [Fault("", "and perhaps more faults: only the first ones are told")]
            break
    if wrong:
        raise Invalid(*wrong)
    return list(found.values())


def _documents(document: object) -> list[tuple[str, object]]:
    """The single documents, each with its path."""
    if isinstance(document, list):
        return [(f"[{index}]{path}", one) for index, part in enumerate(document) for path, one in _documents(part)]
    if isinstance(document, dict) and document.get("kind") in _LISTS and isinstance(document.get("items"), list):
        return [(f"items[{index}]", one) for index, one in enumerate(document["items"])]
    return [("", document)]


def _read(document: object) -> Policy:
    if not isinstance(document, dict):
        raise Invalid(Fault("", "expected a mapping with a policy in it"))
    if (document.get("apiVersion"), document.get("kind")) == (policy_cluster.API_VERSION, "ClusterNetworkPolicy"):
        return policy_cluster.read(document)
    if "apiVersion" in document:
        return policy_kubernetes.read(document)
    if "version" in document or document.get("kind") == "policy":
        return policy_native.read(document)
    if "applied_to" in document and "direction" in document:
        return policy_v2.read(document)
    raise Invalid(
        Fault("", "is no policy: a native one has `version: 1` and `kind: policy`, a Kubernetes one has `apiVersion`")
    )
