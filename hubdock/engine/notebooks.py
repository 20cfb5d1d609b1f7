"""Notebooks of commits, from git, bounded in size."""

from __future__ import annotations

from hubdock.core.errors import RecipeError
from hubdock.core.notebooks import MAX_FILE
from hubdock.core.tree import Tree
from hubdock.drivers.mirror import Mirror
from hubdock.engine.metrics import find_blobs, read_bounded

EMPTY = b'{"nbformat": 4, "nbformat_minor": 4, "metadata": {}, "cells": []}'


def read_pair(mirror: Mirror, path: str, before: Tree, after: Tree) -> tuple[bytes, bytes]:
    """Return the contents of a notebook on two sides; where one side lacks it, an empty notebook. Raises RecipeError with the file."""
    oids = [find_blobs(tree, [path]).get(path) for tree in (before, after)]
    if not path.endswith(".ipynb") or oids == [None, None]:
        raise RecipeError("Neither branch has this notebook.", file=path)
    contents = [EMPTY if oid is None else read_notebook(mirror, path, oid) for oid in oids]
    return contents[0], contents[1]


def read_notebook(mirror: Mirror, path: str, oid: str) -> bytes:
    """Return a notebook's content. Raises RecipeError with the file if it is too large."""
    contents = read_bounded(mirror, [oid], MAX_FILE)
    if oid not in contents:
        raise RecipeError(f"The notebook is over {MAX_FILE // 1024**2} MiB. It is not compared here.", file=path)
    return contents[oid]
