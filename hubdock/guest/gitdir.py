"""A ``.git`` made by hand from a pack of the whole history without file contents: all of git works, and contents of old commits come from the remote
when they are looked at (a partial clone, https://git-scm.com/docs/partial-clone)."""

import os
import shutil
import subprocess

RUN = "/hubdock/run"
EXCLUDE = ["/HUBDOCK.md"]


class Git:
    """git in one workspace. It never asks for anything, and never fetches."""

    def __init__(self, workspace):
        self.workspace = workspace
        self.env = {**os.environ, "GIT_TERMINAL_PROMPT": "0", "GIT_ALLOW_PROTOCOL": "none", "LC_ALL": "C.UTF-8", "GIT_OPTIONAL_LOCKS": "1"}

    def run(self, *arguments, stdin=b""):
        return subprocess.run(["git", "-C", self.workspace, *arguments], input=stdin, capture_output=True, env=self.env)

    def read(self, *arguments, raw=False):
        """Return what git prints, empty if it fails."""
        done = self.run(*arguments)
        text = b"" if done.returncode else done.stdout
        return text if raw else text.decode("utf-8", "replace").strip()

    def succeeds(self, *arguments):
        return self.run(*arguments).returncode == 0

    def must(self, *arguments, stdin=b""):
        done = self.run(*arguments, stdin=stdin)
        if done.returncode:
            raise RuntimeError(f"git {arguments[0]}: {done.stderr.decode('utf-8', 'replace').strip()[-500:]}")


def make(workspace, document):
    """Write ``.git`` on the document's branch (or commit, for a tag), with the history and an index that says that nothing is changed."""
    root = f"{workspace}/.git"
    for directory in ("objects/pack", "objects/info", "refs/heads", "refs/tags", "info", "hubdock"):
        os.makedirs(f"{root}/{directory}", exist_ok=True)
    commit, branch = document["commit"], document.get("branch")
    _write(f"{root}/config", make_config(document))
    _write(f"{root}/info/exclude", "\n".join([*EXCLUDE, *document.get("exclude", [])]) + "\n")
    refs = read_refs()
    lines = [f"{oid} {name}" for name, oid in sorted(refs.items())]
    if branch:
        lines = sorted([*lines, f"{commit} refs/heads/{branch}"], key=lambda line: line.split(" ", 1)[1])
    _write(f"{root}/packed-refs", "# pack-refs with: sorted \n" + "".join(f"{line}\n" for line in lines))
    _write(f"{root}/HEAD", f"ref: refs/heads/{branch}\n" if branch else f"{commit}\n")
    add_pack(workspace)
    git = Git(workspace)
    git.must("read-tree", "HEAD")
    git.run("update-index", "-q", "--refresh")  # its exit code says only that a file differs, which no seeded one does


def make_config(document):
    """Return the repository's configuration. Names that hold quotes or backslashes are escaped as git-config(1) wants it."""
    sha256 = len(document["commit"]) == 64
    lines = [
        # No extensions.partialClone, which dulwich (in DVC) refuses: git itself goes by the remote's "promisor".
        "[core]", f"\trepositoryformatversion = {1 if sha256 else 0}", "\tfilemode = true", "\tbare = false", "\tlogallrefupdates = true",
        *(["[extensions]", "\tobjectFormat = sha256"] if sha256 else []),
        '[remote "origin"]', f"\turl = {_quote(document['url'])}", "\tfetch = +refs/heads/*:refs/remotes/origin/*", "\tpromisor = true",
        "\tpartialclonefilter = blob:none",
    ]  # fmt: skip
    branch = document.get("branch")
    if branch and not document.get("new_branch"):
        lines += [f"[branch {_quote(branch)}]", "\tremote = origin", f"\tmerge = {_quote('refs/heads/' + branch)}"]
    return "\n".join(lines) + "\n"


def _quote(text):
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _write(path, text):
    with open(path, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(text)


def read_refs():
    """Return ``{name here: id}`` of the remote's branches (below refs/remotes/origin) and tags."""
    refs = {}
    try:
        with open(f"{RUN}/refs", encoding="utf-8", errors="surrogateescape") as file:
            for line in file:
                oid, _, name = line.rstrip("\n").partition(" ")
                if name.startswith("refs/heads/"):
                    refs["refs/remotes/origin/" + name[len("refs/heads/") :]] = oid
                elif name.startswith("refs/tags/"):
                    refs[name] = oid
    except FileNotFoundError:
        return {}
    return refs


def add_pack(workspace):
    """Put the history's pack among the objects, under the name that its own checksum gives it."""
    packs = f"{workspace}/.git/objects/pack"
    with open(f"{RUN}/history.pack", "rb") as file:
        file.seek(-20, os.SEEK_END)
        name = f"{packs}/pack-{file.read().hex()}"
    if os.path.exists(f"{name}.idx"):
        return
    _write(f"{name}.promisor", "")
    shutil.copyfile(f"{RUN}/history.pack", f"{name}.pack")
    shutil.copyfile(f"{RUN}/history.idx", f"{name}.idx.new")
    os.rename(f"{name}.idx.new", f"{name}.idx")


def add_history(workspace, document):
    """Bring a newer commit and what the remote says of it into a workspace that is there, as a fetch would. What a user's own fetch found stays."""
    git = Git(workspace)
    coming = read_refs()
    here = dict(line.split(" ", 1)[::-1] for line in git.read("for-each-ref", "--format=%(objectname) %(refname)", "refs/remotes", "refs/tags").split("\n") if line)
    branch = f"refs/remotes/origin/{document.get('branch')}"
    news = {branch: document["commit"]} if branch in coming else {}
    if not git.succeeds("cat-file", "-e", f"{document['commit']}^{{commit}}"):
        add_pack(workspace)
        news |= {name: oid for name, oid in coming.items() if name not in here}
    if here.get(branch) and git.succeeds("merge-base", "--is-ancestor", document["commit"], here[branch]):
        news.pop(branch, None)
    commands = "".join(f"update {name} {oid}\n" for name, oid in news.items())
    if commands:
        git.run("update-ref", "--stdin", stdin=commands.encode("utf-8", "surrogateescape"))


def add_contents(workspace, source, paths):
    """Write the contents of files of the image as objects, so that git need not ask the remote for them."""
    present = [path for path in paths if path and os.path.isfile(os.path.join(os.fsencode(source), path)) and b"\n" not in path]
    if present:
        text = b"".join(os.path.join(os.fsencode(source), path) + b"\n" for path in present if not os.path.islink(os.path.join(os.fsencode(source), path)))
        Git(workspace).must("hash-object", "-w", "--no-filters", "--stdin-paths", stdin=text)
    for path in paths:
        full = os.path.join(os.fsencode(source), path)
        if path and os.path.islink(full):
            Git(workspace).must("hash-object", "-w", "--stdin", stdin=os.readlink(full))
