"""What people are told of pods that wait and pods that ended, and whose turn it is."""

from __future__ import annotations

from typing import Any

import pytest

from hubdock.core.kubeobjects import CACHE, TOLD, WANTED
from hubdock.core.kubestate import JobState, PodEnd, describe_end, find_state, is_told, list_releasable, list_waiting, list_wanted
from hubdock.core.kubewords import explain_pod, explain_refusal


def unschedulable(message: str) -> dict[str, Any]:
    return {"status": {"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}]}}


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return {"status": {"phase": "Pending", "containerStatuses": [{"image": "registry/x:1", "state": {"waiting": {"reason": reason, "message": message}}}]}}


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ("0/1 nodes are available: 1 Insufficient nvidia.com/gpu. preemption: 0/1 nodes are available", "no node has a GPU free"),
        ("0/3 nodes are available: 1 Insufficient cpu, 3 Insufficient memory.", "enough free CPU and memory"),
        ("0/1 nodes are available: 1 Insufficient memory.", "enough free memory:"),
        ("0/1 nodes are available: 1 node(s) were unschedulable.", "closed them"),
        ("0/1 nodes are available: 1 node(s) had untolerated taint {gpu: true}.", "kept for other work"),
        ("0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.", "no node of the kind"),
        ("0/1 nodes are available: 1 node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already in-use by another pod.", "the build before it"),
        ("0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims.", "waits for its volume"),
        ("something new", "no node takes it: something new"),
    ],
)
def test_why_no_node_takes_a_pod(message: str, words: str) -> None:
    assert words in explain_pod(unschedulable(message))


def test_a_cluster_that_grows() -> None:
    events = [{"reason": "FailedScheduling", "message": "x"}, {"reason": "TriggeredScaleUp", "message": "pod triggered scale-up"}]
    assert explain_pod(unschedulable("0/1 nodes are available: 1 Insufficient cpu."), events) == "the cluster adds a node, which takes some minutes"


def test_images_that_do_not_come() -> None:
    assert explain_pod(waiting("ImagePullBackOff", "Back-off"), [{"reason": "Failed", "message": 'failed to pull "registry/x:1": not found'}]) == (
        "the image registry/x:1 can't be pulled: it is not in its registry"
    )
    assert explain_pod(waiting("ErrImagePull", "unauthorized: access denied")).endswith("its registry refuses it")
    assert explain_pod(waiting("ContainerCreating"), [{"reason": "Pulling", "message": 'Pulling image "registry/x:1"'}]) == "pulling registry/x:1"
    assert explain_pod(waiting("ContainerCreating")) == ""


def test_what_the_api_server_refuses() -> None:
    quota = 'pods "x" is forbidden: exceeded quota: build-quota, requested: requests.memory=2Gi, used: requests.memory=8Gi, limited: requests.memory=8Gi'
    assert explain_refusal(quota) == "the quota of the cluster's namespace is used up (build-quota: requests.memory=2Gi wanted, requests.memory=8Gi of requests.memory=8Gi in use)"
    assert "pod security" in explain_pod({}, [{"reason": "FailedCreate", "message": 'pods "x" is forbidden: violates PodSecurity "restricted:latest": seccompProfile'}])


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
