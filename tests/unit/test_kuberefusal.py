"""What an API server means that refuses a pod or a claim: texts of real admission plugins."""

from __future__ import annotations

import json

import pytest

from hubdock.core.errors import BackendError, CapacityError, ConfigError, GPUUnavailable, HubDockError, LaunchError
from hubdock.core.kuberefusal import explain_refusal, read_message

POD = 'pods "jupyter-ada" is forbidden: '
REFUSALS: list[tuple[int, str, type[HubDockError], str]] = [
    (403, POD + "exceeded quota: team, requested: requests.nvidia.com/gpu=1, used: requests.nvidia.com/gpu=2, limited: requests.nvidia.com/gpu=2", GPUUnavailable, "The team's quota is full (2 GPU in all, 2 GPU in use, 1 GPU asked for). The server can start when another one stops or without a GPU."),
    (403, POD + "exceeded quota: team, requested: limits.cpu=1500m,limits.memory=4294967296, used: limits.cpu=3,limits.memory=6Gi, limited: limits.cpu=4,limits.memory=8Gi", CapacityError, "(4 CPU in all, 3 CPU in use, 1.5 CPU asked for; 8G memory in all, 6G memory in use, 4G memory asked for)"),
    (403, POD + "exceeded quota: few, requested: pods=1, used: pods=3, limited: pods=3", CapacityError, "3 servers in all, 3 servers in use, 1 servers asked for"),
    (403, 'persistentvolumeclaims "hubdock-work" is forbidden: exceeded quota: s, requested: requests.storage=10Gi, used: requests.storage=95Gi, limited: requests.storage=100Gi', CapacityError, "100G storage in all, 95G storage in use, 10G storage asked for"),
    (403, POD + "failed quota: team: must specify limits.cpu for: notebook; limits.memory for: notebook", ConfigError, "set HubDock.default_resources"),
    (403, POD + "maximum memory usage per Container is 1Gi, but limit is 2Gi", CapacityError, "at most 1G of memory; 2G were asked for"),
    (403, POD + "[maximum cpu usage per Container is 1, but limit is 4, maximum memory usage per Container is 1Gi, but limit is 2Gi]", CapacityError, "at most 1 of CPU; 4 were asked for"),
    (403, POD + "minimum memory usage per Container is 1Gi, but request is 64Mi.", CapacityError, "at least 1G of memory; 64M were asked for"),
    (403, POD + "exceeded quota: q, requested: limits.memory=2Gi,requests.nvidia.com/gpu=1, used: limits.memory=0,requests.nvidia.com/gpu=1, limited: limits.memory=1Gi,requests.nvidia.com/gpu=0", GPUUnavailable, "(1G memory in all, 0 bytes memory in use, 2G memory asked for; 0 GPU in all, 1 GPU in use, 1 GPU asked for)"),
    (403, POD + "[minimum cpu usage per Container is 100m, but request is 10m, maximum memory usage per Container is 1Gi, but limit is 2Gi]", CapacityError, "at least 0.1 of CPU; 0.01 were asked for"),
    (403, POD + 'violates PodSecurity "restricted:latest": privileged (container "notebook" must not set securityContext.privileged=true), allowPrivilegeEscalation != false (container "notebook" must set securityContext.allowPrivilegeEscalation=false)', ConfigError, "pod security standard (restricted:latest) refuses the server: privileged"),
    (403, 'pods is forbidden: User "system:serviceaccount:hub:hub" cannot create resource "pods" in API group "" in the namespace "hub"', ConfigError, "its service account lacks a permission"),
    (401, "Unauthorized", ConfigError, "lacks a permission"),
    (404, 'namespaces "gone" not found', ConfigError, "namespace of the servers does not exist"),
    (422, 'Pod "jupyter-ada" is invalid: spec.containers[0].volumeMounts[2].name: Not found: "data"', LaunchError, "Kubernetes does not accept the server: Pod"),
    (400, 'admission webhook "validate.kyverno.svc-fail" denied the request: policy disallow-latest', ConfigError, "A policy of the cluster (validate.kyverno.svc-fail) refuses the server: policy disallow-latest"),
    (500, "etcdserver: leader changed", BackendError, "does not answer as it should. Try again"),
]


@pytest.mark.parametrize(("status", "message", "kind", "words"), REFUSALS)
def test_refusals_in_words(status: int, message: str, kind: type[HubDockError], words: str) -> None:
    error = explain_refusal(status, json.dumps({"kind": "Status", "message": message, "code": status}))
    assert type(error) is kind and words in error.message, error.message
    assert message.strip() in error.detail


@pytest.mark.parametrize("body", ["<html>bad gateway</html>", "", "[]", "null", '"text"'])
def test_an_answer_that_is_no_api_server_s(body: str) -> None:
    assert read_message(body) == body and isinstance(explain_refusal(502, body), BackendError)


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (
            'Error creating: pods "x" is forbidden: exceeded quota: build-quota, requested: requests.memory=2Gi, used: requests.memory=8Gi, limited: requests.memory=8Gi',
            "The quota of the builds' namespace is full (8G memory in all, 8G memory in use, 2G memory asked for). The build starts when others end.",
        ),
        ('Error creating: pods "x" is forbidden: exceeded quota: full, requested: pods=1, used: pods=0, limited: pods=0', "(0 builds in all, 0 builds in use, 1 builds asked for)"),
        ('Error creating: pods "x" is forbidden: failed quota: q: must specify limits.cpu', "wants every build to have limits: set HubDock.kube_build_resources"),
        ('Error creating: pods "x" is forbidden: violates PodSecurity "restricted:latest": seccompProfile', "(restricted:latest) refuses the build: seccompProfile"),
        ("Error creating: something new", "Kubernetes does not accept the build: Error creating: something new"),
    ],
)
def test_a_build_that_gets_no_pod(message: str, words: str) -> None:
    assert words in explain_refusal(422, message, "build").message
