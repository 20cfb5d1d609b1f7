"""The admin's settings of the engine: ``c.HubDock.…`` in jupyterhub_config.py, or a file given to ``hubdock --config``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import platformdirs
from traitlets import Bool, Dict, Enum, Float, Int, List, TraitError, Unicode, validate
from traitlets.config import Config, Configurable
from traitlets.config.loader import JSONFileConfigLoader, PyFileConfigLoader

from hubdock.core.asker import Asker
from hubdock.core.catalogue import Entry, check_choice, parse_catalogue
from hubdock.core.errors import ConfigError
from hubdock.core.repo import RepoPolicy, RepoURL, make_policy
from hubdock.core.resources import Limits, Resources, parse_bytes, parse_cpu
from hubdock.drivers.git import Credential
from hubdock.drivers.secrets import read_secret
from hubdock.engine.checks import check_settings
from hubdock.engine.config_kube import KubeSettings
from hubdock.engine.identity import find_identity

DEFAULT_BASE = "quay.io/jupyter/tensorflow-notebook:2026-11-16"
DEFAULT_GPU_BASE = "quay.io/jupyter/tensorflow-notebook:cuda-2026-11-16"


class HubDock(KubeSettings):
    """Settings of planning, building and data. Every value is JSON: the service is a process of its own."""

    state_dir = Unicode(
        help="""Directory of everything that hubdock remembers: database, logs, copies of repositories. It must be on a local disk, and only
        hubdock's user may read it. Example: ``/srv/hubdock``. Default: the user's data directory."""
    ).tag(config=True)
    db_url = Unicode(
        "",
        help="""SQLAlchemy URL of the database: SQLite, or PostgreSQL (``pip install 'hubdock[postgresql]'``), which several hubdocks may share. Example:
        ``postgresql://hubdock@db.example.org/hubdock``; its password can be in libpq's ``PGPASSFILE``. Default: an SQLite file in `state_dir`.""",
    ).tag(config=True)

    allowed_hosts = List(
        Unicode(),
        ["github.com", "gitlab.com", "bitbucket.org", "codeberg.org"],
        help="""Hosts whose repositories may be started: names (``github.com``), patterns (``*.example.org``) or exact origins
        (``http://10.0.0.5:3000``), which alone allow plain HTTP, another port or a private address. Default: the large public hosts.""",
    ).tag(config=True)
    allowed_repos = List(
        Unicode(), help="""Repositories that may be started, as patterns over ``host/path``: ``github.com/team/*``. Default: all of the hosts."""
    ).tag(config=True)
    catalogue: List[Any] = List(
        help="""Repositories that the page offers: addresses, or ``{"url": "https://github.com/team/digits", "title": "Digits", "description": "Handwriting,
        by VGG"}``. People see those that they can read. Default: none.""",
    ).tag(config=True)
    free_choice = Bool(
        True, help="""Start any repository that `allowed_hosts` and `allowed_repos` let in; ``False``: only those of the `catalogue`. Default: True."""
    ).tag(config=True)
    git_timeout = Float(
        60.0, min=1, help="""Seconds after which a git process is ended, and a fetch of data from DVC remotes that send nothing. Default: 60."""
    ).tag(config=True)
    git_credentials = List(
        Dict(),
        help="""Credentials for private repositories: ``{"origin": "https://git.example.org", "username": "bot", "password_file": "/etc/…"}`` or
        ``{"origin": "ssh://git.example.org", "key_file": "/etc/…"}``. Sent to exactly this scheme, host and port. With ``"users": […]`` or
        ``"groups": […]`` only these people of the hub may start what it opens, without either everybody may; of several entries for an
        origin the first that a person may use counts. Files must be readable by hubdock's user alone. Default: none.""",
    ).tag(config=True)
    max_repo_size = Int(2 * 1024**3, min=1024**2, help="""The most bytes that one fetch from a repository may bring. Default: 2 GiB.""").tag(config=True)

    base_image = Unicode(
        DEFAULT_BASE,
        help="""The image that environments are built on: a dated tag of the Jupyter docker-stacks, or one with the same contract
        (``hubdock doctor --base IMAGE`` checks it). Default: a dated ``tensorflow-notebook``.""",
    ).tag(config=True)
    gpu_base_image = Unicode(
        DEFAULT_GPU_BASE, help="""The base of servers that ask for a GPU; empty: `base_image`. Default: the CUDA variant of the default base."""
    ).tag(config=True)
    base_images = Dict(
        value_trait=Unicode(),
        key_trait=Unicode(),
        help="""Further bases that a repository may choose by name in .hubdock.yml: ``{"torch": "quay.io/jupyter/pytorch-notebook:…"}``. Default: none.""",
    ).tag(config=True)
    base_refresh = Float(
        24 * 3600.0, min=0, help="""Seconds after which the service asks the registry again what a base's tag stands for; 0: never. Default: a day."""
    ).tag(config=True)
    requirements_paths = List(
        Unicode(), help="""Further places of requirements files, tried before ``binder/``, ``.binder/`` and the root. Default: none."""
    ).tag(config=True)
    package_max_age = Float(
        0.0,
        min=0,
        help="""Seconds after which an environment with packages that are not pinned is built anew at the next start; 0: only when somebody asks
        for a rebuild. What can't be built anew is used as it was for another hour. Default: 0.""",
    ).tag(config=True)

    index_url = Unicode("", help="""Package index instead of PyPI, without credentials. Default: PyPI.""").tag(config=True)
    extra_index_urls = List(Unicode(), help="""Further package indexes; a package may come from any of them. Default: none.""").tag(config=True)
    index_credentials = List(
        Dict(),
        help="""Credentials of the indexes: ``{"origin": "https://pypi.example.org", "username": "reader", "password_file": "/etc/…"}``. They reach
        only steps that run no package code: with them, wheels alone are installed. Default: none.""",
    ).tag(config=True)
    allowed_indexes = List(
        Unicode(), help="""Index URLs (patterns) that a requirements file may name itself with --index-url or --extra-index-url. Default: none."""
    ).tag(config=True)
    extra_ca_certificates = Unicode(
        "", help="""PEM file of certificate authorities to trust beside the usual ones: by git, in images, builds and fetches. Default: none."""
    ).tag(config=True)
    proxies = Dict(
        value_trait=Unicode(),
        key_trait=Enum(["http_proxy", "https_proxy", "no_proxy"]),
        help="""Proxies of git, builds and fetches: ``{"https_proxy": "http://proxy:3128"}``. Default: none; git goes by hubdock's environment.""",
    ).tag(config=True)

    data_mode = Enum(
        ["store", "image", "none"],
        "store",
        help="""``store``: DVC data is fetched once into a shared, read-only store and linked into workspaces. ``image``: it becomes part of images,
        for clusters without storage that all nodes mount (Kubernetes only). ``none``: people run ``dvc pull`` themselves. Default: store.""",
    ).tag(config=True)
    dvc_packages = List(
        Unicode(),
        ["dvc[http,s3,ssh]>=3.60,<4"],
        help="""What is installed as DVC, in an environment of its own, where a base brings none. Default: DVC 3 with HTTP, S3 and SSH.""",
    ).tag(config=True)
    dvc_remotes = Dict(
        value_trait=Dict(),
        key_trait=Unicode(),
        help="""Options of DVC remotes by the start of their URL: ``{"s3://team/": {"access_key_id_file": "/etc/…", "secret_access_key_file":
        "/etc/…", "endpointurl": "https://…"}}``. A value from a file has ``_file`` at the end of its name. Remotes over http, ssh and webdav
        must be on `allowed_hosts` or here. Default: none.""",
    ).tag(config=True)
    data_network = Unicode("bridge", help="""Docker network of the containers that fetch data. Default: bridge.""").tag(config=True)

    volume_prefix = Unicode(
        "hubdock",
        help="""Start of the names of the Docker volumes that hubdock makes: homes, workspaces and the data store. Two hubs on one Docker host need
        two. Default: hubdock.""",
    ).tag(config=True)
    build_timeout = Float(3600.0, min=10, help="""Seconds after which a build is ended. Default: an hour.""").tag(config=True)
    max_parallel_builds = Int(4, min=1, help="""How many builds run at once. Default: 4.""").tag(config=True)
    max_queued_builds = Int(
        100, min=0, help="""How many builds may wait for their turn; a further one is refused for the moment, with 503. Default: 100."""
    ).tag(config=True)
    max_queued_builds_per_user = Int(10, min=0, help="""How many builds of one user may wait for their turn. Default: 10.""").tag(config=True)
    wait_timeout = Float(
        7200.0, min=10, help="""Seconds that a start from the page waits for its build, its turn included. The build goes on for others who wait.
        Default: two hours."""
    ).tag(config=True)
    cancel_grace = Float(
        20.0, min=0, help="""Seconds that a build goes on after the last one who waited for it left: they may come back. Default: 20."""
    ).tag(config=True)
    smoke_test = Bool(True, help="""Start Jupyter and a kernel in each new environment before anybody gets it. Default: True.""").tag(config=True)

    disk_budget = Unicode(
        "",
        help="""The most that images, data, copies of repositories and BuildKit's cache may take together, for example ``200G``. What nothing needs goes
        then, least recently used first; workspaces and homes don't count. Default: unlimited.""",
    ).tag(config=True)
    unused_max_age = Float(
        90 * 24 * 3600.0, min=0, help="""Seconds after which what nobody used goes, budget or not; 0: never. A start makes it anew. Default: 90 days."""
    ).tag(config=True)
    log_max_age = Float(
        30 * 24 * 3600.0, min=0, help="""Seconds after which logs and records of builds go; 0: never. Default: 30 days."""
    ).tag(config=True)
    pins = List(
        Unicode(), help="""Hypotheses whose last image and data always stay, as patterns: ``github.com/team/*`` or ``github.com/team/digits@main``. Default: none."""
    ).tag(config=True)
    collect_interval = Float(
        3600.0, min=0, help="""Seconds between two collections by the service; 0: only when an administrator runs ``hubdock gc``. Default: an hour."""
    ).tag(config=True)
    collect_build_cache = Bool(
        True, help="""Count and collect what hubdock's builds left in BuildKit's cache, which all hubs of one Docker Engine share. Default: True."""
    ).tag(config=True)
    workspace_retention = Float(
        14 * 24 * 3600.0, min=0, help="""Seconds that a deleted workspace can be restored; then it is removed for good. Default: 14 days."""
    ).tag(config=True)

    cpu_limit = Float(None, allow_none=True, help="""The most CPU cores that a server may ask for. Default: unlimited.""").tag(config=True)
    mem_limit = Unicode("", help="""The most memory that a server may ask for, for example ``8G``. Default: unlimited.""").tag(config=True)
    shm_limit = Unicode("", help="""The most shared memory (/dev/shm) that a server may ask for. Default: unlimited.""").tag(config=True)
    gpu_limit = Int(0, min=0, help="""The most GPUs that a server may ask for. Default: 0.""").tag(config=True)
    default_resources = Dict(
        help="""What a server gets that asks for nothing: ``{"cpu": 2, "memory": "4G", "shm": "1G"}``. Default: the limits; the engine's own
        shared memory."""
    ).tag(config=True)

    def _state_dir_default(self) -> str:
        return platformdirs.user_data_dir("hubdock")

    @validate("state_dir")
    def _absolute(self, proposal: Any) -> str:
        if not str(proposal.value).startswith("/"):
            raise TraitError("HubDock.state_dir must be an absolute path.")
        return str(proposal.value)

    @property
    def state(self) -> Path:
        """`state_dir`, made if it is not there, closed to others."""
        path = Path(self.state_dir)
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        return path

    @property
    def identity(self) -> str:
        """The name of this hubdock among those that share a database, a registry or a namespace: made once for a state directory."""
        return find_identity(self.state)

    @property
    def backend_values(self) -> Mapping[str, Any]:
        """What `hubdock.engine.backend.open_backend` takes, in this process and in a worker's."""
        return self.make_backend_values(self.identity, self.max_parallel_builds, self.extra_ca_certificates)

    @property
    def database_url(self) -> str:
        """The SQLAlchemy URL in use."""
        return self.db_url or f"sqlite:///{self.state / 'hubdock.sqlite'}"

    @property
    def policy(self) -> RepoPolicy:
        """The lists of hosts and repositories."""
        return make_policy(self.allowed_hosts, self.allowed_repos)

    @property
    def entries(self) -> tuple[Entry, ...]:
        """The catalogue."""
        return parse_catalogue(self.catalogue, self.policy)

    def check_choice(self, repo: RepoURL) -> None:
        """Raise RepoNotAllowed for what nobody may choose here."""
        self.policy.check(repo)
        if not self.free_choice:
            check_choice(repo, self.entries, self.free_choice)

    @property
    def limits(self) -> Limits:
        """The limits of a server, and what it gets unasked."""
        given = self.default_resources
        unknown = set(given) - {"cpu", "memory", "shm"}
        if unknown:
            raise ConfigError(f"HubDock.default_resources has unknown entries: {', '.join(sorted(unknown))}. Known: cpu, memory, shm.")
        default = Resources(parse_cpu(given.get("cpu")), parse_bytes(given.get("memory"), "memory"), parse_bytes(given.get("shm"), "shm"))
        return Limits(self.cpu_limit, parse_bytes(self.mem_limit, "memory"), parse_bytes(self.shm_limit, "shm"), self.gpu_limit, default)

    @property
    def indexes(self) -> tuple[str, ...]:
        """The index URLs that go into keys."""
        return tuple(url for url in (self.index_url, *self.extra_index_urls) if url)

    def find_git_entry(self, origin: str, asker: Asker) -> dict[str, Any] | None:
        """Return the first entry of `git_credentials` for an origin that this person may use."""
        return next((entry for entry in self.git_credentials if entry.get("origin") == origin and asker.may_use(entry)), None)

    def find_credential(self, origin: str, asker: Asker) -> Credential | None:
        """Return the git credential of an origin for this person. Raises ConfigError if its file can't be used."""
        entry = self.find_git_entry(origin, asker)
        if entry is None:
            return None
        password = read_secret(entry["password_file"]) if entry.get("password_file") else ""
        return Credential(origin, str(entry.get("username", "")), password, str(entry.get("key_file", "")))

    def check(self) -> None:
        """Raise ConfigError for whatever would fail later: at startup, not at the first start of a server."""
        check_settings(self)
        self.check_kube()


def load_config(path: str | None) -> Config:
    """Return the configuration in a ``.json`` or ``.py`` file. Raises ConfigError."""
    if not path:
        return Config()
    file = Path(path).resolve()
    loader = (JSONFileConfigLoader if file.suffix == ".json" else PyFileConfigLoader)(file.name, str(file.parent))
    try:
        loaded: Config = loader.load_config()
    except Exception as error:  # a configuration in Python can raise anything
        raise ConfigError(f"The configuration {path} can't be read: {error}") from error
    return loaded


def make_settings(config: Config, kind: type[Configurable] = HubDock) -> Any:
    """Return checked settings. Raises ConfigError for unknown names and wrong values: a misspelt setting must not be ignored."""
    section = config.get(kind.__name__, {})
    known = kind.class_trait_names(config=True)
    for name in section:
        if name not in known and not isinstance(section[name], Config):
            raise ConfigError(f"{kind.__name__}.{name} is not a setting. Known: {', '.join(sorted(known))}.")
    try:
        settings = kind(config=config)
    except TraitError as error:
        raise ConfigError(f"{kind.__name__}: {error}") from error
    if isinstance(settings, HubDock):
        settings.check()
    return settings
