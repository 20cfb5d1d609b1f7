# The chart's small hub. Settings of your own go into the values hub.config and hub.extraConfig, which are read below before hubdock is joined.
import json
import os
from pathlib import Path

from traitlets.config import Config

import hubdock

c = get_config()  # noqa: F821
here = Path(__file__).parent

c.JupyterHub.db_url = "sqlite:////srv/jupyterhub/jupyterhub.sqlite"
c.JupyterHub.cookie_secret_file = "/srv/jupyterhub/cookie_secret"
c.JupyterHub.hub_bind_url = "http://:8081"
c.JupyterHub.hub_connect_url = os.environ["HUBDOCK_HUB_URL"]
c.ConfigurableHTTPProxy.should_start = False
c.ConfigurableHTTPProxy.api_url = os.environ["HUBDOCK_PROXY_URL"]
c.JupyterHub.cleanup_servers = False  # an upgrade of the hub leaves servers running
c.JupyterHub.authenticator_class = "shared-password"
c.SharedPasswordAuthenticator.user_password = os.environ["HUBDOCK_PASSWORD"]
c.SharedPasswordAuthenticator.admin_password = os.environ["HUBDOCK_ADMIN_PASSWORD"]
c.KubeSpawner.namespace = os.environ["HUBDOCK_SERVERS"]
c.KubeSpawner.cpu_guarantee = 0.25
c.KubeSpawner.mem_guarantee = "1G"

values = json.loads((here / "hub.json").read_text(encoding="utf-8"))
c.merge(Config(values))
for name in ("allowed_users", "admin_users"):  # JSON has no sets
    if name in c.Authenticator:
        c.Authenticator[name] = set(c.Authenticator[name])
exec(compile((here / "extra_config.py").read_text(encoding="utf-8"), "hub.extraConfig", "exec"))

hubdock.join(c, url=os.environ["HUBDOCK_SERVICE"], token=os.environ["HUBDOCK_SERVICE_TOKEN"])
