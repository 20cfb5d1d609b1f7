# A hub on Kubernetes: this is read by the hub's pod. hubdock's service is a Deployment of its own beside it (helm/hubdock brings both; on zero-to-jupyterhub the same
# lines stand in hub.extraConfig). Copy it, and change what is marked with "yours".
#
#   pip install ".[kubernetes]"                         # in the hub's image, in a clone of hubdock
#   jupyterhub -f /etc/jupyterhub/jupyterhub_config.py  # the pod's command; its service account may make pods and claims in its namespace

import os

import hubdock

c = get_config()  # noqa: F821

# What must survive: the hub's database and cookie secret, on a volume of the hub's.
state = os.environ.get("HUBDOCK_HUB_STATE", "/srv/jupyterhub")
c.JupyterHub.db_url = f"sqlite:///{state}/jupyterhub.sqlite"
c.JupyterHub.cookie_secret_file = f"{state}/cookie_secret"

# Where servers and hubdock's service reach the hub: the name of its Service. The proxy runs in a pod of its own.
c.JupyterHub.hub_bind_url = "http://:8081"
c.JupyterHub.hub_connect_url = os.environ.get("HUBDOCK_HUB_URL", "http://hub:8081")
c.ConfigurableHTTPProxy.should_start = False
c.ConfigurableHTTPProxy.api_url = os.environ.get("HUBDOCK_PROXY_URL", "http://proxy-api:8001")

# Who may log in: yours. One password for all will do to try it; most teams have a login already: "github", "gitlab", "google" or "generic-oauth" of the package
# oauthenticator. Whatever it is, say who: a hub lets nobody in by itself.
c.JupyterHub.authenticator_class = "shared-password"
c.SharedPasswordAuthenticator.user_password = os.environ.get("HUBDOCK_PASSWORD", "")
c.Authenticator.allowed_users = {"alice", "bob", "carol"}
c.Authenticator.admin_users = {"alice"}

# A server: a pod with its own volume, which stays when the server is deleted. What it gets of CPU, memory and GPU is asked for on the page, within the limits that the
# service has (HubDock.cpu_limit, mem_limit, gpu_limit); a smaller guarantee lets servers share what most of them do not use.
c.KubeSpawner.cpu_guarantee = 0.25
c.KubeSpawner.mem_guarantee = "1G"
c.KubeSpawner.storage_capacity = "20Gi"
# c.KubeSpawner.storage_class = "fast"
# c.KubeSpawner.image_pull_secrets = ["registry"]
# A volume that many pods may write (ReadWriteMany): then each user has one home for all of their servers.
# c.HubDockKubeSpawner.home_claim = "hubdock-homes"
# GPUs: the extended resource of your device plugin, and what lets a pod onto those nodes.
# c.HubDockKubeSpawner.gpu_resource = "nvidia.com/gpu"
# c.HubDockKubeSpawner.offers_gpu = True
# c.KubeSpawner.tolerations = [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]

# A restart or an upgrade of the hub leaves everybody's servers running.
c.JupyterHub.cleanup_servers = False

# Last: spawner, roles and the page where a login lands. The token is the one that the service has in JUPYTERHUB_API_TOKEN, from the same Secret.
hubdock.join(c, url=os.environ.get("HUBDOCK_SERVICE", "http://hubdock:9000"), token=os.environ.get("HUBDOCK_SERVICE_TOKEN", ""))
