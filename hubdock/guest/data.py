"""The data: links from the workspace, and from a private DVC cache beside it, into the read-only store.

``cache.type = symlink`` with a cache of one's own whose objects are links: ``dvc add``, ``push``, ``pull``, ``checkout``, ``unprotect`` and ``gc`` work as ever, and nobody
can change an object that others read.

Where the data is part of the image (``baked``), which a workspace outlives, the cache beside the workspace holds the objects themselves, copied once, and the workspace
links to those. What was linked so is remembered in ``.git/hubdock/data.json``, for links into that cache are made by ``dvc add`` too.
"""

import contextlib
import json
import os
import re
import shutil

STORE = "/hubdock/data/"
LINKS = ".git/hubdock/data.json"
UNSAFE = re.compile(r'[\x00-\x1f"]|%\(')  # what would end a quoted value of DVC's configuration, or mean another option
HEADER = "# Written by hubdock at each start, unless you change this line.\n"


class Gone(RuntimeError):
    """The store has not got what it had: its text says what to do."""


def read_manifest(mount):
    """Return the outs of a mounted data key. Raises Gone if they are not there."""
    try:
        with open(f"{mount}/manifest.json", encoding="utf-8") as file:
            return json.load(file)["outs"]
    except (FileNotFoundError, NotADirectoryError) as error:
        raise Gone(f"The data is not in the store, where it was before ({mount}). Stop the server and start it again: the data is fetched anew.") from error


def read_if_there(mount):
    """Return the outs of a data key: none if the store has it no more, or never mounted it here."""
    try:
        return read_manifest(mount) if mount else []
    except Gone:
        return []


def find_root(path, roots):
    """Return the DVC project that an output belongs to: the nearest around it. A manifest can't tell, for a commit with other projects may have made it."""
    return max((root for root in roots if path.startswith(root + "/")), key=len, default=".")


def link(workspace, document, before):
    """Link the document's data. ``before`` is the key that was linked last: what it had and this one has not is taken away, if it still is a link.

    Raises Gone, having linked nothing, if the store has not got it.
    """
    found = document.get("data") or {}
    mounts, roots = found.get("mounts", {}), document.get("dvc_roots", [])
    configure(workspace, roots)
    mount = mounts.get(found.get("current"))
    outs = read_manifest(mount) if mount else []
    if found.get("baked") or os.path.exists(f"{workspace}/{LINKS}"):
        link_cached(workspace, mount if found.get("baked") else "", outs, roots)
        if found.get("baked"):
            return
    wanted = {path: target for out in outs for path, target in find_links(mount, out)}
    if before and before != found.get("current"):
        for out in read_if_there(mounts.get(before)):
            for path, _ in find_links("", out):
                if path not in wanted:
                    remove_link(f"{workspace}/{path}")
    made = set()
    for path, target in wanted.items():
        make_link(f"{workspace}/{path}", target, made)
    make_empty(workspace, outs)
    for out in outs:
        fill_cache(f"{workspace}/{find_root(out['path'], roots)}", mount, out, made)


def find_cached(workspace, outs, roots):
    """Yield (path in the workspace, object in the mount, place in the private cache) of the outs' files, and of directories' lists, without a path."""
    for out in outs:
        cache = os.path.normpath(f"{workspace}/{find_root(out['path'], roots)}/.dvc/cache")
        for path, view in [*find_links("", out), *((None, f"/{view}") for view in find_objects(out))]:
            yield path, view, f"{cache}/files/md5{view}" if out["hash_name"] == "md5" else f"{cache}/{view.removeprefix('/l/')}"


def link_cached(workspace, mount, outs, roots):
    """Copy the objects of a mount, and link the workspace to the copies; without a mount, take away what was linked so."""
    try:
        with open(f"{workspace}/{LINKS}", encoding="utf-8") as file:
            before = json.load(file)
    except FileNotFoundError:
        before = {}
        remove_dangling(workspace)  # of a time when the data was in the store
    objects = list(find_cached(workspace, outs, roots)) if mount else []
    wanted = {path: place for path, _, place in objects if path is not None}
    # Killed from here on, the next start knows all that may be ours.
    remember(workspace, {path: [*before.get(path, []), *([wanted[path]] if path in wanted else [])] for path in {**before, **wanted}})
    for view, place in {(view, place) for _, view, place in objects}:
        copy_object(f"{mount}{view}", place, workspace)
    for path, targets in before.items():
        remove_link(f"{workspace}/{path}", [target for target in targets if target != wanted.get(path)])
    made = set()
    for path, place in wanted.items():
        make_link(f"{workspace}/{path}", place, made)
    make_empty(workspace, outs if mount else [])
    if mount:
        remember(workspace, {path: [place] for path, place in wanted.items()})
    else:
        os.unlink(f"{workspace}/{LINKS}")


def remember(workspace, links):
    """Write down what is linked: paths in the workspace, and what each points to, or pointed to before."""
    path = f"{workspace}/{LINKS}"
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(f"{path}.new", "w", encoding="utf-8") as file:
        json.dump(links, file)
    os.rename(f"{path}.new", path)


def copy_object(source, place, workspace):
    """Copy an object into the private cache, whole or not at all, unless it is there. A link into the store gives way."""
    if os.path.isfile(place) and not os.path.islink(place):
        return
    half = f"{workspace}/.git/hubdock/object"
    try:
        os.makedirs(os.path.dirname(place), exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(half)
        shutil.copyfile(source, half)
        os.chmod(half, 0o444)
        os.rename(half, place)
    except (FileExistsError, NotADirectoryError, IsADirectoryError):  # the user's, who has put something else there
        return
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(half)


def remove_dangling(workspace):
    """Remove links into a store that is not mounted here."""
    for directory, names, files in os.walk(workspace):
        names[:] = [name for name in names if name != ".git"]
        for place in (f"{directory}/{name}" for name in files):
            if os.path.islink(place) and not os.path.exists(place):
                remove_link(place)


def make_empty(workspace, outs):
    """Make the directories that have no files."""
    for out in outs:
        if out["oid"].endswith(".dir") and not out["files"]:
            with contextlib.suppress(FileExistsError, NotADirectoryError):
                os.makedirs(f"{workspace}/{out['path']}", exist_ok=True)


def find_objects(out):
    """Return the places in the store of an out's objects, the list of a directory among them."""
    objects = {view for _, view, _ in out["files"]}
    if out["oid"].endswith(".dir"):
        objects.add(("" if out["hash_name"] == "md5" else "l/") + f"{out['oid'][:2]}/{out['oid'][2:]}")
    return objects


def find_links(mount, out):
    """Yield (path in the workspace, place in the store) of each file of an out."""
    for path, view, _ in out["files"]:
        yield (f"{out['path']}/{path}" if path else out["path"]), f"{mount}/{view}"


def make_link(place, target, made):
    """Link, unless something of the user's is there. ``made`` are the directories that are known to be there."""
    directory = os.path.dirname(place)
    if directory not in made:
        try:
            os.makedirs(directory, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            return
        made.add(directory)
    try:
        os.symlink(target, place)
    except FileExistsError:
        if os.path.islink(place) and os.readlink(place).startswith(STORE) and os.readlink(place) != target:
            os.unlink(place)
            os.symlink(target, place)


def remove_link(place, targets=()):
    """Remove a link into the store, or to one of the targets."""
    if os.path.islink(place) and (os.readlink(place).startswith(STORE) or os.readlink(place) in targets):
        os.unlink(place)


def fill_cache(project, mount, out, made):
    """Put links to an out's objects where its DVC project looks for them."""
    cache = os.path.normpath(f"{project}/.dvc/cache")
    modern = out["hash_name"] == "md5"
    for view in find_objects(out):
        place = f"{cache}/files/md5/{view}" if modern else f"{cache}/{view[2:]}"
        make_link(place, f"{mount}/{view}", made)


def configure(workspace, roots):
    """Write each DVC project's ``config.local``, unless it is the user's."""
    for root in roots:
        directory = os.path.normpath(f"{workspace}/{root}/.dvc")
        path = f"{directory}/config.local"
        try:
            with open(path, encoding="utf-8") as file:
                if file.readline() != HEADER:
                    continue
        except FileNotFoundError:
            os.makedirs(directory, exist_ok=True)
        except NotADirectoryError:
            continue
        text = "[cache]\n    dir = cache\n    type = symlink\n[core]\n    analytics = false\n    check_update = false\n"
        if not UNSAFE.search(directory):
            text += f'    site_cache_dir = "{directory}/tmp/site"\n'
        with open(path, "w", encoding="utf-8") as file:
            file.write(HEADER + text)
