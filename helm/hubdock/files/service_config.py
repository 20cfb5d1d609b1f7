# What hubdock's service reads in its pod: the chart's values, and the database's address, which is in a Secret and so not among them.
import json
import os
from pathlib import Path

from traitlets.config import Config

c = get_config()  # noqa: F821
c.merge(Config(json.loads(Path(__file__).with_name("config.json").read_text(encoding="utf-8"))))
if os.environ.get("HUBDOCK_DB_URL"):
    c.HubDock.db_url = os.environ["HUBDOCK_DB_URL"]
