"""The one table from romana's errors to CNI error codes, and the error document for the runtime.

Source: CNI specification 1.1.0, "Error codes": 1 to 99 are the specification's, 100 and more ours.
"""

from __future__ import annotations

from romana.model.errors import (
    AlreadyExists,
    Conflict,
    Exhausted,
    Invalid,
    NotFound,
    RomanaError,
    Unavailable,
)

INCOMPATIBLE_VERSION = 1
UNSUPPORTED_FIELD = 2
UNKNOWN_CONTAINER = 3
BAD_ENVIRONMENT = 4
UNDECODABLE = 6
BAD_CONFIG = 7
TRY_AGAIN_LATER = 11
NOT_AVAILABLE = 50
"""STATUS: an ADD would fail now."""
INTERNAL = 100
NOT_FOUND = 101
ALREADY_EXISTS = 102
EXHAUSTED = 103
DIFFERS = 104
"""CHECK: the kernel is not as the plan says."""

CODES: dict[type[RomanaError], int] = {
    Unavailable: TRY_AGAIN_LATER,
    Conflict: TRY_AGAIN_LATER,
    Invalid: BAD_CONFIG,
    NotFound: NOT_FOUND,
    AlreadyExists: ALREADY_EXISTS,
    Exhausted: EXHAUSTED,
    RomanaError: INTERNAL,
}


class CniFailure(Exception):  # noqa: N818 - it is the answer, not a defect
    """An answer other than success. `version` is the spec version of the request where that is known."""

    def __init__(self, code: int, sentence: str, details: str = "", version: str = "") -> None:
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence
        self.details = details
        self.version = version


def failure_from_error(error: RomanaError) -> CniFailure:
    """The failure that an error of ours is to a runtime; `details` carries the reason word and every fault."""
    code = next(CODES[kind] for kind in type(error).__mro__ if kind in CODES)
    lines = [f"reason: {error.reason}"]
    if isinstance(error, Invalid) and len(error.faults) > 1:
        lines += map(str, error.faults)
    return CniFailure(code, str(error), "\n".join(lines))


def error_document(failure: CniFailure, version: str) -> dict[str, object]:
    """The JSON object that the plugin prints, in the spec version given."""
    answer: dict[str, object] = {"cniVersion": version, "code": failure.code, "msg": failure.sentence}
    if failure.details:
        answer["details"] = failure.details
    return answer
