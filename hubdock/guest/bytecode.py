"""Bytecode for what was just installed, with a cache of compiled code that all environments share.

Who shares a cache must not run what a stranger wrote: modules are read and compiled here, never run. A wheel may replace the interpreter's own modules,
so whoever installs imports all it needs first, and calls `close_imports`.
"""

import hashlib
import importlib.util
import marshal
import os
import sys
import warnings

DIGEST = 32
SUFFIX = f".{sys.implementation.cache_tag}.pyc"


def close_imports():
    """Let this process import nothing more, not even a codec that a module's first line names."""
    sys.meta_path.clear()
    sys.path_importer_cache.clear()
    warnings.simplefilter("ignore")


def find_uncompiled(root):
    """Yield the modules that have no bytecode yet. compileall opens every file to see that, which takes seconds for a large base."""
    for directory, directories, files in os.walk(root):
        done = set()
        if "__pycache__" in directories:
            directories.remove("__pycache__")
            done = set(os.listdir(os.path.join(directory, "__pycache__")))
        yield from (os.path.join(directory, name) for name in files if name.endswith(".py") and name[:-3] + SUFFIX not in done)


def compile_module(source, path, cache):
    """Return the marshalled code of a module, from the cache if it is there and whole; None if it is no valid Python."""
    kept = ""
    if cache:
        name = hashlib.sha256(os.fsencode(path) + b"\0" + source).hexdigest()
        kept = os.path.join(cache, importlib.util.MAGIC_NUMBER.hex(), name[:2], name)
        try:
            with open(kept, "rb") as file:
                found = file.read()
            if hashlib.sha256(found[DIGEST:]).digest() == found[:DIGEST]:
                return found[DIGEST:]
        except OSError:
            pass
    try:
        code = marshal.dumps(compile(source, path, "exec", dont_inherit=True))
    except (SyntaxError, ValueError, LookupError, RecursionError, MemoryError):
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


def write_one(path, cache):
    """Write the bytecode of a module, with the header of https://peps.python.org/pep-0552/: valid for its time and size, as pip writes it."""
    with open(path, "rb") as file:
        stat, source = os.fstat(file.fileno()), file.read()
    code = compile_module(source, path, cache)
    if code is None:
        return
    directory, name = os.path.split(path)
    os.makedirs(os.path.join(directory, "__pycache__"), exist_ok=True)
    header = importlib.util.MAGIC_NUMBER + bytes(4) + (int(stat.st_mtime) & 0xFFFFFFFF).to_bytes(4, "little") + (stat.st_size & 0xFFFFFFFF).to_bytes(4, "little")
    with open(os.path.join(directory, "__pycache__", name[:-3] + SUFFIX), "wb") as file:
        file.write(header + code)


def write_some(paths, cache):
    """Write the bytecode of some modules; what can't be read or written is left for its first import."""
    for path in paths:
        try:
            write_one(path, cache)
        except OSError:
            continue


def write(root, cache=""):
    """Write bytecode below root on all processors. A module that brings the compiler down takes the rest of its share with it, and nothing else."""
    paths = sorted(find_uncompiled(root))
    sys.stdout.flush()
    children, count = [], max(1, min(os.cpu_count() or 1, 8, len(paths) // 50))
    for number in range(count):
        child = os.fork()
        if not child:
            try:
                write_some(paths[number::count], cache)
            finally:
                os._exit(0)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)
    print(f"bytecode for {len(paths)} modules", flush=True)
