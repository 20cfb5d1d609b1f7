# A hub for a team on one Docker host. Copy it, and change what is marked with "yours".
#
#   pip install . jupyterhub-idle-culler && npm install -g configurable-http-proxy  # in a clone of hubdock
#   hubdock doctor                                      # checks engine, buildx, git, disk and base image, and says how to mend each
#   jupyterhub -f /etc/jupyterhub/jupyterhub_config.py  # as a service of systemd, say, by a user who may use Docker

import importlib.util
import os
import sys
from pathlib import Path

import hubdock

c = get_config()  # noqa: F821

# What must survive: the hub's database and cookie secret; hubdock's database, logs and copies of repositories. A local disk, closed to others. Homes, workspaces
# and data are Docker volumes (`docker volume ls`), and part of your backup too.
state = Path(os.environ.get("HUBDOCK_STATE", "/srv/hubdock"))
state.mkdir(mode=0o700, parents=True, exist_ok=True)
c.JupyterHub.db_url = f"sqlite:///{state / 'jupyterhub.sqlite'}"
c.JupyterHub.cookie_secret_file = str(state / "cookie_secret")
c.ConfigurableHTTPProxy.pid_file = str(state / "proxy.pid")
c.HubDock.state_dir = str(state / "engine")

# Who may log in: yours. "pam" takes the accounts of this machine (the hub must then run as root). Most teams have a login already: "github", "gitlab", "google",
# "generic-oauth" or "azuread" of the package oauthenticator, or "ldap". Whatever it is, say who: a hub lets nobody in by itself.
c.JupyterHub.authenticator_class = "pam"
c.Authenticator.allowed_users = {"alice", "bob", "carol"}
c.Authenticator.admin_users = {"alice"}

# Where people open it: yours. Behind a reverse proxy with TLS on this machine the loopback address is right; without one give the hub a certificate.
c.JupyterHub.bind_url = "http://127.0.0.1:8000"
# c.JupyterHub.ssl_key, c.JupyterHub.ssl_cert = "/etc/ssl/private/hub.key", "/etc/ssl/certs/hub.crt"

# Which code may run here: yours. Hosts, and if you like only some repositories on them.
c.HubDock.allowed_hosts = ["github.com"]
# c.HubDock.allowed_repos = ["github.com/team/*"]
# Private repositories and DVC remotes. Secrets stand in files that hubdock's user alone can read; everybody on this hub may then start what they open.
# c.HubDock.git_credentials = [{"origin": "https://github.com", "username": "team-bot", "password_file": "/etc/hubdock/github-token"}]
# c.HubDock.dvc_remotes = {"s3://team-data/": {"access_key_id_file": "/etc/hubdock/s3-id", "secret_access_key_file": "/etc/hubdock/s3-secret"}}

# What environments are built on. The default is a dated tag of Jupyter's tensorflow-notebook; where no registry can be reached, `make base` builds one.
# c.HubDock.base_image = "hubdock-base:latest"

# What a server gets that asks for nothing, and the most that it may ask for: yours.
c.HubDock.default_resources = {"cpu": 2, "memory": "4G"}
c.HubDock.cpu_limit = 8
c.HubDock.mem_limit = "16G"
c.HubDock.shm_limit = "2G"
# GPUs, each for one server at a time, by their CDI names (`nvidia-ctk cdi generate`, then `nvidia-ctk cdi list`).
# c.HubDock.gpu_limit = 1
# c.HubDockSpawner.gpu_devices = ["nvidia.com/gpu=0", "nvidia.com/gpu=1"]

# A restart or an upgrade of the hub leaves everybody's servers running.
c.JupyterHub.cleanup_servers = False

# Servers that nobody has used for two hours are stopped; their workspaces stay.
if importlib.util.find_spec("jupyterhub_idle_culler"):
    culler = [sys.executable, "-m", "jupyterhub_idle_culler", "--timeout=7200"]
    c.JupyterHub.services = [{"name": "idle-culler", "command": culler}]
    scopes = ["list:users", "read:users:activity", "read:servers", "delete:servers"]
    c.JupyterHub.load_roles = [{"name": "idle-culler", "scopes": scopes, "services": ["idle-culler"]}]

# Last: spawner, service, roles and the page where a login lands. It checks everything above, and stops the hub's start at a mistake.
hubdock.configure(c)
