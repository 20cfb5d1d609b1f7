"""The baseline: stock DockerSpawner or KubeSpawner with an image that is ready, as a team would configure it. Ports and image come from the benchmark."""

import json
import os

c = get_config()  # noqa: F821
given = json.loads(os.environ["HUBDOCK_TEST_CONFIG"])
c.JupyterHub.authenticator_class = "shared-password"
c.SharedPasswordAuthenticator.user_password = given["password"]
c.Authenticator.allowed_users = set(given["users"])
c.JupyterHub.bind_url = given["url"]
c.JupyterHub.hub_ip = given["gateway"]
c.JupyterHub.hub_port = given["hub_port"]
c.JupyterHub.allow_named_servers = True
c.ConfigurableHTTPProxy.command = [given["proxy"]]
c.ConfigurableHTTPProxy.api_url = f"http://127.0.0.1:{given['proxy_port']}"
c.ConfigurableHTTPProxy.pid_file = os.path.abspath("proxy.pid")
c.JupyterHub.services = [{"name": "test", "api_token": given["token"]}]
c.JupyterHub.load_roles = [{"name": "test", "services": ["test"], "scopes": ["admin:users", "admin:servers", "access:servers", "tokens"]}]

if "namespace" in given:
    c.JupyterHub.hub_connect_ip = given["gateway"]
    c.JupyterHub.spawner_class = "kubespawner.KubeSpawner"
    c.KubeSpawner.namespace = given["namespace"]
    c.KubeSpawner.image = given["image"]
    c.KubeSpawner.cmd = ["jupyterhub-singleuser"]
    c.KubeSpawner.fs_gid = 100
    # A volume for each server, by the spawner's own template, as zero-to-jupyterhub has it.
    c.KubeSpawner.storage_pvc_ensure = True
    c.KubeSpawner.storage_capacity = "1Gi"
    c.KubeSpawner.volumes = [{"name": "home", "persistentVolumeClaim": {"claimName": "claim-{user_server}"}}]
    c.KubeSpawner.volume_mounts = [{"name": "home", "mountPath": "/home/jovyan"}]
else:
    c.JupyterHub.spawner_class = "dockerspawner.DockerSpawner"
    c.DockerSpawner.image = given["image"]
    c.DockerSpawner.cmd = ["jupyterhub-singleuser"]
    c.DockerSpawner.pull_policy = "never"
    c.DockerSpawner.remove = True
    c.DockerSpawner.use_internal_ip = True
    c.DockerSpawner.prefix = given["prefix"]
