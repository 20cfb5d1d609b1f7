"""The workspace: the code of the image on the server's own volume, with a working ``.git`` and links to the data. Work in it is never overwritten.

A new volume is seeded. A later start on a newer commit moves a clean workspace forward; one with changes, commits of its own, or another branch
checked out is left alone, which is told in the log and in ``HUBDOCK.md``.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time

import data
import gitdir

CODE = "/hubdock/code"
MARK, NOTICE = ".git/hubdock/seeding", "HUBDOCK.md"  # no repository can bring the mark: git tracks nothing in .git
TITLE = "# Your work was left as it is\n"


def say(text):
    print(f"hubdock: {text}", file=sys.stderr, flush=True)


def prepare(document):
    """Seed the workspace or bring it up to date, and return an exit code."""
    workspace = document["workspace"]
    began = time.monotonic()
    fresh = clear_interrupted(workspace) or not [name for name in os.listdir(workspace) if name not in {"lost+found", NOTICE}]
    middle = began
    if fresh:
        seed(workspace, document)
        middle = time.monotonic()
        link_data(workspace, document)
        write_notice(workspace, "")
        drop_mark(workspace)
    elif "commit" in document:
        notice = "The workspace has files but no .git of its own, so it was left as it is."
        try:  # a full disk, or a file where a directory was: only in the server can its user mend that
            if os.path.isdir(f"{workspace}/.git"):
                notice = update(workspace, document)
                middle = time.monotonic()
                if not notice and gitdir.Git(workspace).read("rev-parse", "--quiet", "--verify", "HEAD") == document["commit"]:
                    notice = try_link_data(workspace, document)
            write_notice(workspace, notice)
        except (OSError, RuntimeError) as error:
            say(f"the workspace could not be brought up to date, and was left as it is: {error}")
    ended = time.monotonic()
    say(f"workspace {'made' if fresh else 'opened'} in {ended - began:.2f} s (code {middle - began:.2f}, data {ended - middle:.2f})")
    if "commit" in document:
        run_later(workspace, document, fresh)
    return 0


def link_data(workspace, document):
    """Link the data of the document's commit, which the workspace is on: the data of another would not be what its .dvc files name."""
    if "commit" not in document:
        return
    state = read_state(workspace)
    data.link(workspace, document, state.get("data"))
    write_state(workspace, {**state, "data": (document.get("data") or {}).get("current")})


def try_link_data(workspace, document):
    """Link the data of a workspace that has work in it, which must open without: return why it could not be linked, empty if it was."""
    try:
        link_data(workspace, document)
    except data.Gone as error:
        return str(error)
    return ""


# --- a half-made workspace is made again: nobody could reach it before it was whole ---


def clear_interrupted(workspace):
    """Empty a workspace whose seeding was interrupted, but for the mark that says so. Return whether it was."""
    mark = f"{workspace}/{MARK}"
    if not os.path.lexists(mark):
        return False
    for directory in (workspace, f"{workspace}/.git", f"{workspace}/.git/hubdock"):
        for name in os.listdir(directory):
            path = f"{directory}/{name}"
            if name == "lost+found" or mark == path or mark.startswith(f"{path}/"):
                continue
            shutil.rmtree(path) if os.path.isdir(path) and not os.path.islink(path) else os.unlink(path)
    return True


def drop_mark(workspace):
    """Say that the workspace is whole; without a commit nothing else is in ``.git``."""
    os.unlink(f"{workspace}/{MARK}")
    with contextlib.suppress(OSError):
        os.rmdir(f"{workspace}/.git/hubdock")
        os.rmdir(f"{workspace}/.git")


def seed(workspace, document):
    os.makedirs(f"{workspace}/{os.path.dirname(MARK)}", exist_ok=True)
    with open(f"{workspace}/{MARK}", "w", encoding="utf-8"):
        pass
    if os.path.isdir(CODE):
        copy_tree(CODE, workspace)
    if "commit" in document:
        gitdir.make(workspace, document)
        write_state(workspace, {"commit": document["commit"]})


def copy_tree(source, target):
    """Copy a tree with its links and executable bits; times are now, as after a clone."""
    with os.scandir(source) as entries:
        for entry in entries:
            place = f"{target}/{entry.name}"
            if entry.is_symlink():
                os.symlink(os.readlink(entry.path), place)
            elif entry.is_dir():
                os.mkdir(place)
                copy_tree(entry.path, place)
            else:
                shutil.copyfile(entry.path, place)
                if entry.stat().st_mode & 0o100:
                    os.chmod(place, 0o755)


# --- a workspace that is there ---


def update(workspace, document):
    """Move a clean workspace forward to the document's commit. Return why it was left alone, empty if it was not."""
    git = gitdir.Git(workspace)
    if document.get("new_branch"):
        return ""
    target = document["commit"]
    gitdir.add_history(workspace, document)
    here = git.read("symbolic-ref", "--quiet", "--short", "HEAD") or "a commit"
    wanted = document.get("branch")
    head = git.read("rev-parse", "--quiet", "--verify", "HEAD")
    if head == target:
        return ""
    if wanted is None or here != wanted:
        return f"The workspace is on {here}; {document['ref']} is at {target[:12]}. It was left as it is."
    if git.succeeds("merge-base", "--is-ancestor", target, "HEAD"):
        return ""
    if not git.succeeds("merge-base", "--is-ancestor", "HEAD", target):
        return f"{wanted} has commits here that the remote does not have, and the remote has newer ones. It was left as it is: `git pull --rebase` joins them."
    if git.read("status", "--porcelain", "--untracked-files=no"):
        return f"{wanted} has newer commits on the remote, but files are changed here. It was left as it is: commit, then `git pull`."
    rules = git.read("ls-files", "-z", "--", ":(glob)**/.gitignore", ":(glob)**/.gitattributes", raw=True).split(b"\0")
    gitdir.add_contents(workspace, workspace, rules)  # git reads those of both commits from its objects, and would end half-way without one
    gitdir.add_contents(workspace, CODE, git.read("diff-tree", "-r", "-z", "--name-only", "--no-renames", "HEAD", target, raw=True).split(b"\0"))
    if not git.succeeds("merge", "--ff-only", "--quiet", "--no-stat", target):
        return f"{wanted} has newer commits on the remote, but untracked files are in their way. It was left as it is: move them, then `git pull`."
    write_state(workspace, {**read_state(workspace), "commit": target})
    say(f"moved forward to {target[:12]}")
    return ""


def write_notice(workspace, notice):
    """Keep the file that tells of work that was left alone. One that somebody else wrote stays."""
    path = f"{workspace}/{NOTICE}"
    if notice:
        say(notice)
    if os.path.lexists(path):
        if os.path.islink(path) or not os.path.isfile(path):
            return
        with open(path, encoding="utf-8", errors="replace") as file:
            if file.readline() != TITLE:
                return
        os.unlink(path)
    if notice:
        with open(path, "w", encoding="utf-8") as file:
            file.write(f"{TITLE}\n{notice}\n\nThis file is not part of the repository; it goes away at the next start that finds nothing to say.\n")


def read_state(workspace):
    try:
        with open(f"{workspace}/.git/hubdock/state.json", encoding="utf-8") as file:
            return json.load(file)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return {}


def write_state(workspace, state):
    os.makedirs(f"{workspace}/.git/hubdock", exist_ok=True)
    path = f"{workspace}/.git/hubdock/state.json"
    with open(f"{path}.new", "w", encoding="utf-8") as file:
        json.dump(state, file)
    os.rename(f"{path}.new", path)


def run_later(workspace, document, fresh):
    """Start what makes later commands quick, at low priority, so that Jupyter does not wait for it."""
    here = os.path.dirname(os.path.abspath(__file__))
    with open("/tmp/hubdock/later.log", "ab") as log:
        subprocess.Popen(
            [sys.executable, "-I", "-S", f"{here}/later.py", workspace, "fresh" if fresh else "known"], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip
