"""Fetches DVC outputs into the shared store, in a container that alone holds the credentials. Runs with DVC's own Python.

    python fetch.py REQUEST

REQUEST is a JSON file: ``key``, ``scope``, ``outs`` (``oid``, ``hash_name``, ``path``, ``remote``), ``remotes`` (``{name: {"url": …, option: …}}``), ``silence`` (the
seconds after which remotes that send nothing are given up). No file of the repository is read: the project that DVC sees is written here, so a hostile
``.dvc/config`` has no say.

The store is ``/store``: ``pool/SCOPE`` is a DVC cache that only this program writes, ``views/KEY`` holds hard links to one key's objects
(``ab/cdef…``, and ``l/ab/cdef…`` for DVC 2's hashes) and ``manifest.json``. A view appears whole, by a rename, when all its objects are there; one that has lost
its manifest, and who knows what else, is mended where it is.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time

STORE, WORK, DVC = "/store", "/tmp/fetch", "/opt/dvc/bin/dvc"
OBJECT = re.compile("[0-9a-f]{32}")


def tell(**values):
    sys.stdout.write("hubdock " + json.dumps(values) + "\n")  # in one piece: two threads tell
    sys.stdout.flush()


def cache_path(hash_name, oid):
    """Return an object's path in a DVC cache: ``files/md5/ab/…`` since DVC 3, ``ab/…`` before."""
    return os.path.join(*(["files", "md5"] if hash_name == "md5" else []), oid[:2], oid[2:])


def view_path(hash_name, oid):
    """Return an object's path in a view: short, so that links to it fit into an inode."""
    return os.path.join(*([] if hash_name == "md5" else ["l"]), oid[:2], oid[2:])


def quote(value):
    """Return an option's value as DVC's configuration wants it: without quotes "#" begins a comment, "," a list."""
    for mark in ('"', "'") if "\n" not in value else ():
        if mark not in value:
            return mark + value + mark
    mark = "'''" if '"""' in value or value.endswith('"') else '"""'
    return mark + value + mark


def write_project(request, cache):
    """Write a DVC project that names exactly the wanted objects, and its remotes with the admin's options."""
    os.makedirs(f"{WORK}/.dvc/tmp")
    lines = ["[core]", "    no_scm = true", "    analytics = false", "    check_update = false", "    site_cache_dir = /tmp/fetch/site",
             "[cache]", f"    dir = {cache}"]  # fmt: skip
    for name, options in request["remotes"].items():
        # Unless it is told to, DVC does not compare what a remote sends with its hash, and the pool is filled from many remotes.
        lines += [f"['remote \"{name}\"']", *(f"    {option} = {quote(value)}" for option, value in {**options, "verify": "true"}.items())]
    with open(f"{WORK}/.dvc/config", "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
    for number, out in enumerate(request["outs"]):
        entry = {"md5": out["oid"], "path": f"o{number}", "remote": out["remote"]}
        if out["hash_name"] == "md5":
            entry["hash"] = "md5"
        with open(f"{WORK}/o{number}.dvc", "w", encoding="utf-8") as file:
            json.dump({"outs": [entry]}, file)  # JSON is YAML


def measure(cache, outs, since=0.0):
    """Return (objects, bytes) of these outputs that are in the cache and came after ``since``, seconds since the epoch."""
    count, size, seen = 0, 0, set()
    for out in outs:
        try:
            objects = [out["oid"], *(oid for path, oid, _ in read_objects(cache, out) if path)]
        except FileNotFoundError:
            continue
        for oid in objects:
            if oid in seen:
                continue
            seen.add(oid)
            try:
                found = os.stat(os.path.join(cache, cache_path(out["hash_name"], oid)))
            except FileNotFoundError:
                continue
            if found.st_ctime >= since:
                count, size = count + 1, size + found.st_size
    return count, size


def watch(cache, outs, since, ended):
    pause = 1.0
    while not ended.wait(pause):
        began = time.monotonic()
        count, size = measure(cache, outs, since)
        tell(files=count, bytes=size)
        pause = max(1.0, 10 * (time.monotonic() - began))


def count_received():
    """Return the bytes that came over the network so far, from wherever."""
    with open("/proc/net/dev") as file:
        rows = [line.partition(":") for line in file if ":" in line]
    return sum(int(numbers.split()[0]) for name, _, numbers in rows if name.strip() != "lo")


def count_work():
    """Return the seconds of processor time that this container's processes took."""
    ticks = 0
    for name in os.listdir("/proc"):
        try:
            with open(f"/proc/{int(name)}/stat") as file:
                ticks += sum(map(int, file.read().rpartition(")")[2].split()[11:15]))  # proc(5): utime, stime, cutime, cstime
        except (ValueError, OSError):
            continue
    return ticks / os.sysconf("SC_CLK_TCK")


def guard(silence, ended):
    """End everything once hardly a byte has come, and hardly anything was done, for so many seconds: DVC itself asks a remote that hangs again and again."""
    received, work = count_received(), count_work()
    while not ended.wait(silence):
        before = received, work
        received, work = count_received(), count_work()
        if received - before[0] < 1000 * silence and work - before[1] < 0.12 * silence:  # git's own idea of too slow: 1000 bytes a second
            tell(silent=silence)
            os._exit(1)


def fetch(cache):
    """Run ``dvc fetch``, and return its exit code and what it says of a full disk. The rest of its words name hashes, no paths."""
    env = {**os.environ, "HOME": WORK, "DVC_NO_ANALYTICS": "1"}
    done = subprocess.run([DVC, "fetch", "--jobs", "8"], cwd=WORK, env=env, capture_output=True, text=True, errors="replace")
    said = (done.stdout + done.stderr).strip().splitlines()
    return done.returncode, [line for line in said if "No space left" in line or "quota exceeded" in line][:2]


def read_objects(cache, out):
    """Yield (path below the output, oid, is-exec) of the files of an output; ``path`` is empty for an output that is a file."""
    if not out["oid"].endswith(".dir"):
        yield "", out["oid"], out.get("is_exec", False)
        return
    with open(os.path.join(cache, cache_path(out["hash_name"], out["oid"])), encoding="utf-8") as file:
        yield from parse_list(out, file.read())


def parse_list(out, content):
    """Return (path, oid, is-exec) of each entry of a directory's list. Its author chose the names: what leads elsewhere would read, plant or delete what is others'."""
    try:
        entries = [(entry["relpath"], entry["md5"], bool(entry.get("isexec"))) for entry in json.loads(content)]
        for path, oid, _ in entries:
            if not OBJECT.fullmatch(oid) or not path or path.startswith("/") or ".." in path.split("/") or "\0" in path:
                raise ValueError(f"{path!r} with the hash {oid!r}")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        print(f"{out['path']} ({out['oid']}) is no list of files: {str(error)[:200]}", flush=True)
        raise SystemExit(1) from error
    return entries


def fetch_lists(cache, outs):
    """Fetch the lists of directories that are not in the cache, and return what went wrong: DVC would use what stands in them unchecked."""
    wanted = [out for out in outs if out["oid"].endswith(".dir") and not os.path.exists(os.path.join(cache, cache_path(out["hash_name"], out["oid"])))]
    if not wanted:
        return []
    from dvc.repo import Repo

    lines, repo = [], Repo(WORK)
    for out in wanted:
        try:
            odb = repo.cloud.get_remote_odb(name=out["remote"], hash_name=out["hash_name"])
            with odb.fs.open(odb.oid_to_path(out["oid"]), "rb") as file:
                content = file.read()
        except Exception as error:  # whatever the libraries of the remotes raise
            lines.append(f"{out['path']}: {type(error).__name__}: {error}")
            continue
        if out["oid"] not in {f"{hashlib.md5(text).hexdigest()}.dir" for text in (content, content.replace(b"\r\n", b"\n"))}:
            lines.append(f"{out['path']}: the remote has something else under the hash {out['oid']}")
            continue
        parse_list(out, content)
        place = os.path.join(cache, cache_path(out["hash_name"], out["oid"]))
        os.makedirs(os.path.dirname(place), exist_ok=True)
        with open(f"{place}.{os.getpid()}", "wb") as file:
            file.write(content)
        os.chmod(f"{place}.{os.getpid()}", 0o444)
        os.rename(f"{place}.{os.getpid()}", place)
    return lines


def find_missing(cache, outs):
    """Return the workspace paths whose objects are not in the cache."""
    missing = []
    for out in outs:
        if not os.path.exists(os.path.join(cache, cache_path(out["hash_name"], out["oid"]))):
            missing.append(out["path"])
            continue
        for path, oid, _ in read_objects(cache, out):
            if path and not os.path.exists(os.path.join(cache, cache_path(out["hash_name"], oid))):
                missing.append(f"{out['path']}/{path}")
    return missing


def write_view(request, cache, view):
    """Link the objects of one key into a directory of their own, and return (files, bytes)."""
    work = f"{view}.{os.getpid()}"
    shutil.rmtree(work, ignore_errors=True)
    os.makedirs(work)
    manifest, linked, size = [], set(), 0
    for out in request["outs"]:
        files = []
        wanted = [(out["hash_name"], out["oid"])] if out["oid"].endswith(".dir") else []
        for path, oid, is_exec in read_objects(cache, out):
            files.append([path, view_path(out["hash_name"], oid), is_exec])
            wanted.append((out["hash_name"], oid))
        manifest.append({"path": out["path"], "oid": out["oid"], "hash_name": out["hash_name"], "files": files})
        for hash_name, oid in wanted:
            name = view_path(hash_name, oid)
            if name not in linked:
                linked.add(name)
                target = os.path.join(work, name)
                try:
                    os.link(os.path.join(cache, cache_path(hash_name, oid)), target)
                except FileNotFoundError:
                    os.makedirs(os.path.dirname(target), exist_ok=True)
                    os.link(os.path.join(cache, cache_path(hash_name, oid)), target)
                size += os.stat(target).st_size
    with open(f"{work}/manifest.json", "w", encoding="utf-8") as file:
        json.dump({"key": request["key"], "outs": manifest}, file, separators=(",", ":"))
        file.flush()
        os.fsync(file.fileno())
    for directory, _, _ in os.walk(work):
        os.chmod(directory, 0o755)
    os.chmod(f"{work}/manifest.json", 0o444)
    os.sync()
    if os.path.isdir(view):
        mend_view(work, view)
    else:
        os.rename(work, view)
    return len(linked), size


def mend_view(work, view):
    """Put back what a view has lost, its manifest last. Servers that mount it have their data again."""
    for directory, _, names in os.walk(work):
        place = os.path.normpath(os.path.join(view, os.path.relpath(directory, work)))
        os.makedirs(place, mode=0o755, exist_ok=True)
        for name in set(names) - {"manifest.json"}:
            with contextlib.suppress(FileExistsError):
                os.link(os.path.join(directory, name), os.path.join(place, name))
    os.sync()
    os.rename(f"{work}/manifest.json", f"{view}/manifest.json")
    shutil.rmtree(work)


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        request = json.load(file)
    cache, view = f"{STORE}/pool/{request['scope']}", f"{STORE}/views/{request['key']}"
    if os.path.exists(f"{view}/manifest.json"):
        tell(done=True, fetched=0, files=0, bytes=0)
        return 0
    started, since, fetched = time.monotonic(), time.time(), 0
    os.makedirs(cache, exist_ok=True)
    os.makedirs(f"{STORE}/views", exist_ok=True)
    outs = request["outs"]
    if find_missing(cache, outs):
        write_project(request, cache)
        ended = threading.Event()
        threading.Thread(target=watch, args=(cache, outs, since, ended), daemon=True).start()
        threading.Thread(target=guard, args=(request["silence"], ended), daemon=True).start()
        try:
            code, lines = 1, fetch_lists(cache, outs)
            if not lines:
                code, lines = fetch(cache)
        finally:
            ended.set()
        missing = find_missing(cache, outs)
        if missing:
            print("\n".join(lines) or "the remote has nothing, or something else, under these hashes", flush=True)
            tell(missing=missing[:5], count=len(missing), code=code)
            return 1
        fetched = measure(cache, outs, since)[1]
    files, size = write_view(request, cache, view)
    tell(done=True, fetched=fetched, files=files, bytes=size, seconds=round(time.monotonic() - started, 2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
