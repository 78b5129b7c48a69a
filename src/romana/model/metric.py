"""Numbers for monitoring."""

from __future__ import annotations

import msgspec


class Sample(msgspec.Struct, frozen=True):
    """One number, and what tells it from the others of its metric."""

    value: float
    labels: dict[str, str] = {}


class Metric(msgspec.Struct, frozen=True):
    """A number or several of one meaning. The name is without `romana_`, and ends in its unit where it has one; a
    counter's ends in `_total`.
    """

    name: str
    meaning: str
    samples: tuple[Sample, ...]

    @property
    def counts(self) -> bool:
        """Whether it only grows."""
        return self.name.endswith("_total")


def single(name: str, meaning: str, value: float) -> Metric:
    """A metric of one number."""
    return Metric(name, meaning, (Sample(float(value)),))


def by(label: str, name: str, meaning: str, values: dict[str, int]) -> Metric:
    """A metric with a number for each value of one label."""
    return Metric(name, meaning, tuple(Sample(float(value), {label: key}) for key, value in values.items()))
