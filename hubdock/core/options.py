"""What a user chooses, from whatever a form or the REST API sent. The same fields are the hub's ``user_options``; none is ever a secret."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hubdock.core.errors import InvalidOption, InvalidRef
from hubdock.core.refs import make_short, parse_new_branch, parse_ref
from hubdock.core.repo import RepoURL, parse_repo_url
from hubdock.core.resources import Resources, format_bytes, parse_bytes, parse_cpu, parse_gpu

FIELDS = ("repo", "ref", "new_branch", "cpu", "memory", "shm", "gpu")
_REFUSED = {
    "image": "An image can't be chosen: it is made from the repository and branch.",
    "commit": "A commit can't be chosen: give a branch or tag.",
}


@dataclass(frozen=True)
class Options:
    """One choice. ``new_branch`` is empty unless a new hypothesis is to start from ``ref``."""

    repo: RepoURL
    ref: str
    new_branch: str = ""
    resources: Resources = field(default_factory=Resources)

    @property
    def branch(self) -> str:
        """The hypothesis: the branch (or tag) that the workspace is on, without ``refs/…``."""
        return self.new_branch or make_short(self.ref)

    def as_dict(self) -> dict[str, Any]:
        """Return the ``user_options``: only what was chosen, in the types that `parse_options` reads."""
        r = self.resources
        values = {"repo": self.repo.url, "ref": self.ref, "new_branch": self.new_branch, "cpu": r.cpu, "gpu": r.gpu}
        sizes = {"memory": None if r.memory is None else str(r.memory), "shm": None if r.shm is None else str(r.shm)}
        return {name: value for name, value in (values | sizes).items() if value not in ("", None, 0)}


def parse_options(raw: object) -> Options:
    """Return the choice in a REST body or in `flatten_form`'s result.

    Raises RequestError with the field at fault: unknown fields, wrong types and ``image`` are refused, not ignored.
    """
    if not isinstance(raw, Mapping):
        raise InvalidOption("The options must be an object with “repo” and “ref”.")
    for name in raw:
        if name not in FIELDS:
            shown = str(name)[:60]
            raise InvalidOption(_REFUSED.get(shown, f"The option {shown!r} is unknown. Known: {', '.join(FIELDS)}."), field=shown)
    repo = parse_repo_url(raw.get("repo") if raw.get("repo") is not None else "")
    ref = parse_ref(raw.get("ref") if raw.get("ref") is not None else "")
    new_branch = parse_new_branch(raw["new_branch"]) if raw.get("new_branch") not in (None, "") else ""
    if new_branch and new_branch == make_short(ref) and not ref.startswith("refs/tags/"):
        raise InvalidRef("The new branch has the name of the branch it starts from. Choose another name, or leave it empty.", field="new_branch")
    resources = Resources(
        parse_cpu(raw.get("cpu")), parse_bytes(raw.get("memory"), "memory"), parse_bytes(raw.get("shm"), "shm"), parse_gpu(raw.get("gpu"))
    )
    return Options(repo, ref, new_branch, resources)


def flatten_form(form: Mapping[str, list[str]]) -> dict[str, str]:
    """Return the one value of each hubdock field of a submitted form; fields of the hub itself are left out.

    Raises InvalidOption for a repeated field, and for one that would choose an image or a commit.
    """
    for name in _REFUSED:
        if form.get(name):
            raise InvalidOption(_REFUSED[name], field=name)
    values = {}
    for name in FIELDS:
        given = form.get(name) or []
        if len(given) > 1:
            raise InvalidOption(f"The field {name!r} was sent {len(given)} times.", field=name)
        text = given[0].strip() if given else ""
        if text:
            values[name] = text
    return values


def describe(resources: Resources) -> str:
    """Return resources in a few words: ``2 CPU, 4G memory, 1 GPU``."""
    parts = [
        "" if resources.cpu is None else f"{resources.cpu:g} CPU",
        "" if resources.memory is None else f"{format_bytes(resources.memory)} memory",
        f"{resources.gpu} GPU" if resources.gpu else "",
    ]
    return ", ".join(part for part in parts if part)
