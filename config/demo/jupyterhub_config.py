"""The demo's hub: one machine, three users, the sample project. `make demo` sets the environment that is read here; for a hub of your own start from
config/jupyterhub_config_docker.py."""

import json
import os
from pathlib import Path

import hubdock

c = get_config()  # noqa: F821
demo = json.loads(os.environ["HUBDOCK_DEMO"])
state = Path(demo["state"])

# Three users with one password. Never so on a hub that others can reach.
c.JupyterHub.authenticator_class = "shared-password"
c.SharedPasswordAuthenticator.user_password = demo["password"]
c.Authenticator.allowed_users = set(demo["users"])

# Everything of this hub is below its state directory, and on ports of its own.
c.JupyterHub.bind_url = f"http://127.0.0.1:{demo['ports']['hubdock']}"
c.JupyterHub.hub_port = demo["ports"]["hub"]
c.JupyterHub.db_url = f"sqlite:///{state / 'jupyterhub.sqlite'}"
c.JupyterHub.cookie_secret_file = str(state / "cookie_secret")
c.ConfigurableHTTPProxy.command = [demo["proxy"]]
c.ConfigurableHTTPProxy.api_url = f"http://127.0.0.1:{demo['ports']['proxy']}"
c.ConfigurableHTTPProxy.pid_file = str(state / "proxy.pid")
c.JupyterHub.cleanup_servers = True  # Ctrl-C ends the servers too; what people did stays in their volumes
c.DockerSpawner.prefix = demo["name"]

c.HubDock.state_dir = str(state / "hubdock")
c.HubDock.volume_prefix = demo["name"]
c.HubDock.allowed_hosts = [demo["origin"]]
c.HubDock.base_image = demo["base"]
for name, value in demo["network"].items():  # this machine's package index, proxies and certificates
    c.HubDock[name] = value

hubdock.configure(c, port=demo["ports"]["service"])
