"""What makes later commands quick, done at low priority after the server is up.

    python later.py WORKSPACE fresh|known

The contents of the files of HEAD become git objects (``git diff`` then asks nobody), and DVC learns the hashes of the linked data, so that the first
``dvc status`` does not read it all.
"""

import json
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
DVC_PYTHON = "/opt/dvc/bin/python"

SAVE = """
import json, sys
from dvc.repo import Repo
from dvc_data.hashfile.hash_info import HashInfo
from dvc_objects.fs import LocalFileSystem

repo = Repo(sys.argv[1])
with open(sys.argv[2], encoding="utf-8") as file:
    entries = [(path, HashInfo(name, oid), None) for path, name, oid in json.load(file)]
with repo.lock:
    repo.state.save_many(entries, LocalFileSystem())
    repo.state.close()
"""


def save_contents(workspace):
    """Write the files of the image's code as objects, 2,000 at a time."""
    import gitdir

    names = gitdir.Git(workspace).read("ls-tree", "-r", "-z", "--name-only", "HEAD", raw=True).split(b"\0")
    for start in range(0, len(names), 2000):
        gitdir.add_contents(workspace, "/hubdock/code", names[start : start + 2000])


def find_hashes(workspace, document):
    """Return (path, name of the hash, hash) of the linked files, by the DVC project that they belong to."""
    import data

    found = document.get("data") or {}
    mount = found.get("mounts", {}).get(found.get("current"))
    by_root, roots = {}, document.get("dvc_roots", [])
    for out in data.read_if_there(mount):
        for path, view, place in data.find_cached(workspace, [out], roots):
            full = f"{workspace}/{path}"
            # Only what is linked to this very object: a workspace that was left alone has links into an older key.
            if path is not None and os.path.islink(full) and os.readlink(full) == (place if found.get("baked") else f"{mount}{view}"):
                oid = view.removeprefix("/l/").replace("/", "")
                by_root.setdefault(data.find_root(out["path"], roots), []).append([full, out["hash_name"], oid])
    return by_root


def save_hashes(workspace, document):
    """Tell DVC what the linked files' hashes are."""
    for number, (root, entries) in enumerate(find_hashes(workspace, document).items()):
        path = f"/tmp/hubdock/hashes-{number}.json"
        with open(path, "w", encoding="utf-8") as file:
            json.dump(entries, file)
        subprocess.run([DVC_PYTHON, "-I", "-c", SAVE, os.path.normpath(f"{workspace}/{root}"), path], check=False, cwd=workspace)
        os.unlink(path)


def main():
    workspace, state = sys.argv[1:3]
    sys.path.insert(0, HERE)
    os.nice(15)
    with open("/hubdock/run/start.json", encoding="utf-8") as file:
        document = json.load(file)
    if os.access(DVC_PYTHON, os.X_OK):
        save_hashes(workspace, document)
    if state == "fresh":
        save_contents(workspace)


if __name__ == "__main__":
    main()
