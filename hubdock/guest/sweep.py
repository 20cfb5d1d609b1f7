"""Looks through the data store, and removes views from it. Runs as root in a container of its own that alone may write there.

    python sweep.py list SECONDS
    python sweep.py remove SECONDS KEY...

The store's layout is that of fetch.py: a view holds hard links into the pool, so that its bytes are free once the last view of an object is gone and the pool
lets go of it too. SECONDS is the age from which an object that no view holds is taken for left behind.
"""

import json
import os
import shutil
import sys
import time

STORE, GONE = "/store", ".gone-"


def tell(**values):
    print("hubdock " + json.dumps(values), flush=True)


def walk(directory):
    """Yield (path, stat) of the files below a directory; what goes away meanwhile is passed over."""
    for where, _, names in os.walk(directory):
        for name in names:
            try:
                yield f"{where}/{name}", os.lstat(f"{where}/{name}")
            except FileNotFoundError:
                continue


def list_names(directory):
    try:
        return sorted(os.listdir(directory))
    except FileNotFoundError:
        return []


def is_view(name):
    return len(name) == 64 and set(name) <= set("0123456789abcdef")


def show(age):
    """Tell each view with its share of the bytes (an object of three views counts a third in each), and what no view holds."""
    for name in list_names(f"{STORE}/views"):
        if is_view(name):
            share = sum(found.st_blocks * 512 / max(1, found.st_nlink - 1) for _, found in walk(f"{STORE}/views/{name}"))
            tell(view=name, size=int(share), made=os.stat(f"{STORE}/views/{name}").st_mtime)
    left = [found.st_blocks * 512 for _, found in find_left(age)]
    tell(left=len(left), size=sum(left))


def find_left(age):
    """Yield (path, stat) of the objects that no view holds since so long, and of views that were given up half-made or half-removed."""
    before = time.time() - age
    for path, found in walk(f"{STORE}/pool"):
        if found.st_nlink == 1 and found.st_ctime < before:
            yield path, found
    for name in list_names(f"{STORE}/views"):
        if not is_view(name):
            for path, found in walk(f"{STORE}/views/{name}"):
                if name.startswith(GONE) or found.st_ctime < before:
                    yield path, found


def remove(age, keys):
    """Remove views, and then whatever no view holds: theirs at once, the rest from its age on. Tells the bytes."""
    objects, freed = set(), 0
    for key in filter(is_view, keys):
        view, gone = f"{STORE}/views/{key}", f"{STORE}/views/{GONE}{key}"
        objects |= {found.st_ino for _, found in walk(view)}
        shutil.rmtree(gone, ignore_errors=True)
        try:
            os.rename(view, gone)  # from here on no server can be given it, whatever happens
        except FileNotFoundError:
            continue
    for name in list_names(f"{STORE}/views"):
        if name.startswith(GONE):
            objects |= {found.st_ino for _, found in walk(f"{STORE}/views/{name}")}
            shutil.rmtree(f"{STORE}/views/{name}", ignore_errors=True)
    before = time.time() - age
    for path, found in walk(f"{STORE}/pool"):
        if found.st_nlink == 1 and (found.st_ino in objects or found.st_ctime < before):
            os.unlink(path)
            freed += found.st_blocks * 512
    for name in list_names(f"{STORE}/views"):
        if not is_view(name) and os.stat(f"{STORE}/views/{name}").st_ctime < before:
            shutil.rmtree(f"{STORE}/views/{name}", ignore_errors=True)
    tell(done=True, freed=freed)


if __name__ == "__main__":
    if sys.argv[1] == "list":
        show(float(sys.argv[2]))
    else:
        remove(float(sys.argv[2]), sys.argv[3:])
