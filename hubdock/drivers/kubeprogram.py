"""A program that runs once on a cluster: the same contract as a container of a Docker Engine (`hubdock.drivers.docker.run_job`)."""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from hubdock.core.errors import BackendError, BuilderUnavailable
from hubdock.core.kubeevents import BUILD, Stage, explain, find_stage
from hubdock.core.kubeprogram import CONTAINER, MARK, ProgramJob, make_mark, make_program_job, make_program_secret
from hubdock.core.kubestate import describe_end, find_end
from hubdock.core.text import make_lines
from hubdock.drivers import process
from hubdock.drivers.job import Job, JobResult
from hubdock.drivers.kube import Cluster
from hubdock.drivers.kubelog import PodLog
from hubdock.drivers.kubeplace import BuildPlace

POLL = 0.3
PATIENCE = 60.0
LONGEST_LINE = 1 << 18
_TAIL = 60


def run_program(cluster: Cluster, place: BuildPlace, job: Job, image: str, listen: Callable[[str], None], stop: threading.Event) -> JobResult:
    """Run a program to its end, telling each line that it prints, and leave nothing of it. When ``stop`` is set it is ended. Raises BackendError."""
    program = ProgramJob(
        f"run-{uuid.uuid4().hex}", place.data_namespace if job.mounts else place.namespace, image, tuple([*(job.entrypoint or ()), *job.command]), os.environ.get(process.MARK, ""),
        job.files, tuple((mount.volume, mount.target, mount.subpath, mount.read_only) for mount in job.mounts), job.env, job.network != "none", job.timeout,
        job.memory, place.registry_secret,
    )  # fmt: skip
    run = _Run(cluster, program, listen)
    try:
        if program.files:
            cluster.create(make_program_secret(program))
        cluster.create(make_program_job(program))
        return run.follow(stop)
    finally:
        with suppress(BackendError):
            _remove(cluster, program.namespace, program.name)


class _Run:
    def __init__(self, cluster: Cluster, program: ProgramJob, listen: Callable[[str], None]) -> None:
        self._cluster, self._program, self._listen = cluster, program, listen
        self._tail: deque[str] = deque(maxlen=_TAIL)
        self._log: PodLog | None = None
        self._said = ""
        self._stage = (Stage.NEW, time.monotonic())
        self._began: float | None = None

    def _hear(self, content: bytes) -> None:
        for line in make_lines(content.decode("utf-8", "replace").rstrip("\n"), LONGEST_LINE):
            self._tail.append(line)
            self._listen(line)

    def _is_over(self) -> bool:
        """True once it has run for longer than it may; what it waits before it runs is not its fault."""
        return self._began is not None and time.monotonic() - self._began > self._program.timeout

    def follow(self, stop: threading.Event) -> JobResult:
        answered, program = time.monotonic(), self._program
        while not (stop.is_set() or self._is_over()):
            try:
                job = self._cluster.get("Job", program.namespace, program.name)
                if job is None:
                    raise BackendError("A program of hubdock was deleted on the cluster while it ran. Start again.", program.name)
                pods = self._cluster.list("Pod", program.namespace, f"batch.kubernetes.io/job-name={program.name}")
                pod = max(pods, key=lambda pod: str(pod["metadata"]["creationTimestamp"]), default={})
                state = find_end(job, pod)
                self._look(pod, state.ended)
                answered = time.monotonic()
                if state.ended:
                    if self._log is not None:
                        self._log.finish()
                    end = describe_end(pod)
                    if not state.complete and end.exit_code is None:
                        raise BackendError(f"A program of hubdock could not run on the cluster. {self._said or f'Tell an administrator: {end.words}.'}", state.reason)
                    return JobResult(0 if state.complete else end.exit_code or 137, end.out_of_memory, tuple(self._tail))
            except BuilderUnavailable:
                if time.monotonic() - answered > PATIENCE:
                    raise
            stop.wait(POLL)
        return JobResult(137, False, tuple(self._tail))

    def _look(self, pod: dict[str, Any], ended: bool) -> None:
        phase, name = (pod.get("status") or {}).get("phase"), (pod.get("metadata") or {}).get("name")
        if phase == "Pending" and not ended:  # a short program is over before its pod is said to run
            if (stage := find_stage(pod)) is not self._stage[0]:
                self._stage = stage, time.monotonic()
            waiting = explain(pod, (), time.monotonic() - self._stage[1], subject=BUILD)
            if waiting is not None and waiting.message != self._said:
                self._said = waiting.message
                self._listen(f"The cluster: {self._said}")
        elif phase and (self._log is None or self._log.pod != name):
            self._began = time.monotonic()
            self._log = PodLog(self._cluster, self._program.namespace, str(name), CONTAINER, self._hear)
            self._log.start()


def _remove(cluster: Cluster, namespace: str, name: str) -> None:
    cluster.delete("Job", namespace, name)
    for pod in cluster.list("Pod", namespace, f"batch.kubernetes.io/job-name={name}"):
        cluster.delete("Pod", namespace, pod["metadata"]["name"], grace=1)
    cluster.delete("Secret", namespace, name)


def remove_programs(cluster: Cluster, place: BuildPlace, mark: str) -> int:
    """Remove what a process of this `hubdock.drivers.process.MARK` ran and can't remove any more; return how many."""
    count = 0
    for namespace in {place.namespace, place.data_namespace}:
        for job in cluster.list("Job", namespace, f"{MARK}={make_mark(mark)}"):
            _remove(cluster, namespace, job["metadata"]["name"])
            count += 1
    return count
