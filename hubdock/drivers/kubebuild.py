"""One build on a cluster: a Job by the name of its key, made or joined, followed to its end by whoever waits, and taken up again after anybody's end.

All that a Job needs is in the registry and in the Job: the context and the tools go there as images, for nothing else can be reached from a build. So the
Job goes on when the process that made it is gone, and the next one finds it by its name.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import IO, Any

from hubdock.core import kubeobjects as objects
from hubdock.core.dockerfile import use_named_context
from hubdock.core.errors import BackendError, BuilderUnavailable, ImageGone, OutOfMemory, OutOfSpace, RegistryUnavailable
from hubdock.core.kubeevents import BUILD, explain, find_stage
from hubdock.core.kubeobjects import BuildJob
from hubdock.core.kuberefusal import explain_refusal
from hubdock.core.kubescript import USER_ERROR
from hubdock.core.kubestate import COMPLETE, FAILED, JobState, describe_end, find_end, find_state, is_told, list_wanted
from hubdock.core.reference import Reference
from hubdock.drivers import kubequeue
from hubdock.drivers.kube import Cluster, Conflict
from hubdock.drivers.kubelog import PodLog
from hubdock.drivers.kubeplace import BuildPlace
from hubdock.drivers.oci import Registry
from hubdock.drivers.parcel import Parcel, push_context, push_directory, remove_parcel
from hubdock.drivers.solve import BuilderWords, BuildRequest, Cancelled, Listener, SolveOutput, StepFailed

WORDS = BuilderWords(
    "the build's node", "BuildKit was lost in the middle of the build. Start again; if it stays so, tell an administrator.",
    re.compile(r"/(?:base|environment)[:@][^\s]*: not found"),
)  # fmt: skip
POLL = 0.4
PATIENCE = 120.0  # seconds that the API server may be away before a build that goes on is given up
_TRIES = 10
_CONTEXT = "hubdock-context"


class KubeSolver:
    """One solve on a cluster, as `hubdock.drivers.buildkit.Solver` is one on a Docker Engine."""

    def __init__(self, cluster: Cluster, registry: Registry, place: BuildPlace, request: BuildRequest, target: Reference, listen: Listener) -> None:
        self.cluster, self.registry, self.place, self.request, self.target, self.listen = cluster, registry, place, request, target, listen
        kind, _, tag = request.tag.rpartition("/")[2].partition(":")
        self.key = tag.partition("-")[0]
        self.kind, self.name = kind, objects.make_job_name(kind, self.key, request.variant)
        self._cancelled = threading.Event()
        self._said = ""
        self._stage = ("", 0.0)
        self._log: PodLog | None = None
        self._output = self._make_output()
        self._context: Parcel | None = None

    def _make_output(self) -> SolveOutput:
        return SolveOutput(self.request.past, self.listen, WORDS)

    def run(self, write_context: Callable[[IO[bytes]], None]) -> dict[str, float]:
        """Have the image made, by a Job of ours or of somebody else's, and return seconds by step.

        Raises StepFailed for a step's own failure, Cancelled, BuildTimeout, OutOfSpace, OutOfMemory, ImageGone, RegistryUnavailable, BackendError with the
        reason why the cluster could not, and whatever ``write_context`` raised.
        """
        try:
            for _ in range(_TRIES):
                self._check()
                if self._join() or self._create(write_context):
                    state = self._follow()
                    if state is not None:
                        return self._finish(state)
        finally:
            if self._cancelled.is_set():
                self._leave()
            self._close_log()
        raise BackendError("The cluster loses the build's Job again and again. Tell an administrator.", self.name)

    def cancel(self) -> None:
        """Stop waiting; the Job ends too, unless another hubdock wants it."""
        self._cancelled.set()

    def _check(self) -> None:
        if self._cancelled.is_set():
            raise Cancelled

    # --- the Job ---

    def _join(self) -> bool:
        """Return True if there is a Job of this key that is under way, or ended with nobody told. One that is of no use any more is removed."""
        job = self._get_job()
        if job is None:
            return False
        if job["metadata"].get("annotations", {}).get(objects.KEY) != self.key:
            raise BackendError("Another Job of the cluster has the name of this build's. Tell an administrator.", self.name)
        state = find_state(job)
        stale = state.ended and (is_told(job) or (state.complete and not self._is_made()))
        if stale or job["metadata"].get("deletionTimestamp"):
            self._remove(job)
            return False
        self._note(f"{objects.WANTED}{self.place.owner}", "true")
        self._ensure_secret(self._describe(""), job)
        return True

    def _create(self, write_context: Callable[[IO[bytes]], None]) -> bool:
        """Make the Job; False if somebody did in this moment."""
        self.listen("phase", "fetching", 0.0)
        context = push_context(self.registry, self.place.find_repository("context"), self.name, write_context)
        named = {_CONTEXT: context, **{name: push_directory(self.registry, self.place.find_repository(name), path) for name, path in self.request.contexts.items()}}
        build = self._describe(use_named_context(context.dockerfile, _CONTEXT))
        build = replace(build, context=f"{context.repository}@{context.digest}", contexts=tuple((name, f"{self.place.host}/{parcel.repository}@{parcel.digest}") for name, parcel in sorted(named.items())))
        build = replace(build, cache=kubequeue.ensure_cache(self.cluster, self.place, self.request.scope))
        self._check()
        made = self.cluster.create(objects.make_build_job(build))
        if made is None:
            return False
        self._ensure_secret(build, made)
        return True

    def _describe(self, dockerfile: str) -> BuildJob:
        place, request = self.place, self.request
        return BuildJob(
            self.name, place.namespace, self.kind, self.key, place.image, str(self.target), dockerfile,
            objects.make_builder_config(place.insecure, place.cache_bytes * 4 // 5), place.owner, secrets=tuple(sorted(request.secrets)),
            args=tuple(sorted(request.args)), scope=request.scope, registry_secret=place.registry_secret, timeout=request.timeout,
            resources=place.resources, pod=place.pod,
        )  # fmt: skip

    def _ensure_secret(self, build: BuildJob, job: Mapping[str, Any]) -> None:
        """Make the Job's Secret, which whoever made the Job may not have lived to do."""
        values = {**self.request.secrets, **self.request.args}
        if values and not find_state(job).ended:
            self.cluster.create(objects.make_build_secret(build, values, job["metadata"]["uid"]))

    def _get_job(self) -> dict[str, Any] | None:
        return self.cluster.get("Job", self.place.namespace, self.name)

    def _is_made(self) -> bool:
        return self.registry.find_digest(self.target.repository, self.target.tag) is not None

    def _remove(self, job: Mapping[str, Any]) -> None:
        """Remove a Job, and wait until its name is free."""
        with suppress(Conflict):
            self.cluster.delete("Job", self.place.namespace, self.name, uid=job["metadata"]["uid"])
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            found = self._get_job()
            if found is None or found["metadata"]["uid"] != job["metadata"]["uid"]:
                return
            self._check()
            time.sleep(0.1)

    # --- following it ---

    def _follow(self) -> JobState | None:
        """Return how the Job ended; None if it was taken away. An API server that is away for a while is waited for."""
        answered = time.monotonic()
        while True:
            self._check()
            try:
                job = self._get_job()
                if job is None:
                    self._close_log()
                    return None if not self._is_made() else JobState(complete=True)
                repository, _, digest = job["metadata"]["annotations"].get(objects.CONTEXT, "").partition("@")
                self._context = Parcel(repository, digest) if digest else None
                state = self._watch(job)
                answered = time.monotonic()
                if state.ended:
                    return state
            except BuilderUnavailable:
                if time.monotonic() - answered > PATIENCE:
                    raise
            self._cancelled.wait(POLL)

    def _watch(self, job: Mapping[str, Any]) -> JobState:
        """Tell where a Job is, read its newest pod's log, and release it when it is its turn. Return how it is."""
        state = find_state(job)
        if state.suspended and not state.ended:
            position = kubequeue.release(self.cluster, self.place, self.name)
            self._say("queued", f"number {position} in the cluster's queue" if position else "")
            return state
        pods = self.cluster.list("Pod", self.place.namespace, f"batch.kubernetes.io/job-name={self.name}")
        pod = max(pods, key=lambda pod: str(pod["metadata"]["creationTimestamp"]), default=None)
        if pod is None:
            self._explain_refusal()
            return state
        if not state.ended and (state := find_end(job, pod)).ended:  # its place in the queue and its cache volume are free
            self._note(objects.ENDED, COMPLETE if state.complete else FAILED)
        if pod["status"].get("phase") == "Pending" and not state.ended:
            self._explain(pod)
        elif self._log is None or self._log.pod != pod["metadata"]["name"]:
            self._read_log(pod["metadata"]["name"])
        if not state.ended and describe_end(pod).out_of_memory:  # its exit code is that of any pod that was killed: only we know that another one ends so too
            self.cluster.patch("Job", self.place.namespace, self.name, {"spec": {"backoffLimit": 0}})
        return state

    def _explain(self, pod: Mapping[str, Any]) -> None:
        """Tell why a pod does not run yet."""
        name = str(pod["metadata"]["name"])
        if (at := f"{name} {find_stage(pod)}") != self._stage[0]:
            self._stage = at, time.monotonic()
        waiting = explain(pod, self._list_events("Pod", name), time.monotonic() - self._stage[1], subject=BUILD)
        if waiting is not None:
            self._say("queued", waiting.message)

    def _explain_refusal(self) -> None:
        """Tell why the cluster lets the Job make no pod."""
        refused = next((event for event in reversed(self._list_events("Job", self.name)) if event.get("reason") == "FailedCreate"), None)
        if refused is not None:
            self._say("queued", explain_refusal(422, str(refused.get("message") or ""), "build").message)

    def _list_events(self, kind: str, name: str) -> list[dict[str, Any]]:
        """Return the events about an object, the newest last."""
        events = self.cluster.list("Event", self.place.namespace, fields=f"involvedObject.kind={kind},involvedObject.name={name}")
        return sorted(events, key=lambda event: str(event.get("lastTimestamp") or event.get("eventTime") or ""))

    def _say(self, phase: str, words: str) -> None:
        if (said := f"{phase} {words}") != self._said:
            self._said = said
            self.listen("phase", said.strip(), 0.0)

    def _read_log(self, pod: str) -> None:
        if self._log is not None:
            self._close_log()
            self._output = self._make_output()
            self.listen("log", "The build's pod was lost: once more, from what its cache volume has.", 0.0)
        self._say("building", "")
        self._log = PodLog(self.cluster, self.place.namespace, pod, objects.CONTAINER, self._output.feed)
        self._log.start()

    def _close_log(self) -> None:
        """Read what there is to read still; of a build that goes on without us there is no end."""
        if self._log is not None:
            if not self._cancelled.is_set():
                self._log.finish()
            self._output.close()
            self._log = None

    # --- the end ---

    def _finish(self, state: JobState) -> dict[str, float]:
        self._close_log()
        self._remove_context()
        if state.complete:
            return self._output.solve.durations
        error = self._find_error(state)
        if not (isinstance(error, StepFailed) and error.exit_code in self.request.onward):
            self._note(objects.TOLD, "true")
        raise error

    def _note(self, annotation: str, value: str) -> None:
        """Write on the Job what others are to know."""
        self.cluster.patch("Job", self.place.namespace, self.name, {"metadata": {"annotations": {annotation: value}}})

    def _find_error(self, state: JobState) -> Exception:
        if state.reason == "DeadlineExceeded":
            return self._output.make_timeout(self.request.timeout)
        pods = self.cluster.list("Pod", self.place.namespace, f"batch.kubernetes.io/job-name={self.name}")
        end = describe_end(max(pods, key=lambda pod: str(pod["metadata"]["creationTimestamp"]), default={}))
        if end.out_of_memory:
            return OutOfMemory("The build was killed: it took more memory than HubDock.kube_build_resources gives it.", self._output.detail)
        found = self._output.make_error()
        if end.exit_code == USER_ERROR or isinstance(found, RegistryUnavailable | ImageGone | OutOfSpace):
            return found
        return BackendError(f"The build was lost twice: {end.words or 'nobody can say why'}. Start again; if it stays so, tell an administrator.", self._output.detail)

    def _leave(self) -> None:
        """Take our name off the Job; end it with its pod if that was the last."""
        with suppress(BackendError):
            for _ in range(_TRIES):
                job = self._get_job()
                if job is None or find_state(job).ended:
                    return
                version = job["metadata"]["resourceVersion"]
                others = list_wanted(job) - {self.place.owner}
                with suppress(Conflict):
                    if others:
                        mine = {"resourceVersion": version, "annotations": {f"{objects.WANTED}{self.place.owner}": None}}
                        self.cluster.patch("Job", self.place.namespace, self.name, {"metadata": mine})
                    else:
                        self.cluster.delete("Job", self.place.namespace, self.name, version=version)
                        self._end_pods()
                        self._remove_context()
                    return

    def _remove_context(self) -> None:
        if self._context is not None:
            remove_parcel(self.registry, self._context)

    def _end_pods(self) -> None:
        for pod in self.cluster.list("Pod", self.place.namespace, f"batch.kubernetes.io/job-name={self.name}"):
            self.cluster.delete("Pod", self.place.namespace, pod["metadata"]["name"], grace=1)
