"""One site for all tests that leave it as they found it, and the seed of their chance."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.site import Site

SEED = "ROMANA_FAULTS_SEED"
"""Environment variable: another seed than 1."""


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> str:
    """What decides the chance of one test; shown when it fails, with the command that repeats it."""
    number = os.environ.get(SEED, "1")
    print(f"repeat: {SEED}={number} .venv/bin/pytest -q '{request.node.nodeid}'")
    return f"{number}/{request.node.name}"


class Sites:
    """The shared site, made anew when a test broke it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._site: Site | None = None
        self._made = 0

    def get(self) -> Site:
        """A site on which everything runs and no container is."""
        if self._site is not None and not self._site.clean:
            self.close()
        if self._site is None:
            self._made += 1
            directory = self._directory / str(self._made)
            directory.mkdir()
            self._site = Site(directory, "f")
            self._site.open(small=("p1", "h1", "h2"))
        return self._site

    def close(self) -> None:
        """Take it away."""
        if self._site is not None:
            self._site.close()
            self._site = None


@pytest.fixture(scope="session")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sites]:
    """All sites of this session, one at a time."""
    all_ = Sites(tmp_path_factory.mktemp("site"))
    try:
        yield all_
    finally:
        all_.close()


@pytest.fixture
def site(sites: Sites) -> Site:
    """Six hosts and a romanad on SQLite; the state of p1, h1 and h2 is on 8 MiB each."""
    return sites.get()
