"""Writes bytecode for what was just installed: bytecode.py SOURCE FINAL OUT [CACHE], a step of a build.

SOURCE is where the modules are now, FINAL where they will be, OUT where their bytecode goes (the same tree from its root), CACHE keeps compiled code by
the hash of path and source. This runs in the untouched base, beside what was installed: modules are read as data and never run, for the cache is shared
by all environments, and a wheel may have replaced even the interpreter's own modules.
"""

import concurrent.futures
import hashlib
import importlib.util
import marshal
import os
import sys
import warnings

DIGEST = 32


def find_uncompiled(root):
    """Yield the modules that have no bytecode yet, as paths below root. compileall opens every file to see that, which takes seconds for a large base."""
    suffix = f".{sys.implementation.cache_tag}.pyc"
    for directory, directories, files in os.walk(root):
        done = set()
        if "__pycache__" in directories:
            directories.remove("__pycache__")
            done = set(os.listdir(os.path.join(directory, "__pycache__")))
        yield from (os.path.relpath(os.path.join(directory, name), root) for name in files if name.endswith(".py") and name[:-3] + suffix not in done)


def compile_module(source, final, cache):
    """Return the marshalled code of a module, from the cache if it is there and whole; None if it is no valid Python."""
    kept = ""
    if cache:
        name = hashlib.sha256(final.encode("utf-8", "surrogateescape") + b"\0" + source).hexdigest()
        kept = os.path.join(cache, importlib.util.MAGIC_NUMBER.hex(), name[:2], name)
        try:
            with open(kept, "rb") as file:
                found = file.read()
            if hashlib.sha256(found[DIGEST:]).digest() == found[:DIGEST]:
                return found[DIGEST:]
        except OSError:
            pass
    try:
        code = marshal.dumps(compile(source, final, "exec", dont_inherit=True))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    if kept:
        keep(kept, hashlib.sha256(code).digest() + code)
    return code


def keep(path, content):
    """Write a file of the cache whole or not at all; a full disk keeps nothing."""
    work = f"{path}.{os.getpid()}"
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(work, "wb") as file:
            file.write(content)
        os.replace(work, path)
    except OSError:
        pass


def make_directory(path, like):
    """Make the directory of some bytecode, with the modes that its parents have in the installed tree."""
    if os.path.isdir(path):
        return
    make_directory(os.path.dirname(path), os.path.dirname(like) if os.path.basename(path) != "__pycache__" else like)
    try:
        os.mkdir(path)
        os.chmod(path, os.stat(like).st_mode & 0o7777)
    except FileExistsError:
        pass


def write_some(work):
    """Compile some modules; return how many came from where."""
    root, final, out, cache, names = work
    warnings.simplefilter("ignore")
    count = 0
    for name in names:
        path = os.path.join(root, name)
        try:
            with open(path, "rb") as file:
                stat, source = os.fstat(file.fileno()), file.read()
        except OSError:
            continue
        code = compile_module(source, os.path.join(final, name), cache)
        if code is None:
            continue
        target = importlib.util.cache_from_source(os.path.join(out, name))
        make_directory(os.path.dirname(target), os.path.dirname(path))
        # The header of https://peps.python.org/pep-0552/: checked by time and size, as pip and uv write it.
        header = importlib.util.MAGIC_NUMBER + bytes(4) + (int(stat.st_mtime) & 0xFFFFFFFF).to_bytes(4, "little") + (stat.st_size & 0xFFFFFFFF).to_bytes(4, "little")
        with open(target, "wb") as file:
            file.write(header + code)
        count += 1
    return count


def main():
    root, final, out, cache = (*sys.argv[1:], "")[:4]
    names = list(find_uncompiled(root))
    if not os.path.isdir(out):
        os.makedirs(out)
        os.chmod(out, os.stat(root).st_mode & 0o7777)
    chunks = [(root, final, out, cache, names[at : at + 100]) for at in range(0, len(names), 100)]
    count = 0
    with concurrent.futures.ProcessPoolExecutor() as pool:
        for done in concurrent.futures.as_completed([pool.submit(write_some, chunk) for chunk in chunks]):
            if done.exception() is None:  # a module that brings the compiler down is compiled when it is imported, or not
                count += done.result()
    print(f"bytecode for {count} of {len(names)} modules", flush=True)


if __name__ == "__main__":
    main()
