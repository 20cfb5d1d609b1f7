"""The plan: from what a user chose to keys, and for each part whether it is ready.

A known commit costs one ``ls-remote`` process, a few queries and two or three questions to the back-end.
"""

from __future__ import annotations

import fnmatch
import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

from hubdock.core.asker import Asker
from hubdock.core.contract import BaseImage, check_roots
from hubdock.core.errors import HubDockError, InvalidRef, RecipeError, RegistryUnavailable
from hubdock.core.estimate import find_remaining
from hubdock.core.keys import EnvironmentInputs, ImageInputs, make_digest
from hubdock.core.naming import make_data_volume
from hubdock.core.options import Options
from hubdock.core.plan import Part, Plan, State, find_tensorflow_notice
from hubdock.core.recipe import Recipe
from hubdock.core.refs import parse_ref
from hubdock.core.repo import parse_repo_url
from hubdock.core.requirements import LineKind, RequirementLine, pin_git, split_git
from hubdock.core.source import Source
from hubdock.core.text import redact
from hubdock.drivers import git
from hubdock.drivers.certificates import read_certificates
from hubdock.engine.assembly import Assembly, guest_version, make_code_inputs, make_environment_inputs
from hubdock.engine.backend import open_backend
from hubdock.engine.config import HubDock
from hubdock.engine.database import Database
from hubdock.engine.datasets import Dataset, make_dataset
from hubdock.engine.estimates import LAUNCH, Estimates
from hubdock.engine.memory import Memory
from hubdock.engine.reading import Reader
from hubdock.engine.reasons import explain_environment
from hubdock.engine.tasks import TaskStore

RETRY = 3600.0  # seconds for which newer packages that could not be installed are not tried again by the clock
MOMENT = 0.5  # seconds for which who only looks is told again that everything is ready: of a crowd on one page, one asks the back-end
_SEEN_AT_MOST = 512
_UNKNOWN_BASE = "the base image was not looked into yet"


class Planner:
    """Makes plans. Its methods block on git and the back-end, and may be called from any thread."""

    def __init__(self, settings: HubDock, database: Database, tasks: TaskStore) -> None:
        self.settings = settings
        self.database = database
        self.tasks = tasks
        self.reader = Reader(settings, database)
        self.estimates = Estimates(database)
        self.backend = open_backend(settings.backend_values)
        self._seen = Memory[object, tuple[float, Plan]](_SEEN_AT_MOST)

    def plan(self, options: Options, asker: Asker, *, new_must_be_new: bool = False, rebuild: bool = False, preview: bool = False) -> Assembly:
        """Return the plan of a person's choice, made with what they may read.

        ``new_must_be_new`` refuses a new branch whose name the remote has already; otherwise that branch is started, which is what a restart of
        a pushed hypothesis means. ``rebuild`` takes the newest base and renews packages that are not pinned. A ``preview`` is looked at, not started. Raises RequestError, ResolveError, RecipeError and
        BackendError.
        """
        self.settings.check_choice(options.repo)
        options = replace(options, resources=self.settings.limits.apply(options.resources))
        remote = self.reader.make_remote(options.repo, asker)
        ref, taken = git.resolve_ref(remote, options.ref, options.new_branch)
        notices: list[str] = []
        if taken and new_must_be_new:
            raise _already_there(options)
        if taken:
            notices.append(f"The branch {options.new_branch} is on the remote already: it is started instead of a new one.")
            options = replace(options, ref=options.new_branch, new_branch="")
            ref, _ = git.resolve_ref(remote, f"refs/heads/{options.ref}")  # a tag of this name is not meant
        ref, source = self.reader.read(remote, ref)
        self._check_policy(source.recipe)
        dataset = self._make_dataset(source)
        reference = self.reader.find_base_reference(source.recipe, options.resources.gpu)
        base_key = make_base_key(self.settings, reference)
        base, prepared = self._find_base(reference, base_key)
        newer, told = self._find_newer(base, source.recipe) if rebuild else ("", [])
        base, prepared = (None, "") if newer else (base, prepared)
        notices += [*source.recipe.notices, *source.data.notices, *told]
        if source.recipe.kind == "none":
            notices.append("No requirements were found: the base image is used as it is.")
        plan = Plan(options.repo.url, options.ref, ref.kind, ref.commit, source.tree, options.new_branch, notices=tuple(notices))
        assembly = Assembly(options, remote, ref, source, plan, reference, base_key, newer, base, prepared, dataset=dataset, rebuild=rebuild, asker=asker)
        return self._add_parts(self._add_keys(assembly), preview)

    def refresh(self, a: Assembly) -> Assembly:
        """Return the assembly as it is now, without asking the remote again: after a base was prepared, or a part was made."""
        base, prepared = self._find_base(a.base_reference, a.base_key)
        return self._add_parts(self._add_keys(replace(a, base=base, prepared=prepared, plan=replace(a.plan, notices=_without_parts(a)))))

    # --- what may be asked for ---

    def _check_policy(self, recipe: Recipe) -> None:
        for line in recipe.lines:
            if line.kind in {LineKind.INDEX, LineKind.LINKS} and "://" in line.value and not self._allows_index(line.value):
                raise RecipeError(
                    f"The package index {redact(line.value)[:200]} is not allowed on this hub. An administrator can add it to HubDock.allowed_indexes.",
                    file=line.file, line=line.line,
                )  # fmt: skip
            if line.kind in {LineKind.GIT, LineKind.LOCAL} and self.settings.index_credentials and not line.value.endswith(".whl"):
                raise RecipeError(
                    "This package would be built from source, which this hub does not do: its package index needs a credential that no package code "
                    "may see. Name a released version, or a wheel.",
                    file=line.file, line=line.line,
                )  # fmt: skip

    def _allows_index(self, url: str) -> bool:
        return any(matches_index(url, pattern) for pattern in (*self.settings.allowed_indexes, *self.settings.indexes))

    def _make_dataset(self, source: Source) -> Dataset | None:
        if self.settings.data_mode == "none":
            return None
        return make_dataset(source.data, self.settings.policy, self.settings.dvc_remotes)

    # --- keys ---

    def _find_base(self, reference: str, key: str) -> tuple[BaseImage | None, str]:
        """Return what is known of a base, unless it was prepared by other settings, or the local image of that name is another by now."""
        row = self.database.read_base(reference)
        if row is None or row.key != key:
            return None, ""
        base = BaseImage(**json.loads(row.text))
        return (None, "") if self.backend.is_moved(reference, base.image_id) else (base, row.prepared)

    def _find_newer(self, base: BaseImage | None, recipe: Recipe) -> tuple[str, list[str]]:
        """Return what a rebuild would bring: the digest of a newer base, or the empty string; and what there is to say about it."""
        told = ["Every package is pinned to one version: there is nothing to renew."] if recipe.pinned or recipe.kind == "none" else []
        try:
            return (self.backend.find_newer(base.reference, base.image_id) or "") if base else "", told
        except RegistryUnavailable as error:
            return "", [*told, f"{error.message} The base image is used as it is known."]

    def _add_keys(self, a: Assembly) -> Assembly:
        if a.base is None:
            return a
        check_roots(a.source.recipe, a.base.roots)
        sources, overrides = self._resolve_sources(a.source.recipe, a.asker)
        environment = make_environment_inputs(self.settings, a.source, a.workspace, a.base, a.prepared, sources, 0)
        epoch, renews = (a.environment.epoch, a.renews) if a.environment else self._find_epoch(a.source.recipe, environment, a.rebuild)
        environment = replace(environment, epoch=epoch)
        code = make_code_inputs(a.source, a.workspace, a.remote.repo.canonical if a.remote.credential else "")
        data = a.dataset.inputs.key if a.dataset and self.settings.data_mode == "image" else ""
        image = ImageInputs(environment.key, code.key, data, guest_version())
        return replace(a, environment=environment, code=code, image=image, overrides=overrides, rebuild=False, renews=renews)

    def _find_epoch(self, recipe: Recipe, inputs: EnvironmentInputs, rebuild: bool) -> tuple[int, str]:
        """Return the epoch of an environment, and what remembers it once it is made: newer packages that don't work cost nobody the ones that do."""
        if recipe.kind == "none" or recipe.pinned:
            return 0, ""
        key = make_digest("epoch", inputs.as_dict())
        known = self.database.read_epoch(key)
        if known is None:
            return int(rebuild), key
        epoch, since = known
        max_age = self.settings.package_max_age
        old = max_age and time.time() - since > max_age and not self._failed_lately(replace(inputs, epoch=epoch + 1).key)
        return (epoch + 1, key) if rebuild or old else (epoch, "")

    def _failed_lately(self, key: str) -> bool:
        latest = self.tasks.latest("environment", key)
        result = latest.result() if latest is not None else None
        return result is not None and result.error is not None and time.time() - result.finished < RETRY

    def _resolve_sources(self, recipe: Recipe, asker: Asker) -> tuple[tuple[tuple[str, str], ...], tuple[str, ...]]:
        """Return the commits of git requirements, and the lines that hold the build to them."""
        lines = recipe.sources
        if not lines:
            return (), ()
        with ThreadPoolExecutor(min(8, len(lines))) as pool:
            commits = list(pool.map(partial(self._resolve_source, asker), lines))
        found = list(zip(lines, commits, strict=True))
        return tuple((line.value, commit) for line, commit in found), tuple(pin_git(line, commit) for line, commit in found if line.name)

    def _resolve_source(self, asker: Asker, line: RequirementLine) -> str:
        url, ref, _ = split_git(line.value)
        try:
            remote = self.reader.make_remote(parse_repo_url(url), asker)
            if line.pinned:
                return ref
            if ref:
                return git.resolve_ref(remote, parse_ref(ref))[0].commit
            return git.list_refs(remote, ["HEAD"])["HEAD"]
        except (HubDockError, KeyError) as error:
            message = error.message if isinstance(error, HubDockError) else "The repository has no default branch."
            raise RecipeError(f"{line.text}: {message}", file=line.file, line=line.line) from error

    # --- parts ---

    def _add_parts(self, a: Assembly, preview: bool = False) -> Assembly:
        self.reader.usage.record_start(a, preview)  # before anything is looked up: what is found from here on is not removed
        now = time.monotonic()
        seen, plan = self._seen.get(a.identity) or (now - MOMENT, a.plan)
        if not (preview and plan.ready and now - seen < MOMENT):
            parts = self._image_parts(a)
            parts += [self._data_part(a, parts[-1].state is State.READY)]
            plan = replace(a.plan, parts=(self._base_part(a, parts), *parts), launch=self.estimates.estimate(LAUNCH, a))
            self._seen[a.identity] = time.monotonic(), plan
        notices = list(a.plan.notices)
        if a.base is not None:
            notice = find_tensorflow_notice(a.source.recipe, a.base.packages)
            notices += [notice] if notice else []
        return replace(a, plan=replace(a.plan, parts=plan.parts, notices=tuple(notices), launch=plan.launch))

    def _base_part(self, a: Assembly, parts: Sequence[Part]) -> Part:
        """Return the base's part. Whether its image is still here is asked only where an environment is built on it, or data fetched with it."""
        if a.base is None:
            reason = f"{a.base_reference} is another image by now" if a.base_digest else f"{a.base_reference} is new here, or changed"
            return self._pending(a, "base", a.base_key, (reason,))
        needed = any(part.name in {"environment", "data"} and part.state in {State.BUILD, State.RUNNING} for part in parts)
        if needed and self.backend.inspect_image(a.prepared) is None:
            return self._pending(a, "base", a.base_key, ("not here any more",))
        return Part("base", State.READY, a.prepared.rpartition(":")[2])

    def _image_parts(self, a: Assembly) -> list[Part]:
        if a.environment is None or a.image is None:
            return [replace(self._pending(a, name, "", (_UNKNOWN_BASE,)), state=State.BUILD) for name in ("environment", "image")]
        if self.backend.find_image("image", a.image.key, a.image.canonical):
            return [Part("environment", State.READY, a.environment.key), Part("image", State.READY, a.image.key)]
        if self.backend.find_image("environment", a.environment.key, a.environment.canonical):
            environment = Part("environment", State.READY, a.environment.key)
            reasons: tuple[str, ...] = ("new code on a ready environment",)
        else:
            environment = self._pending(a, "environment", a.environment.key, explain_environment(self.database, a))
            reasons = ("the environment is new",)
        return [environment, self._pending(a, "image", a.image.key, reasons)]

    def _data_part(self, a: Assembly, image_ready: bool) -> Part:
        if a.dataset is None:
            return Part("data", State.NONE)
        inputs = a.dataset.inputs
        if self.settings.data_mode == "image":  # what is in the image is needed no more beside it
            ready, reason = image_ready or bool(self.backend.find_image("data", inputs.key, inputs.label)), "not in the registry"
        else:
            ready, reason = self.backend.find_data(self.tasks, inputs.key, make_data_volume(self.settings.volume_prefix)), "not in the store"
        if ready:
            return Part("data", State.READY, inputs.key)
        return replace(self._pending(a, "data", inputs.key, (reason,)), size=a.dataset.size or None)

    def _pending(self, a: Assembly, kind: str, key: str, reasons: tuple[str, ...]) -> Part:
        estimate = self.estimates.estimate(kind, a)
        latest = self.tasks.latest(kind, key) if key else None
        if latest is None or not latest.running():
            return Part(kind, State.BUILD, key, reasons, estimate.seconds, estimate.samples)
        estimate = find_remaining(estimate, latest.elapsed)
        return Part(kind, State.RUNNING, key, reasons, estimate.seconds, estimate.samples)


def matches_index(url: str, pattern: str) -> bool:
    """True if an index's URL is within a pattern of the admin. Scheme, host and path are compared apart: a ``*`` in the host ends with it."""
    (scheme, _, rest), (wanted, _, tail) = url.partition("://"), pattern.partition("://")
    (host, _, path), (hosts, _, paths) = rest.partition("/"), tail.partition("/")
    return pattern == "*" or (scheme == wanted and fnmatch.fnmatchcase(host.lower(), hosts) and fnmatch.fnmatchcase(path.rstrip("/"), paths.rstrip("/")))


def make_base_key(settings: HubDock, reference: str) -> str:
    """Return the key of the task that prepares a base: one at a time for a reference and what is added to it. Raises ConfigError.

    Proxies and indexes are no part of it: they are ways to the same packages, and stay out of the image.
    """
    return make_digest("prepare", [reference, list(settings.dvc_packages), read_certificates(settings.extra_ca_certificates)])


def _without_parts(a: Assembly) -> tuple[str, ...]:
    """Return the notices of a plan without the one that depends on the base."""
    return tuple(notice for notice in a.plan.notices if " replaces the base image's " not in notice)


def _already_there(options: Options) -> HubDockError:
    return InvalidRef(
        f"{options.new_branch} is on the remote already. Choose it as the branch, or give the new one another name.", field="new_branch"
    )

