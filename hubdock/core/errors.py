"""Every error that hubdock raises on purpose.

    HubDockError                      500
    ├── RequestError                  400   what was typed or sent
    │   ├── InvalidRepoURL
    │   ├── InvalidRef
    │   ├── InvalidOption
    │   ├── RepoNotAllowed            403
    │   ├── WorkspaceNotFound         404
    │   └── WorkspaceInUse            409
    ├── ResolveError                  404   what the remote answered
    │   ├── RefNotFound
    │   ├── AccessDenied                    missing and forbidden answer alike
    │   └── RepoUnreachable           502
    ├── RecipeError                   422   what the repository says (file, line)
    ├── BuildError                    422   the failing step and its last lines
    │   ├── UnsatisfiableError              the requirements contradict each other, or ask for what is not there
    │   ├── PackageFailed                   a package that is built from source
    │   ├── SmokeTestFailed
    │   ├── DataError                       a DVC output that can't be had
    │   │   ├── DataNotFound
    │   │   └── DataDenied
    │   ├── BuildTimeout              504
    │   ├── BuildCancelled            409
    │   ├── OutOfSpace                507
    │   └── OutOfMemory
    ├── LaunchError                   500   the server's container ended or never answered
    ├── CapacityError                 503
    │   ├── QueueFull
    │   └── GPUUnavailable
    ├── BackendError                  502   an engine, builder or registry that does not answer
    │   ├── BuilderUnavailable
    │   ├── IndexUnavailable
    │   ├── ImageGone                       an image was removed between the plan and its use
    │   ├── DataGone                        data that was fetched is not in the store any more
    │   └── RegistryUnavailable       503
    └── ConfigError                   500   what the admin wrote; raised at startup

``message`` is safe to show to the user and says what to do next; ``detail`` is for the log.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar


class HubDockError(Exception):
    """Base of hubdock's errors.

    ``field`` names the form field or option at fault, ``file`` (relative to the repository) and ``line`` (from 1) the place in the
    repository. All three may be None. ``near`` are values that the field may have meant.
    """

    code: ClassVar[str] = "error"
    status: ClassVar[int] = 500

    def __init__(
        self, message: str, detail: str = "", *, field: str | None = None, file: str | None = None, line: int | None = None, near: Sequence[str] = ()
    ) -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail
        self.field = field
        self.file = file
        self.line = line
        self.near = tuple(near)

    def __str__(self) -> str:
        return f"{self.place}: {self.message}" if self.place else self.message

    @property
    def place(self) -> str:
        """``file:line``, ``file`` or the empty string."""
        if self.file is None:
            return ""
        return self.file if self.line is None else f"{self.file}:{self.line}"

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form that the API, the worker's result file and `from_dict` share. It never holds ``detail``."""
        values = {"code": self.code, "status": self.status, "message": self.message}
        places = {"field": self.field, "file": self.file, "line": self.line, "near": list(self.near) or None}
        return values | {name: value for name, value in places.items() if value is not None}


class RequestError(HubDockError):
    """The request is wrong: nothing was asked of any remote."""
    code = "bad_request"
    status = 400


class InvalidRepoURL(RequestError):
    """The text is no repository address that hubdock accepts."""
    code = "invalid_repo_url"


class InvalidRef(RequestError):
    """The text is no name that git allows for a branch or tag."""
    code = "invalid_ref"


class InvalidOption(RequestError):
    """An option is unknown, of the wrong type, or over the admin's limit."""
    code = "invalid_option"


class RepoNotAllowed(RequestError):
    """The admin's lists of hosts and repositories do not hold this one."""
    code = "repo_not_allowed"
    status = 403


class WorkspaceNotFound(RequestError):
    """There is no such workspace, or it is somebody else's."""
    code = "workspace_not_found"
    status = 404


class WorkspaceInUse(RequestError):
    """A server is on the workspace, or another has taken its place."""
    code = "workspace_in_use"
    status = 409


class ResolveError(HubDockError):
    """The remote could not say which commit a name stands for."""
    code = "resolve_failed"
    status = 404


class RefNotFound(ResolveError):
    """The repository has no such branch or tag."""
    code = "ref_not_found"


class AccessDenied(ResolveError):
    """The repository does not exist, or this user may not read it: the two are told apart to nobody."""
    code = "repo_not_found"


class RepoUnreachable(ResolveError):
    """The remote did not answer in time, refused the connection, or sent us elsewhere."""
    code = "repo_unreachable"
    status = 502


class RecipeError(HubDockError):
    """A file of the repository can't be understood or is not supported."""
    code = "recipe_error"
    status = 422


class BuildError(HubDockError):
    """A step of a build failed."""
    code = "build_failed"
    status = 422


class UnsatisfiableError(BuildError):
    """The requirements can't be installed together, or one names what the index does not have."""
    code = "unsatisfiable"


class PackageFailed(BuildError):
    """A package could not be built from source, or would have to be where that is not allowed."""
    code = "package_failed"


class SmokeTestFailed(BuildError):
    """The environment was built, but Jupyter or its kernel does not work in it."""
    code = "smoke_test_failed"


class DataError(BuildError):
    """A DVC output could not be fetched."""
    code = "data_failed"


class DataNotFound(DataError):
    """The DVC remote does not have an object that the branch names."""
    code = "data_not_found"


class DataDenied(DataError):
    """The DVC remote did not accept the hub's credentials, or wants some where the hub has none."""
    code = "data_denied"


class BuildTimeout(BuildError):
    """The build ran past the admin's limit."""
    code = "build_timeout"
    status = 504


class BuildCancelled(BuildError):
    """Somebody cancelled the build, and nobody else waited for it."""
    code = "build_cancelled"
    status = 409


class OutOfSpace(BuildError):
    """The disk is full."""
    code = "out_of_space"
    status = 507

    @classmethod
    def on(cls, place: str, detail: str = "") -> OutOfSpace:
        """Return the error for a place (“the hub”, “the Docker host”), with what to do."""
        return cls(f"The disk of {place} is full. Nothing half-made is used. An administrator can free space with `hubdock gc`; then start again.", detail)


class OutOfMemory(BuildError):
    """A step was killed for the memory it took."""
    code = "out_of_memory"


class LaunchError(HubDockError):
    """The server's container could not be started, ended at once, or never answered."""
    code = "launch_failed"


class CapacityError(HubDockError):
    """There is no room now; later there may be."""
    code = "no_capacity"
    status = 503


class QueueFull(CapacityError):
    """Too many builds wait already."""
    code = "queue_full"


class GPUUnavailable(CapacityError):
    """All GPUs are taken."""
    code = "gpu_unavailable"


class BackendError(HubDockError):
    """Something hubdock stands on does not answer. That never means that an image is missing."""
    code = "backend_unavailable"
    status = 502


class BuilderUnavailable(BackendError):
    """The Docker Engine or BuildKit does not answer."""
    code = "builder_unavailable"


class IndexUnavailable(BackendError):
    """The package index does not answer, or not as an index does."""
    code = "index_unavailable"


class ImageGone(BackendError):
    """An image that was there when a start was planned was removed since. Starting again makes it anew."""
    code = "image_gone"


class DataGone(BackendError):
    """Data that was there when a start was planned is not in the store, or not whole. Starting again fetches it anew."""
    code = "data_gone"


class RegistryUnavailable(BackendError):
    """The registry does not answer, or does not let us in."""
    code = "registry_unavailable"
    status = 503


class ConfigError(HubDockError):
    """The admin's configuration is wrong."""
    code = "config_error"


def _all_errors(root: type[HubDockError]) -> dict[str, type[HubDockError]]:
    found = {root.code: root}
    for child in root.__subclasses__():
        found |= _all_errors(child)
    return found


def from_dict(values: dict[str, Any]) -> HubDockError:
    """Return the error whose `HubDockError.as_dict` this is; an unknown code becomes a plain `HubDockError`."""
    kind = _all_errors(HubDockError).get(str(values.get("code")), HubDockError)
    line = values.get("line")
    return kind(
        str(values.get("message", "")), field=values.get("field"), file=values.get("file"), line=line if isinstance(line, int) else None, near=values.get("near") or ()
    )
