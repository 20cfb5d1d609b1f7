"""Prints what a base image is, as JSON. Runs in a container of it with its own Python."""

import importlib.metadata
import json
import os
import platform
import re
import shutil

PROGRAMS = ("start.sh", "tini", "jupyterhub-singleuser", "jupyter", "git", "git-lfs", "dvc", "ssh")


def main():
    packages = {}
    for found in importlib.metadata.distributions():
        name = found.metadata["Name"]
        if name:
            packages[re.sub(r"[-_.]+", "-", name).lower()] = found.version
    own = os.access("/opt/dvc/bin/dvc", os.X_OK) and os.access("/opt/dvc/bin/python", os.X_OK)
    print("hubdock " + json.dumps({
        "python": platform.python_version(), "packages": packages, "programs": [name for name in PROGRAMS if shutil.which(name)],
        "uid": os.getuid(), "gid": os.getgid(), "home": os.environ.get("HOME", ""), "owner": os.stat("/opt/conda").st_uid, "dvc": own,
    }))  # fmt: skip


main()
