"""Why a pod waits, in plain words: texts of a real scheduler, kubelet and autoscaler."""

from __future__ import annotations

from typing import Any

import pytest

from hubdock.core.errors import (
    BackendError,
    CapacityError,
    DataGone,
    GPUUnavailable,
    HubDockError,
    ImageGone,
    LaunchError,
    OutOfMemory,
    OutOfSpace,
    RegistryUnavailable,
)  # fmt: skip
from hubdock.core.kubeevents import BUILD, SILENCE, Stage, explain, explain_end, find_stage

TAIL = "no new claims to deallocate, preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."  # Kubernetes 1.34
LIMITS = {"cpu": "4", "memory": "8589934592", "nvidia.com/gpu": "1"}


def make_pod(unplaced: str = "", node: str = "", started: bool = False, waiting: tuple[str, str] | None = None, terminated: dict[str, Any] | None = None, **status: Any) -> dict[str, Any]:
    conditions = [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": unplaced}] if unplaced else []
    found: dict[str, Any] = {"phase": "Pending", "conditions": conditions, **status}
    if started:
        found["startTime"] = "2026-01-01T00:00:00Z"
    if waiting:
        found["containerStatuses"] = [{"name": "notebook", "state": {"waiting": {"reason": waiting[0], "message": waiting[1]}}}]
    if terminated:
        found["containerStatuses"] = [{"name": "notebook", "state": {"terminated": terminated}}]
    return {"spec": {"containers": [{"name": "notebook", "resources": {"limits": LIMITS}}], **({"nodeName": node} if node else {})}, "status": found}


def make_event(reason: str, message: str = "") -> dict[str, Any]:
    return {"reason": reason, "message": message, "type": "Normal"}


UNPLACED: list[tuple[str, type[HubDockError], str]] = [
    (f"0/1 nodes are available: 1 Insufficient nvidia.com/gpu. {TAIL}", GPUUnavailable, "1 GPU was asked for, and no node has one free. The server starts when"),
    (
        f"0/3 nodes are available: 1 node(s) had untolerated taint {{node-role.kubernetes.io/control-plane: }}, 2 Insufficient nvidia.com/gpu. {TAIL}", GPUUnavailable,
        "no node has one free. (1 node is reserved for other work (taints))",
    ),
    (f"0/1 nodes are available: 1 Insufficient cpu. {TAIL}", CapacityError, "There is no room for 4 CPU on the only node now: 1 node has too little free CPU. It starts when other servers stop; or start it with less."),
    (
        f"0/1 nodes are available: 1 Insufficient cpu, 1 Insufficient memory. {TAIL}", CapacityError,
        "There is no room for 4 CPU and 8G of memory on the only node now: 1 node has too little free CPU, 1 node has too little free memory.",
    ),
    (
        f"0/5 nodes are available: 2 Insufficient cpu, 3 Insufficient memory. {TAIL}", CapacityError,
        "There is no room for 4 CPU and 8G of memory on any of the 5 nodes now: 2 nodes have too little free CPU, 3 nodes have too little free memory.",
    ),
    (f"0/1 nodes are available: 1 Too many pods. {TAIL}", CapacityError, "No node can take the server now: 1 node is full. It starts when other servers stop."),
    (f"0/1 nodes are available: 1 node(s) were unschedulable. {TAIL}", BackendError, "No node can take the server: 1 node is closed for maintenance (cordoned). It starts when a node is back"),
    (
        f"0/3 nodes are available: 1 node(s) had untolerated taint {{node.kubernetes.io/unreachable: }}, 2 node(s) were unschedulable. {TAIL}", BackendError,
        "1 node does not answer, 2 nodes are closed for maintenance (cordoned)",
    ),
    (f"0/2 nodes are available: 1 node(s) didn't match Pod's node affinity/selector, 1 node(s) had volume node affinity conflict. {TAIL}", CapacityError, "1 node is not meant for servers (labels), 1 node can't reach the workspace's volume"),
    ("0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims. not found", BackendError, "The storage for the workspace is not there yet"),
    ("pod has unbound immediate PersistentVolumeClaims", BackendError, "The storage for the workspace is not there yet"),
    (f"0/1 nodes are available: 1 node(s) didn't find available persistent volumes to bind. {TAIL}", BackendError, "The storage for the workspace is not there yet"),
    ('persistentvolumeclaim "hubdock-data" not found', BackendError, "The volume hubdock-data does not exist"),
    ('0/1 nodes are available: persistentvolumeclaim "hubdock-data" not found. not found', BackendError, "The volume hubdock-data does not exist"),
    ("no nodes available to schedule pods", BackendError, "The cluster has no node to start servers on"),
    (f"0/1 nodes are available: 1 of a reason that is new in Kubernetes 9.9. {TAIL}", CapacityError, "No node can take the server: 1 of a reason that is new in Kubernetes 9"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "kind", "words"), UNPLACED)
def test_no_node_will_do(text: str, kind: type[HubDockError], words: str) -> None:
    waiting = explain(make_pod(unplaced=text), [], 0.1)
    assert waiting is not None and type(waiting.error) is kind and words in waiting.message, waiting
    assert not waiting.final and waiting.error.detail  # another server may stop at any moment


@pytest.mark.parametrize(("written", "shown"), [("4", "4"), ("1500m", "1.5"), ("1k", "1000"), ("0.5", "0.5")])
def test_amounts_are_shown_without_units(written: str, shown: str) -> None:
    pod = make_pod(unplaced=f"0/1 nodes are available: 1 Insufficient cpu. {TAIL}")
    pod["spec"]["containers"][0]["resources"] = {"requests": {"cpu": written}}
    waiting = explain(pod, [], 0.1)
    assert waiting is not None and waiting.message.startswith(f"There is no room for {shown} CPU")


def test_the_scheduler_s_event_will_do_too() -> None:
    pod = make_pod(unplaced=" ")
    pod["status"]["conditions"][0]["message"] = ""
    waiting = explain(pod, [make_event("FailedScheduling", UNPLACED[0][0])], 0.1)
    assert waiting is not None and isinstance(waiting.error, GPUUnavailable)


@pytest.mark.parametrize(
    ("event", "grows", "words"),
    [
        (make_event("TriggeredScaleUp", "pod triggered scale-up: [{gpu-pool 1->2 (max: 4)}]"), True, "no node has one free. The server starts when another one with a GPU stops; or stop it, and start it without. The cluster is adding a node for it"),
        (make_event("Nominated", "Pod should schedule on: nodeclaim/gpu-abc"), True, "The cluster is adding a node for it, which takes some minutes."),
        (make_event("NotTriggerScaleUp", "pod didn't trigger scale-up: 1 max node group size reached"), False, "The cluster can't add a node for it (1 max node group size reached)."),
    ],
)
def test_the_cluster_grows_or_can_not(event: dict[str, Any], grows: bool, words: str) -> None:
    waiting = explain(make_pod(unplaced=UNPLACED[0][0]), [make_event("FailedScheduling", UNPLACED[0][0]), event], 0.1)
    assert waiting is not None and waiting.grows is grows and words in waiting.message and isinstance(waiting.error, GPUUnavailable)


def test_another_kind_of_gpu() -> None:
    text = "0/1 nodes are available: 1 Insufficient amd.com/gpu. preemption: not eligible due to preemptionPolicy=Never."
    waiting = explain(make_pod(unplaced=text), [], 0.1, "amd.com/gpu")
    assert waiting is not None and isinstance(waiting.error, GPUUnavailable)


PULLS: list[tuple[str, str, type[HubDockError], bool, str]] = [
    ("ErrImagePull", 'rpc error: code = NotFound desc = failed to pull and unpack image "r/i@sha256:0": failed to resolve reference "r/i@sha256:0": r/i@sha256:0: not found', ImageGone, True, "not in the registry any more"),
    ("ImagePullBackOff", 'Back-off pulling image "r/i@sha256:0": ErrImagePull: rpc error: code = NotFound desc = r/i@sha256:0: not found', ImageGone, True, "not in the registry any more"),
    ("ErrImagePull", "failed to authorize: failed to fetch oauth token: unexpected status from GET request: 401 Unauthorized", RegistryUnavailable, True, "image_pull_secrets"),
    (
        "ErrImagePull", 'failed to pull and unpack image "10.89.0.1:1/x/gone:1": failed to resolve reference "10.89.0.1:1/x/gone:1": failed to do request: '
        'Head "https://10.89.0.1:1/v2/x/gone/manifests/1": dial tcp 10.89.0.1:1: connect: connection refused', RegistryUnavailable, False, "does not answer the node",
    ),
    ("ErrImagePull", "failed to copy: write /var/lib/containerd/x: no space left on device", OutOfSpace, False, "no disk space left for the image"),
    ("InvalidImageName", 'Failed to apply default image tag "R:": couldn\'t parse image name', ImageGone, True, "not in the registry"),
    ("CreateContainerConfigError", "container has runAsNonRoot and image has non-numeric user (jovyan), cannot verify user is non-root", LaunchError, True, "The node n1 can't start the server: container has runAsNonRoot"),
    ("CreateContainerConfigError", 'failed to create subPath directory for volumeMount "hubdock-1" of container "notebook"', DataGone, True, "The data was removed from the store"),
]


@pytest.mark.parametrize(("reason", "text", "kind", "final", "words"), PULLS)
def test_a_container_that_can_not_be_made(reason: str, text: str, kind: type[HubDockError], final: bool, words: str) -> None:
    waiting = explain(make_pod(node="n1", started=True, waiting=(reason, text)), [make_event("Pulling", "Pulling image")], 1)
    assert waiting is not None and type(waiting.error) is kind and waiting.final is final and words in waiting.message, waiting
    assert waiting.error.detail == text


@pytest.mark.parametrize(
    ("events", "grows", "words"),
    [
        ([make_event("Scheduled"), make_event("Pulling", 'Pulling image "r/i@sha256:0"')], True, "The node n1 loads the image"),
        ([make_event("FailedMount", 'MountVolume.SetUp failed for volume "data" : mount failed: exit status 32')], False, "can't mount a volume of the server, and tries again: MountVolume.SetUp failed"),
        ([make_event("FailedAttachVolume", 'Multi-Attach error for volume "pvc-1" Volume is already used by pod(s) jupyter-ada')], False, "still held by another node"),
        ([make_event("FailedCreatePodSandBox", "Failed to create pod sandbox: plugin type=bridge failed (add): no IP addresses available in range")], False, "can't connect the server to the network"),
        ([make_event("Pulling"), make_event("Pulled")], False, "prepares the server's volumes and network"),
        ([], False, "prepares the server's volumes and network"),
    ],
)
def test_a_node_at_work(events: list[dict[str, Any]], grows: bool, words: str) -> None:
    waiting = explain(make_pod(node="n1", started=True, waiting=("ContainerCreating", "")), events, 10)
    assert waiting is not None and waiting.grows is grows and words in waiting.message and not waiting.final


BUILDS: list[tuple[dict[str, Any], str]] = [
    (make_pod(unplaced=f"0/1 nodes are available: 1 Insufficient cpu. {TAIL}"), "There is no room for 4 CPU on the only node now: 1 node has too little free CPU. It starts when others end."),
    (make_pod(unplaced=f"0/1 nodes are available: 1 node(s) were unschedulable. {TAIL}"), "No node can take the build: 1 node is closed for maintenance (cordoned)."),
    (make_pod(unplaced=f"0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector. {TAIL}"), "1 node is not meant for builds (labels). It starts when others end."),
    (
        make_pod(unplaced="0/1 nodes are available: 1 node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already in-use by another pod."),
        "The build waits for the one before it, which has its volume.",
    ),
    (make_pod(unplaced="pod has unbound immediate PersistentVolumeClaims"), "The storage for the build is not there yet."),
    (make_pod(node="n1", started=True, waiting=PULLS[0][:2]), "The node n1 can't load the image r/i:1: it is not in its registry. Tell an administrator."),
    (make_pod(node="n1", started=True, waiting=PULLS[2][:2]), "The node n1 can't load the image r/i:1: its registry refuses it."),
    (make_pod(node="n1"), "The node n1 was chosen 40 s ago and has said nothing since: it may be down. Stop the build and start it again"),
]


@pytest.mark.parametrize(("pod", "words"), BUILDS)
def test_a_build_is_called_one(pod: dict[str, Any], words: str) -> None:
    """What it waits for is told as of a server, and never ends it: an image of the settings is nobody's to make anew."""
    for status in pod["status"].get("containerStatuses") or ():
        status["image"] = "r/i:1"
    waiting = explain(pod, [], 40, subject=BUILD)
    assert waiting is not None and words in waiting.message and "server" not in waiting.message and not waiting.final


def test_a_node_that_is_silent_is_told_from_its_silence() -> None:
    pod = make_pod(node="n1")
    assert find_stage(pod) is Stage.PLACED and explain(pod, [make_event("Scheduled")], SILENCE - 1) is None
    waiting = explain(pod, [make_event("Scheduled")], 40)
    assert waiting is not None and "The node n1 was chosen 40 s ago and has said nothing since: it may be down" in waiting.message
    assert SILENCE < 60


def test_what_goes_well_is_not_talked_about() -> None:
    for pod in (make_pod(), make_pod(node="n1"), make_pod(node="n1", started=True), make_pod(node="n1", started=True, waiting=("ContainerCreating", "")), make_pod(node="n1", phase="Running")):
        assert explain(pod, [], 1) is None


def test_a_scheduler_that_is_silent() -> None:
    waiting = explain(make_pod(), [], SILENCE + 1)
    assert waiting is not None and "scheduler" in waiting.message


@pytest.mark.parametrize(
    ("pod", "kind", "words"),
    [
        (make_pod(node="n", phase="Failed", terminated={"exitCode": 1, "reason": "Error"}), LaunchError, "ended while it was starting (exit code 1)"),
        (make_pod(node="n", phase="Failed", terminated={"exitCode": 137, "reason": "OOMKilled"}), LaunchError, "killed for the memory it took. Start it again with more memory"),
        (make_pod(node="n", phase="Failed", reason="Evicted", message="The node was low on resource: memory. Threshold quantity: 100Mi"), OutOfMemory, "ran short: The node was low on resource: memory."),
        (make_pod(node="n", phase="Failed", reason="Evicted", message="The node was low on resource: ephemeral-storage."), OutOfSpace, "ephemeral-storage"),
        (make_pod(node="n", phase="Failed", reason="OutOfnvidia.com/gpu", message="Pod was rejected: Node didn't have enough resource"), CapacityError, "had no room left"),
        (make_pod(node="n", phase="Failed", reason="UnexpectedAdmissionError", message="Pod was rejected: Allocate failed"), CapacityError, "had no room left"),
        (make_pod(node="n", phase="Failed", conditions=[{"type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager"}]), BackendError, "node went away"),
        (make_pod(node="n", phase="Failed", reason="DeadlineExceeded", message="Pod was active too long"), LaunchError, "(DeadlineExceeded). Pod was active too long"),
    ],
)
def test_a_pod_that_ended(pod: dict[str, Any], kind: type[HubDockError], words: str) -> None:
    assert find_stage(pod) is Stage.ENDED
    error = explain_end(pod)
    assert type(error) is kind and words in error.message
