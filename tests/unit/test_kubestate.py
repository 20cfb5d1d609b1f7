"""What Jobs and pods of builds say of themselves, and whose turn it is."""

from __future__ import annotations

from typing import Any

from hubdock.core.kubeobjects import CACHE, ENDED, TOLD, WANTED
from hubdock.core.kubestate import (
    COMPLETE,
    FAILED,
    JOB_UID,
    JobState,
    PodEnd,
    describe_end,
    find_end,
    find_state,
    is_told,
    list_releasable,
    list_waiting,
    list_wanted,
)


def pod_that(code: int | None = None, **status: Any) -> dict[str, Any]:
    reason = status.pop("ended", "Error")
    states = [{"state": {"terminated": {"exitCode": code, "reason": reason}}}] if code is not None else []
    return {"status": {"containerStatuses": states, **status}}


def test_how_pods_end() -> None:
    assert describe_end(pod_that(0)) == PodEnd(0) and describe_end(pod_that(1)) == PodEnd(1)
    assert describe_end(pod_that(137, ended="OOMKilled")).out_of_memory and not describe_end(pod_that(137)).out_of_memory
    assert describe_end(pod_that(reason="Evicted", message="The node was low on resource: memory.")).words == "its node gave its pod up (The node was low on resource: memory)"
    preempted = [{"type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager", "message": "Taint manager: deleting due to NoExecute taint"}]
    assert "NoExecute" in describe_end(pod_that(143, conditions=preempted)).words
    assert "registry failed" in describe_end(pod_that(75)).words
    assert describe_end({}).words == "its pod was deleted"


def job(name: str, *, created: int = 0, suspend: bool = True, cache: str = "", ended: str = "", **metadata: Any) -> dict[str, Any]:
    conditions = [{"type": ended, "status": "True", "reason": "R"}] if ended else []
    labels = {CACHE: cache} if cache else {}
    stamp = f"2026-01-01T00:00:{created:02}Z"
    return {"metadata": {"name": name, "creationTimestamp": stamp, "labels": labels, **metadata}, "spec": {"suspend": suspend}, "status": {"conditions": conditions}}


def test_how_a_job_is() -> None:
    assert find_state(job("a")) == JobState(suspended=True)
    assert find_state(job("a", suspend=False, ended="Complete")) == JobState(complete=True)
    assert find_state(job("a", suspend=False, ended="Failed")) == JobState(failed=True, reason="R")
    assert find_state(job("a", suspend=False, ended="FailureTarget")).ended is False, "its pods are ending still"


POLICY = {"rules": [{"action": "Count", "onPodConditions": []}, {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [1, 2]}}]}
OTHERS = {"rules": [{"action": "FailJob", "onExitCodes": {"operator": "NotIn", "values": [0]}}]}


def find_end_of(pod: dict[str, Any], policy: dict[str, Any], uid: str = "u1") -> JobState:
    running = job("a", suspend=False, uid="u1")
    running["spec"]["podFailurePolicy"] = policy
    return find_end(running, {**pod, "metadata": {"labels": {JOB_UID: uid}}})


def test_what_a_pod_says_of_its_job_before_the_job_does() -> None:
    done, wrong, lost, taken = JobState(complete=True), pod_that(1, phase="Failed"), pod_that(75, phase="Failed"), [{"type": "DisruptionTarget", "status": "True"}]
    assert find_end_of(pod_that(0, phase="Running"), POLICY) == done and find_end_of(pod_that(0, phase="Running"), POLICY, "another") == JobState()
    assert find_end_of(wrong, POLICY) == find_end_of(wrong, OTHERS) == find_end_of(lost, OTHERS) == JobState(failed=True)
    assert find_end_of(lost, POLICY) == find_end_of(pod_that(1, phase="Failed", conditions=taken), POLICY) == JobState(), "another pod follows"
    assert find_end_of(pod_that(1, phase="Running"), POLICY) == find_end_of(pod_that(phase="Failed"), OTHERS) == find_end(job("a", suspend=False, uid="u1"), {}) == JobState()
    assert find_state(job("a", suspend=False, annotations={ENDED: COMPLETE})) == done and find_state(job("a", suspend=False, annotations={ENDED: FAILED})).failed


def test_who_wants_a_job_and_who_was_told() -> None:
    annotated = job("a", annotations={f"{WANTED}one": "true", f"{WANTED}two": "true", "other": "x"})
    assert list_wanted(annotated) == {"one", "two"} and not is_told(annotated)
    assert is_told(job("a", annotations={TOLD: "true"})) and list_wanted(job("a")) == set()


def test_the_oldest_goes_first_within_the_limit() -> None:
    jobs = [job("new", created=3), job("old", created=1), job("older", created=0), job("runs", suspend=False), job("ended", suspend=False, ended="Failed")]
    assert [entry["metadata"]["name"] for entry in list_waiting(jobs)] == ["older", "old", "new"]
    assert list_releasable(jobs, 1) == []
    assert list_releasable(jobs, 3) == ["older", "old"]


def test_one_build_on_each_cache_volume() -> None:
    jobs = [job("runs", suspend=False, cache="c0"), job("a", created=1, cache="c0"), job("b", created=2, cache="c1"), job("c", created=3, cache="c1"), job("d", created=4)]
    assert list_releasable(jobs, 10) == ["b", "d"]
