"""Build contexts of trees that are meant to do harm."""

from __future__ import annotations

import io
from typing import Any

import pytest

from hubdock.core.errors import RecipeError
from hubdock.core.tree import TreeEntry
from hubdock.drivers.context import Context, add_tree


@pytest.mark.parametrize("path", [".git", ".git/config", ".git/hooks/post-checkout", "sub/.git/hubdock/seeding", ".GIT/config", "a/.Git/x"])
def test_a_tree_brings_no_git_directory(path: str) -> None:
    """Its configuration and hooks would run as the user, as soon as Lab looks at the workspace (git's own fsck: hasDotgit)."""
    mirror: Any = None
    with pytest.raises(RecipeError, match="which git itself would refuse") as caught:
        add_tree(Context(io.BytesIO()), mirror, [TreeEntry(path, "100644", "blob", "0" * 40)])
    assert caught.value.file == path


def test_what_is_only_like_it_is_kept() -> None:
    names = [".gitignore", "x.git", ".github/x", "git/config", ".git-hooks/x"]

    class Mirror:
        def stream_blobs(self, oids: Any) -> Any:
            return ((oid, 1, io.BytesIO(b"x")) for oid in oids)

    mirror: Any = Mirror()
    context = Context(io.BytesIO())
    assert add_tree(context, mirror, [TreeEntry(name, "100644", "blob", "0" * 40) for name in names]) == len(names)
