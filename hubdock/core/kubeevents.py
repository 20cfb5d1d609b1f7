"""What a pod waits for, in words for whoever waits: read from the pod's own status and its events, as the API server gives them.

https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/ and the sources of scheduler, kubelet and cluster-autoscaler say what stands in them. The texts that
they write are no API and change from release to release: what is not known is handed on as it is, never guessed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from hubdock.core.errors import (
    BackendError,
    CapacityError,
    GPUUnavailable,
    HubDockError,
    ImageGone,
    LaunchError,
    OutOfMemory,
    OutOfSpace,
    RegistryUnavailable,
)
from hubdock.core.lost import make_data_gone
from hubdock.core.resources import format_bytes
from hubdock.core.text import make_plain

Pod = Mapping[str, Any]
Events = Sequence[Mapping[str, Any]]
SILENCE = 20.0  # seconds after which a node that was given a pod and says nothing of it is told
PATIENCE = 5.0  # seconds in which nothing has to be said yet


class Stage(StrEnum):
    """How far a pod is. Each is left for the next, or for `ENDED`."""

    NEW = "new"  # the scheduler has not looked at it
    UNPLACED = "unplaced"  # it has, and no node will do
    PLACED = "placed"  # a node was chosen, whose kubelet has said nothing of it
    PREPARED = "prepared"  # the kubelet is at it: volumes, network, image
    RUNNING = "running"
    ENDED = "ended"


@dataclass(frozen=True)
class Subject:
    """What waits, as it is called. ``relief`` says when there is room for it, ``less`` what its user can do; ``volume`` is what it needs besides."""

    name: str
    relief: str
    less: str
    volume: str


SERVER = Subject("server", "It starts when other servers stop", "; or start it with less", "workspace")
BUILD = Subject("build", "It starts when others end", "", "build")


@dataclass(frozen=True)
class Waiting:
    """Why a pod waits. ``error`` is what to raise when nobody wants to wait any longer; at once if it is ``final``: waiting can't help."""

    error: HubDockError
    final: bool = False
    grows: bool = False

    @property
    def message(self) -> str:
        """What to tell meanwhile."""
        return self.error.message


def find_stage(pod: Pod) -> Stage:
    """Return how far a pod is."""
    status = pod.get("status") or {}
    if status.get("phase") in {"Succeeded", "Failed"} or _find_terminated(pod) is not None:
        return Stage.ENDED
    if status.get("phase") == "Running":
        return Stage.RUNNING
    if not (pod.get("spec") or {}).get("nodeName"):
        return Stage.UNPLACED if _find_condition(pod, "PodScheduled").get("status") == "False" else Stage.NEW
    return Stage.PREPARED if status.get("startTime") or status.get("containerStatuses") else Stage.PLACED


def explain(pod: Pod, events: Events, waited: float, gpu_resource: str = "nvidia.com/gpu", subject: Subject = SERVER) -> Waiting | None:
    """Return why a pod does not run yet, None while there is nothing to say. ``waited``: the seconds for which it has been at its stage."""
    stage, node = find_stage(pod), (pod.get("spec") or {}).get("nodeName") or ""
    if stage is Stage.NEW:
        late = f"The cluster's scheduler has not looked at the {subject.name} yet. It may be down: tell an administrator."
        return Waiting(BackendError(late)) if waited > SILENCE else None
    if stage is Stage.UNPLACED:
        return _explain_unplaced(pod, events, gpu_resource, subject)
    if stage is Stage.PLACED:
        return _explain_silence(node, waited, subject)
    if stage is Stage.PREPARED:
        return _explain_container(pod, node, subject) or _explain_preparation(events, node, waited, subject)
    return None


def explain_end(pod: Pod) -> HubDockError:
    """Return the error of a pod that ended."""
    status, ended = pod.get("status") or {}, _find_terminated(pod) or {}
    reason, text = str(ended.get("reason") or status.get("reason") or ""), make_plain(str(ended.get("message") or status.get("message") or ""), 500)
    if reason == "OOMKilled":
        return LaunchError("The server was killed for the memory it took. Start it again with more memory.", text)
    if reason == "Evicted":
        kind = OutOfSpace if "ephemeral-storage" in text or "disk" in text.lower() else OutOfMemory if "memory" in text else LaunchError
        return kind(f"The node put the server out, for it ran short: {text} Start it again.", text)
    if reason.startswith("OutOf") or reason == "UnexpectedAdmissionError":
        return CapacityError("The node that was chosen had no room left when the server came to it. Start it again.", f"{reason}: {text}")
    if reason in {"NodeLost", "NodeShutdown", "Terminated", "NodeAffinity"} or _find_condition(pod, "DisruptionTarget").get("status") == "True":
        return BackendError("The server's node went away. Start it again.", f"{reason}: {text}")
    if "exitCode" in ended:
        return LaunchError(f"The server ended while it was starting (exit code {ended['exitCode']}).", f"{reason}: {text}")
    return LaunchError(f"The server ended while it was starting{f' ({reason})' if reason else ''}. {text}".strip(), text)


# --- no node yet ---

_NODES = re.compile(r"(?P<ready>\d+)/(?P<all>\d+) nodes are available: (?P<reasons>.*?)(?:\. |\.?$)", re.S)
_REASON = re.compile(r"(\d+) (.+?)(?=, \d+ |$)", re.S)
_TAINT = re.compile(r"untolerated taint(?:\(s\))? \{([^:}]*)")
_TAINTS = {
    "node.kubernetes.io/unschedulable": "closed", "node.kubernetes.io/unreachable": "away", "node.kubernetes.io/not-ready": "away", "node.kubernetes.io/disk-pressure": "disk",
    "node.kubernetes.io/memory-pressure": "memory", "node.kubernetes.io/pid-pressure": "pods",
}  # fmt: skip
_PATTERNS = (
    ("cpu", r"Insufficient cpu$"), ("memory", r"Insufficient memory$"), ("disk", r"Insufficient ephemeral-storage$"), ("pods", r"Too many pods|Insufficient pods$"),
    ("closed", r"were unschedulable"), ("elsewhere", r"volume node affinity conflict|no available volume zone"), ("labels", r"didn't match Pod's node affinity|didn't match node selector"),
    ("busy", r"ReadWriteOncePod access mode already in-use"), ("storage", r"didn't find available persistent volumes"), ("volumes", r"exceed max volume count"), ("ports", r"free ports"),
)  # fmt: skip
_SHORT = {
    "cpu": "{n} {have} too little free CPU", "memory": "{n} {have} too little free memory", "disk": "{n} {are} short of disk space", "pods": "{n} {are} full", "ports": "{n} {are} full",
    "closed": "{n} {are} closed for maintenance (cordoned)", "away": "{n} {do} not answer", "reserved": "{n} {are} reserved for other work (taints)",
    "labels": "{n} {are} not meant for {name}s (labels)", "elsewhere": "{n} can't reach the {volume}'s volume", "storage": "{n} {have} no storage for the {volume}",
    "volumes": "{n} {have} too many volumes", "gpu": "{n} {have} no free GPU", "busy": "{n} {have} another pod on its volume",
}  # fmt: skip


def _explain_unplaced(pod: Pod, events: Events, gpu_resource: str, subject: Subject) -> Waiting:
    text = str(_find_condition(pod, "PodScheduled").get("message") or _find_last(events, {"FailedScheduling"}).get("message") or "")
    waiting = _explain_nodes(pod, text, gpu_resource, subject)
    scaling = _find_last(events, {"TriggeredScaleUp", "NotTriggerScaleUp", "Nominated"})
    if scaling.get("reason") in {"TriggeredScaleUp", "Nominated"}:
        error = type(waiting.error)(f"{waiting.message} The cluster is adding a node for it, which takes some minutes.", waiting.error.detail)
        return Waiting(error, grows=True)
    if scaling:
        cause = make_plain(str(scaling.get("message", "")).partition(": ")[2], 200)
        return Waiting(type(waiting.error)(f"{waiting.message} The cluster can't add a node for it{f' ({cause})' if cause else ''}.", waiting.error.detail))
    return waiting


def _explain_nodes(pod: Pod, text: str, gpu_resource: str, subject: Subject) -> Waiting:
    found = _NODES.search(text)
    if found is None or re.search(r"persistentvolumeclaim(?! with ReadWriteOncePod)", found["reasons"], re.I):
        return _explain_other(text, subject)
    total = int(found["all"])
    kinds = _count_reasons(found["reasons"], gpu_resource)
    nodes = "the only node" if total == 1 else f"any of the {total} nodes"
    if not kinds:
        return Waiting(CapacityError(f"No node can take the {subject.name}: {make_plain(found['reasons'], 300)}", text))
    if "gpu" in kinds:
        asked = _find_request(pod, gpu_resource) or "1"
        lacks = f"{asked} GPU{'s were' if asked != '1' else ' was'} asked for, and no node has {'that many' if asked != '1' else 'one'} free."
        rest = {kind: count for kind, count in kinds.items() if kind != "gpu"}
        more = f" ({_join(rest, subject)})" if rest else ""
        return Waiting(GPUUnavailable(f"{lacks}{more} The {subject.name} starts when another one with a GPU stops; or stop it, and start it without.", text, field="gpu"))
    if set(kinds) == {"storage"}:
        return _explain_storage(text, subject)
    if set(kinds) == {"busy"}:
        return Waiting(CapacityError(f"The {subject.name} waits for the one before it, which has its volume.", text))
    if set(kinds) <= {"closed", "away"}:
        return Waiting(BackendError(f"No node can take the {subject.name}: {_join(kinds, subject)}. It starts when a node is back; an administrator can tell when.", text))
    wants = {kind: _find_request(pod, kind) for kind in ("cpu", "memory") if kind in kinds and _find_request(pod, kind)}
    asked = " and ".join(f"{value} {'CPU' if kind == 'cpu' else 'of memory'}" for kind, value in wants.items())
    message = f"There is no room for {asked} on {nodes} now: {_join(kinds, subject)}." if asked else f"No node can take the {subject.name} now: {_join(kinds, subject)}."
    return Waiting(CapacityError(f"{message} {subject.relief}{subject.less if asked else ''}.", text))


def _explain_other(text: str, subject: Subject) -> Waiting:
    if "no nodes available" in text:
        return Waiting(BackendError(f"The cluster has no node to start {subject.name}s on. Tell an administrator.", text))
    missing = re.search(r'persistentvolumeclaim "([^"]+)" not found', text)
    if missing:
        return Waiting(BackendError(f"The volume {missing[1]} does not exist. Start again; if that does not help, tell an administrator.", text))
    if "persistentvolumeclaim" in text.lower():
        return _explain_storage(text, subject)
    return Waiting(CapacityError(f"No node can take the {subject.name} yet: {make_plain(text, 300) or 'the scheduler does not say why'}", text))


def _explain_storage(text: str, subject: Subject) -> Waiting:
    return Waiting(BackendError(f"The storage for the {subject.volume} is not there yet. If that stays so, the storage class is missing or full: tell an administrator.", text))


def _count_reasons(text: str, gpu_resource: str) -> dict[str, int]:
    """Return how many nodes are out for each reason that is known; none if there is one that is not."""
    kinds: dict[str, int] = {}
    for count, reason in _REASON.findall(text):
        taint = _TAINT.search(reason)
        kind = _TAINTS.get(taint[1].strip(), "reserved") if taint else "gpu" if reason == f"Insufficient {gpu_resource}" else ""
        kind = kind or next((name for name, pattern in _PATTERNS if re.search(pattern, reason)), "")
        if not kind:
            return {}
        kinds[kind] = kinds.get(kind, 0) + int(count)
    return kinds


def _join(kinds: Mapping[str, int], subject: Subject) -> str:
    shown = []
    for kind, count in kinds.items():
        one = count == 1
        verbs = {"have": "has" if one else "have", "are": "is" if one else "are", "do": "does" if one else "do"}
        shown.append(_SHORT[kind].format(n=f"{count} node{'' if one else 's'}", name=subject.name, volume=subject.volume, **verbs))
    return ", ".join(shown)


# --- a node, and nothing that runs on it ---

_PULLS = (
    (ImageGone, "The image is not in the registry any more. Start again: it is made anew.", True, r"not found|manifest unknown|does not exist|NotFound|InvalidImageName", "it is not in its registry"),
    (RegistryUnavailable, "The cluster may not load the image: the registry refuses it. An administrator can check image_pull_secrets.", True, r"unauthorized|authentication required|denied|forbidden|\b40[13]\b", "its registry refuses it"),
    (OutOfSpace, "The node has no disk space left for the image. Tell an administrator.", False, r"no space left", "there is no disk space left for it"),
    (RegistryUnavailable, "The registry does not answer the node, which tries again. If that stays so, tell an administrator.", False, r"", "its registry does not answer"),
)  # fmt: skip


def _explain_silence(node: str, waited: float, subject: Subject) -> Waiting | None:
    if waited < SILENCE:
        return None
    return Waiting(
        BackendError(f"The node {node} was chosen {waited:.0f} s ago and has said nothing since: it may be down. Stop the {subject.name} and start it again, or tell an administrator.")
    )


def _explain_container(pod: Pod, node: str, subject: Subject) -> Waiting | None:
    """Why a container waits, by its own status."""
    for status in (pod.get("status") or {}).get("containerStatuses") or ():
        state = (status.get("state") or {}).get("waiting") or {}
        reason, text = str(state.get("reason") or ""), str(state.get("message") or "")
        if reason in {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable"}:
            kind, message, final, _, short = next(found for found in _PULLS if re.search(found[3], f"{reason} {text}", re.I))
            if subject is BUILD:  # an image of the settings, which nobody makes anew
                return Waiting(RegistryUnavailable(f"The node {node} can't load the image {status.get('image')}: {short}. Tell an administrator.", text))
            return Waiting(kind(message, text), final)
        if "subPath" in text:
            return Waiting(make_data_gone(text), True)
        if reason in {"CreateContainerConfigError", "CreateContainerError", "RunContainerError"}:
            return Waiting(LaunchError(f"The node {node} can't start the {subject.name}: {make_plain(text, 300)}. Tell an administrator.", text), True)
    return None


def _explain_preparation(events: Events, node: str, waited: float, subject: Subject) -> Waiting | None:
    """What the kubelet is at, by its latest event."""
    last = _find_last(events, {"Pulling", "Pulled", "FailedMount", "FailedAttachVolume", "SuccessfulAttachVolume", "FailedCreatePodSandBox", "Created"})
    text = make_plain(str(last.get("message") or ""), 300)
    if last.get("reason") == "Pulling":
        return Waiting(LaunchError(f"The node {node} loads the image, which it does not have yet. This takes longer the first time.", text), grows=True)
    if last.get("reason") in {"FailedMount", "FailedAttachVolume"}:
        if "Multi-Attach" in text:
            return Waiting(BackendError(f"The {subject.volume}'s volume is still held by another node. It lets go of it within some minutes.", text))
        return Waiting(BackendError(f"The node {node} can't mount a volume of the {subject.name}, and tries again: {text}", text))
    if last.get("reason") == "FailedCreatePodSandBox":
        return Waiting(BackendError(f"The node {node} can't connect the {subject.name} to the network, and tries again. Tell an administrator if that stays so.", text))
    return Waiting(BackendError(f"The node {node} prepares the {subject.name}'s volumes and network.")) if waited > PATIENCE else None


# --- reading what the API server gives ---


def _find_condition(pod: Pod, kind: str) -> Mapping[str, Any]:
    return next((found for found in (pod.get("status") or {}).get("conditions") or () if found.get("type") == kind), {})


def _find_terminated(pod: Pod) -> Mapping[str, Any] | None:
    states: Iterable[Any] = ((status.get("state") or {}).get("terminated") for status in (pod.get("status") or {}).get("containerStatuses") or ())
    return next((state for state in states if state), None)


def _find_last(events: Events, reasons: set[str]) -> Mapping[str, Any]:
    return next((event for event in reversed(events) if event.get("reason") in reasons), {})


def _find_request(pod: Pod, resource: str) -> str:
    """Return how much the pod asks for; empty if it asks for none. What is only limited is reserved as well."""
    for container in (pod.get("spec") or {}).get("containers") or ():
        wanted = container.get("resources") or {}
        value = (wanted.get("requests") or {}).get(resource) or (wanted.get("limits") or {}).get(resource)
        if value:
            return _show_amount(resource, str(value))
    return ""


def _show_amount(resource: str, value: str) -> str:
    """Return an amount without the units that the API server writes: 0.5 for ``500m``, 8G for ``8589934592``."""
    if resource == "memory" and value.isdigit():
        return format_bytes(int(value))
    return f"{float(value[:-1]) * (1000 if value[-1] == 'k' else 0.001):g}" if resource == "cpu" and value[-1] in "km" else value
