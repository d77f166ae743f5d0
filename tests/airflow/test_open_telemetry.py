"""Metrics of a real task run, as an OpenTelemetry collector's address receives them."""

import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

pytestmark = pytest.mark.airflow
RUN = """
import os
from datetime import UTC, datetime
from windrow.airflow.compat import read_dags
dags = read_dags(os.environ["AIRFLOW__CORE__DAGS_FOLDER"]).dags
print(dags["daily"].test(logical_date=datetime(2026, 1, 5, tzinfo=UTC)).state)
"""


@pytest.fixture(scope="module")
def received(played):
    """All that is sent to the collector while a partition is published again."""
    bodies = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self):
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Collector) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        settings = {
            "AIRFLOW__METRICS__OTEL_ON": "True",
            "AIRFLOW__METRICS__STATSD_ON": "False",
            "AIRFLOW__OPENLINEAGE__DISABLED": "True",
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        }
        stage = replace(played.stage, more={**played.stage.more, **settings})
        assert "success" in stage.run("-c", RUN)
        server.shutdown()
    return b"".join(bodies)


@pytest.mark.parametrize("name", ["rows_published", "rows_per_s", "texts_reused", "publish"])
def test_counters_gauges_and_timings_reach_a_collector(received, name):
    assert f"airflow.windrow.{name}".encode() in received


def test_each_metric_tells_job_dag_and_task(received):
    for tag in (b"job", b"dag_id", b"scored.publish"):
        assert tag in received
