"""KubeSpawner with other defaults. An admin may set each of them anew, as ever."""

from __future__ import annotations

from typing import Any

from kubespawner import KubeSpawner
from traitlets import default


class DefaultKubeSpawner(KubeSpawner):  # type: ignore[misc]
    """One claim for each server that nothing deletes by the way, and pods that the security standard *restricted* lets in
    (https://kubernetes.io/docs/concepts/security/pod-security-standards/)."""

    @default("image_pull_policy")
    def _pull_once(self) -> str:
        return "IfNotPresent"  # an image is launched by its digest, which never stands for another

    @default("automount_service_account_token")
    def _no_token(self) -> bool:
        return False

    @default("uid")
    def _jovyan(self) -> int:
        return 1000

    @default("gid")
    def _users(self) -> int:
        return 100

    @default("fs_gid")
    def _volumes_of_users(self) -> int:
        return 100

    @default("container_security_context")
    def _restricted_container(self) -> dict[str, Any]:
        return {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}

    @default("pod_security_context")
    def _restricted_pod(self) -> dict[str, Any]:
        # Only the root of a volume is looked at: going through all files of a workspace takes minutes.
        return {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}, "fsGroupChangePolicy": "OnRootMismatch"}

    @default("storage_pvc_ensure")
    def _make_claim(self) -> bool:
        return True

    @default("storage_capacity")
    def _capacity(self) -> str:
        return "10Gi"

    @default("pvc_name_template")
    def _claim_name(self) -> str:
        return "hubdock-{user_server}"

    @default("delete_pvc")
    def _keep_claim(self) -> bool:
        return False  # people delete servers, and idle-cullers do; work is deleted on the page of workspaces
