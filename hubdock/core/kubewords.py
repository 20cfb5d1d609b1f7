"""Why a pod does not run yet, in plain words: from its own status and the events about it (https://kubernetes.io/docs/reference/kubernetes-api/)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

# What the scheduler says of nodes, and what that means. The first that fits counts: a node that is closed needs somebody, one that is full needs time.
_UNSCHEDULABLE = (
    (re.compile(r"Insufficient ([a-z0-9.-]+/[a-z0-9.-]*gpu[a-z0-9.-]*)", re.I), "no node has a GPU free: it starts when one is, or when a node with one comes"),
    (re.compile(r"Insufficient (?:memory|cpu)", re.I), "no node has enough free {what}: it starts when others end, or when a node comes"),
    (re.compile(r"Insufficient ephemeral-storage", re.I), "no node has enough free disk"),
    (re.compile(r"ReadWriteOncePod access mode already in-use", re.I), "waits for the build before it, which has its cache volume"),
    (re.compile(r"unbound immediate PersistentVolumeClaims|persistentvolumeclaim .* not found|waiting for .* volume", re.I), "waits for its volume"),
    (re.compile(r"were unschedulable", re.I), "no node takes new work: an administrator has closed them"),
    (re.compile(r"untolerated taint", re.I), "the nodes are kept for other work: an administrator has to allow it there"),
    (re.compile(r"didn't match Pod's node affinity/selector|no nodes available", re.I), "there is no node of the kind that it needs"),
)
_WAITING = {
    "ErrImagePull": "the image {image} can't be pulled", "ImagePullBackOff": "the image {image} can't be pulled", "InvalidImageName": "{image} is no image's name",
    "ErrImageNeverPull": "the image {image} is not on the node", "CreateContainerConfigError": "a part of its settings is missing on the cluster",
    "CreateContainerError": "its container can't be made", "RunContainerError": "its container can't be started",
}  # fmt: skip
_PULL_PROBLEMS = ((re.compile(r"not found|manifest unknown", re.I), "it is not in its registry"), (re.compile(r"unauthorized|denied|forbidden|401|403"), "its registry refuses it"))


def explain_pod(pod: Mapping[str, Any], events: Iterable[Mapping[str, Any]] = ()) -> str:
    """Return why a pod that is not running yet waits, without a capital or a stop; the empty string if there is nothing to say. Events count if newest last."""
    status = pod.get("status") or {}
    told = list(events)
    for entry in [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]:
        waiting = (entry.get("state") or {}).get("waiting") or {}
        words = _WAITING.get(str(waiting.get("reason")))
        if words:
            return _add_reason(words.format(image=entry.get("image") or "of the pod"), str(waiting.get("message") or ""), told)
    for condition in status.get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False" and condition.get("reason") == "Unschedulable":
            return _explain_unschedulable(str(condition.get("message") or ""), told)
    return _explain_events(told)


def _add_reason(words: str, message: str, events: list[Mapping[str, Any]]) -> str:
    text = " ".join([message, *(str(event.get("message")) for event in events if event.get("reason") == "Failed")])
    reason = next((reason for pattern, reason in _PULL_PROBLEMS if pattern.search(text)), "") if "image" in words else message[:200]
    return f"{words}: {reason}" if reason else words


def _explain_unschedulable(message: str, events: list[Mapping[str, Any]]) -> str:
    if any(event.get("reason") == "TriggeredScaleUp" for event in events):
        return "the cluster adds a node, which takes some minutes"
    for pattern, words in _UNSCHEDULABLE:
        if pattern.search(message):
            lacking = [what for word, what in (("cpu", "CPU"), ("memory", "memory")) if re.search(rf"Insufficient {word}", message)]
            return words.format(what=" and ".join(lacking))
    return f"no node takes it: {message[:200]}" if message else "no node takes it"


def _explain_events(events: list[Mapping[str, Any]]) -> str:
    for event in reversed(events):
        reason, message = event.get("reason"), str(event.get("message") or "")
        if reason == "Pulling":
            return f"pulling {message.partition('image ')[2].strip(chr(34)) or 'its image'}"
        if reason in {"FailedMount", "FailedAttachVolume"}:
            return f"its volume can't be mounted yet: {message[:200]}"
        if reason == "FailedCreate":
            return explain_refusal(message)
        if reason == "FailedCreatePodSandBox":
            return "the node can't make its network yet"
    return ""


def explain_refusal(message: str) -> str:
    """Return in plain words why the API server let no pod be made: a quota, or the namespace's pod security standard."""
    quota = re.search(r"exceeded quota: ([^,]+), requested: ([^ ]+?),? used: ([^ ]+?),? limited: (\S+)", message)
    if quota:
        return f"the quota of the cluster's namespace is used up ({quota[1]}: {quota[2]} wanted, {quota[3]} of {quota[4]} in use)"
    if "exceeded quota" in message or "must specify" in message:
        return "the quota of the cluster's namespace does not allow it: an administrator has to look at it"
    if "violates PodSecurity" in message:
        return "the namespace's pod security standard does not allow it: an administrator has to label the namespace"
    return f"the cluster refuses its pod: {message[:200]}"
