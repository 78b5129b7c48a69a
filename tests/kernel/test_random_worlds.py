"""Random worlds in the kernel, with real connections: it decides as the program, and the program as the documents."""

from __future__ import annotations

import pytest

from tests.proof.kernel import try_world

SEEDS = (*range(7), *range(8, 11))
"""Of worlds in which some connections get through, and some do not."""


@pytest.mark.parametrize("seed", SEEDS)
def test_the_kernel_decides_as_the_program(seed: int) -> None:
    tried = try_world(seed)
    assert not tried.wrong, "\n".join(tried.wrong[:3])
    assert 0 < tried.reached < tried.connections
