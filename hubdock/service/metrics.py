"""Prometheus metrics: https://prometheus.io/docs/practices/naming/. Labels never hold a user, a repository or a branch."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from hubdock.engine.engine import Engine
from hubdock.engine.tasks import Attempt, Result

BUCKETS = (0.25, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)


class Metrics:
    """The metrics of one service."""

    def __init__(self, engine: Engine) -> None:
        self.registry = CollectorRegistry()
        self.plans = Counter("hubdock_plans", "Plans by outcome: ready, build, or an error's code", ["outcome"], registry=self.registry)
        self.tasks = Counter("hubdock_tasks", "Finished tasks by kind and status", ["kind", "status"], registry=self.registry)
        self.seconds = Histogram("hubdock_task_seconds", "Seconds a successful task took", ["kind"], registry=self.registry, buckets=BUCKETS)
        self.fetched = Counter("hubdock_data_fetched_bytes", "Bytes of data fetched from remotes", registry=self.registry)
        self.disk = Gauge("hubdock_disk_bytes", "Bytes by kind, as of the last collection", ["kind"], registry=self.registry)
        self.collected = Counter("hubdock_collected_bytes", "Bytes that collections freed, by kind", ["kind"], registry=self.registry)
        self.last = Gauge("hubdock_last_collection_timestamp_seconds", "When the last collection ended", registry=self.registry)
        running = Gauge("hubdock_builds_running", "Builds that somebody waits for", registry=self.registry)
        running.set_function(lambda: sum(not build.done.is_set() for build in engine.builds.by_id.values()))
        engine.builds.runner.listeners.append(self.observe)

    def observe(self, attempt: Attempt, result: Result) -> None:
        """Count a finished task."""
        self.tasks.labels(attempt.kind, str(result.status)).inc()
        if result.error is None:
            self.seconds.labels(attempt.kind).observe(max(0.0, result.finished - result.started))
            self.fetched.inc(result.data.get("fetched", 0))

    def observe_collection(self, sizes: Mapping[str, int], freed: Mapping[str, int], finished: float) -> None:
        """Count a collection."""
        self.disk.clear()
        for kind, size in sizes.items():
            self.disk.labels(kind).set(size)
        for kind, size in freed.items():
            self.collected.labels(kind).inc(size)
        self.last.set(finished)

    def render(self) -> bytes:
        """Return the text exposition format."""
        return generate_latest(self.registry)
