from __future__ import annotations

import asyncio
import socket

import aiohttp
import pytest

from romana.adapters.monitoring import monitored
from romana.adapters.prometheus import exposition
from romana.model.errors import Unavailable
from romana.model.metric import Metric, Sample, by, single


def test_names_values_and_labels_are_written() -> None:
    odd = 'quote " slash \\ line\n'
    text = exposition(
        [single("drift_total", "Put right.", 3), by("state", "hosts", "Hosts.", {"up": 2, odd: 1})]
    ).decode()
    lines = text.splitlines()
    assert "# TYPE romana_drift_total counter" in lines
    assert "romana_drift_total 3.0" in lines
    assert 'romana_hosts{state="up"} 2.0' in lines
    assert 'romana_hosts{state="quote \\" slash \\\\ line\\n"} 1.0' in lines
    assert any(line.startswith("process_resident_memory_bytes ") for line in lines)


def test_a_metric_without_numbers_is_named() -> None:
    assert "# HELP romana_session_up Up." in exposition([Metric("session_up", "Up.", ())]).decode()


def test_it_is_unready_with_a_reason_and_refuses_a_taken_port() -> None:
    problem = "no view yet"

    async def body() -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
            with pytest.raises(Unavailable, match=f"127.0.0.1:{port}"):
                async with monitored(f"127.0.0.1:{port}", list, lambda: ""):
                    pass
        metric = Metric("x", "X.", (Sample(1),))
        async with (
            monitored(f"127.0.0.1:{port}", lambda: [metric], lambda: problem),
            aiohttp.ClientSession(f"http://127.0.0.1:{port}") as client,
        ):
            async with client.get("/readyz") as answer:
                assert (answer.status, await answer.text()) == (503, "no view yet\n")
            async with client.get("/healthz") as answer:
                assert answer.status == 200
            async with client.get("/metrics") as answer:
                assert answer.content_type == "text/plain"
                assert "romana_x 1.0" in await answer.text()

    asyncio.run(body())
