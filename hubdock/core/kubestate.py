"""What a Job and its pods say of themselves (https://kubernetes.io/docs/concepts/workloads/controllers/job/)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from hubdock.core.kubeobjects import CACHE, ENDED, TOLD, WANTED
from hubdock.core.kubescript import INFRASTRUCTURE

COMPLETE, FAILED = "complete", "failed"  # values of ENDED
JOB_UID = "batch.kubernetes.io/controller-uid"


@dataclass(frozen=True)
class JobState:
    """How a Job is. ``reason`` is Kubernetes' own word for why it failed (``DeadlineExceeded``, ``PodFailurePolicy``, ``BackoffLimitExceeded``)."""

    suspended: bool = False
    complete: bool = False
    failed: bool = False
    reason: str = ""

    @property
    def ended(self) -> bool:
        """True once it is over."""
        return self.complete or self.failed


def find_state(job: Mapping[str, Any]) -> JobState:
    """Return how a Job is, by its conditions, or by what somebody wrote on it who saw its end in its pod (`find_end`)."""
    conditions = {str(entry["type"]): entry for entry in (job.get("status") or {}).get("conditions") or () if entry.get("status") == "True"}
    failed = conditions.get("Failed") or conditions.get("FailureTarget")  # the second says so while its pods are ending
    seen = (job["metadata"].get("annotations") or {}).get(ENDED)
    complete = "Complete" in conditions or seen == COMPLETE
    return JobState(bool(job["spec"].get("suspend")), complete, "Failed" in conditions or seen == FAILED, str((failed or {}).get("reason") or ""))


def find_end(job: Mapping[str, Any], pod: Mapping[str, Any]) -> JobState:
    """Return how a Job is, by its newest pod too: of one that ended for good the Job's conditions tell two or three seconds later."""
    state, status = find_state(job), pod.get("status") or {}
    if state.ended or (pod.get("metadata") or {}).get("labels", {}).get(JOB_UID) != job["metadata"]["uid"]:
        return state  # a pod of another Job may have been of this name
    if (states := status.get("containerStatuses")) and all(((entry.get("state") or {}).get("terminated") or {}).get("exitCode") == 0 for entry in states):
        return replace(state, complete=True)  # its phase takes another second
    return replace(state, failed=status.get("phase") == "Failed" and _is_final(job, pod))


def _is_final(job: Mapping[str, Any], pod: Mapping[str, Any]) -> bool:
    """True if by the Job's own policy no other pod follows one that failed so (https://kubernetes.io/docs/concepts/workloads/controllers/job/#pod-failure-policy)."""
    code = describe_end(pod).exit_code
    rules = [rule["onExitCodes"] for rule in job["spec"].get("podFailurePolicy", {}).get("rules", ()) if rule["action"] == "FailJob"]
    return code is not None and not _find_disruption(pod) and any((code in rule["values"]) == (rule["operator"] == "In") for rule in rules)


def _find_disruption(pod: Mapping[str, Any]) -> dict[str, Any]:
    """Return the condition that says that a pod was taken away, empty for none."""
    return next((entry for entry in (pod.get("status") or {}).get("conditions") or () if entry.get("type") == "DisruptionTarget" and entry.get("status") == "True"), {})


def is_told(job: Mapping[str, Any]) -> bool:
    """True if somebody was told how it failed: who asks again wants another try."""
    return TOLD in (job["metadata"].get("annotations") or {})


def list_wanted(job: Mapping[str, Any]) -> set[str]:
    """Return who wants a Job."""
    return {name.removeprefix(WANTED) for name in job["metadata"].get("annotations") or () if name.startswith(WANTED)}


@dataclass(frozen=True)
class PodEnd:
    """How a pod ended. ``exit_code`` is None where its container never said one; ``words`` say what took it away, without a capital or a stop."""

    exit_code: int | None = None
    out_of_memory: bool = False
    words: str = ""


def describe_end(pod: Mapping[str, Any]) -> PodEnd:
    """Return how a pod ended; an empty one is a pod that is not there any more."""
    if not pod:
        return PodEnd(words="its pod was deleted")
    status = pod.get("status") or {}
    ended: dict[str, Any] = next((entry["state"]["terminated"] for entry in status.get("containerStatuses") or () if (entry.get("state") or {}).get("terminated")), {})
    code = int(ended["exitCode"]) if "exitCode" in ended else None
    disrupted = _find_disruption(pod)
    if ended.get("reason") == "OOMKilled":
        return PodEnd(code, True, "it took more memory than it may")
    if status.get("reason") == "Evicted" or disrupted:
        said = str(status.get("message") or disrupted.get("message") or "").rstrip(". ")
        return PodEnd(code, False, f"its node gave its pod up{f' ({said[:200]})' if said else ''}")
    if code == INFRASTRUCTURE:
        return PodEnd(code, False, "BuildKit or the registry failed; the log says how")
    return PodEnd(code, False, "its pod was ended" if code not in {0, 1} else "")


def list_releasable(jobs: list[dict[str, Any]], limit: int) -> list[str]:
    """Return the names of the suspended Jobs whose turn it is: the oldest first, ``limit`` running at once, and one on each cache volume."""
    running = [job for job in jobs if not find_state(job).ended and not job["spec"].get("suspend")]
    busy = {cache for job in running if (cache := find_cache(job))}
    chosen: list[str] = []
    for job in list_waiting(jobs):
        cache = find_cache(job)
        if len(running) + len(chosen) >= limit:
            break
        if cache not in busy:
            chosen.append(str(job["metadata"]["name"]))
            busy |= {cache} if cache else set()
    return chosen


def list_waiting(jobs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the suspended Jobs, the oldest first."""
    waiting = [job for job in jobs if job["spec"].get("suspend") and not find_state(job).ended and not job["metadata"].get("deletionTimestamp")]
    return sorted(waiting, key=lambda job: (str(job["metadata"].get("creationTimestamp")), str(job["metadata"]["name"])))


def find_cache(job: Mapping[str, Any]) -> str:
    """Return the claim of a Job's cache volume, empty for none."""
    return str((job["metadata"].get("labels") or {}).get(CACHE) or "")
