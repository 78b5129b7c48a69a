"""Metrics in Prometheus' text form, with those of the process: memory, processor time, open files, garbage collection.

Owns the names' prefix. Refuses to know what is measured.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, GCCollector, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from romana.model.metric import Metric

MEDIA = CONTENT_TYPE_LATEST


def exposition(metrics: Iterable[Metric]) -> bytes:
    """The text that a scrape gets."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    GCCollector(registry=registry)
    registry.register(_Once(metrics))
    return generate_latest(registry)


class _Once(Collector):
    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = tuple(metrics)

    def describe(self) -> Iterable[GaugeMetricFamily]:
        return ()

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        for one in self._metrics:
            names = list(one.samples[0].labels) if one.samples else []
            kind = CounterMetricFamily if one.counts else GaugeMetricFamily
            family = kind(f"romana_{one.name}", one.meaning, labels=names)
            for sample in one.samples:
                family.add_metric([sample.labels[name] for name in names], sample.value)
            yield family
