"""The pages of ``docs/reference`` that say what the code says, made from the code: ``python -m hubdock.docs [DIRECTORY]``, or ``make docs``.

A test makes them anew and compares, so that none of them can be older than what it describes.
"""

from __future__ import annotations

import inspect
import re
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from traitlets import DefaultHandler, TraitType
from typer.main import get_command

from hubdock.cli import HELP, app
from hubdock.cli_errors import EXPLAINED
from hubdock.core import errors
from hubdock.engine.config import HubDock
from hubdock.engine.config_kube import KubeSettings
from hubdock.service.openapi import PATHS, SCHEMAS
from hubdock.spawner.docker import HubDockSpawner
from hubdock.spawner.kubedefaults import DefaultKubeSpawner
from hubdock.spawner.kubernetes import HubDockKubeSpawner
from hubdock.spawner.mixin import HubDockMixin
from hubdock.wiring import configure, join

NOTE = "<!-- Made by `make docs` from {}: change it there. -->\n"
PREFIX = "/services/hubdock/"
WIDTH = 140
KINDS = {"Unicode": "Text", "Int": "Whole number", "Float": "Number", "Bool": "True or False", "List": "List", "Dict": "Dictionary"}
GROUPS: dict[str, tuple[str, ...]] = {
    "Where things are": ("state_dir", "db_url", "volume_prefix"),
    "Repositories": ("allowed_hosts", "allowed_repos", "catalogue", "free_choice", "git_credentials", "git_timeout", "max_repo_size"),
    "Base images": ("base_image", "gpu_base_image", "base_images", "base_refresh"),
    "Packages": ("requirements_paths", "package_max_age", "index_url", "extra_index_urls", "index_credentials", "allowed_indexes", "smoke_test"),
    "Network": ("proxies", "extra_ca_certificates"),
    "Data": ("data_mode", "dvc_remotes", "dvc_packages", "data_network"),
    "Builds": ("build_timeout", "max_parallel_builds", "max_queued_builds", "max_queued_builds_per_user", "wait_timeout", "cancel_grace"),
    "Builds on Kubernetes": tuple(KubeSettings.class_own_traits(config=True)),
    "Disk space": (
        "disk_budget", "unused_max_age", "log_max_age", "pins", "collect_interval", "collect_build_cache", "workspace_retention",
    ),
    "What a server may use": ("default_resources", "cpu_limit", "mem_limit", "shm_limit", "gpu_limit"),
}
STOCK = ("remove", "pull_policy", "use_internal_ip", "start_timeout", "http_timeout")
SHARED = ("config", "state_dir", "as_json", "verbose")


def make_pages() -> dict[str, str]:
    """Return the generated pages by file name."""
    pages = {"settings.md": make_settings(), "cli.md": make_cli(), "api.md": make_api()}
    return {name: re.sub(r"\n{3,}", "\n\n", text).rstrip() + "\n" for name, text in pages.items()}


def flow(text: str | None) -> str:
    """Return a docstring or help text as Markdown on one line: ``x`` as `x`."""
    return re.sub(r"``([^`]+)``", r"`\1`", " ".join((text or "").split()))


def fill(text: str) -> str:
    """Return a paragraph in lines of `WIDTH` at most."""
    return textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False) + "\n"


def make_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table, empty without rows."""
    lines = [columns, ["---"] * len(columns), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines) + "\n" if rows else ""


# --- settings ---


def make_settings() -> str:
    """Return the page of all settings."""
    known, spawner = HubDock.class_traits(config=True), HubDockSpawner(_mock=True)
    lines = [
        NOTE.format("the classes' traits"), "# Settings\n",
        fill(
            "In `jupyterhub_config.py` a setting is written as it stands here, before `hubdock.configure(c)`. The command line reads the same from a file: "
            'Python (`c.HubDock.git_timeout = 60`) or JSON (`{"HubDock": {"git_timeout": 60}}`). Each is shown with its default. An unknown name below '
            "`c.HubDock` or a wrong value stops the hub at its start. Every file of a secret must be readable by hubdock's user alone."
        ),
    ]  # fmt: skip
    for title, names in GROUPS.items():
        lines += [f"## {title}\n", *(_describe_trait("HubDock", name, known[name]) for name in names)]
    lines += ["## The spawner\n"]
    for kind in (HubDockMixin, HubDockSpawner):
        lines += [_describe_trait("HubDockSpawner", name, trait) for name, trait in kind.class_own_traits(config=True).items()]
    lines += [
        fill(
            "Everything of DockerSpawner and Spawner can be set too, as `c.HubDockSpawner.…` or `c.DockerSpawner.…`. These have another default here; leave "
            "`remove` and `pull_policy` as they are:"
        ),
        make_table(("setting", "default"), [(f"`{name}`", f"`{getattr(spawner, name)!r}`") for name in STOCK]),
        "## The spawner on Kubernetes\n",
        *(_describe_trait("HubDockKubeSpawner", name, trait) for name, trait in HubDockKubeSpawner.class_own_traits(config=True).items()),
        fill(
            "What `HubDockSpawner` shares with it (all but `gpu_devices` and `gpu_driver`) is set as `c.HubDockKubeSpawner.…`, and so is everything of KubeSpawner and Spawner. "
            "These have another default here:"
        ),
        make_table(("setting", "default"), _list_kube_defaults()),
    ]
    for function in (configure, join):
        name = f"hubdock.{function.__name__}"
        signature = re.sub(r"'(\w+)'", r"\1", str(inspect.signature(function)))
        lines += [f"## {name}\n", f"`{name}{signature}`\n", fill(flow(function.__doc__))]
    return "\n".join(lines)


def _list_kube_defaults() -> list[tuple[str, str]]:
    """Return each setting of KubeSpawner that has another default, and the default. None of them looks at a spawner, which needs a cluster."""
    found = [value for value in vars(DefaultKubeSpawner).values() if isinstance(value, DefaultHandler)]
    return [(f"`{handler.trait_name}`", f"`{handler.func(None)!r}`") for handler in found]


def _describe_trait(kind: str, name: str, trait: TraitType[Any, Any]) -> str:
    values = getattr(trait, "values", None)
    what = " or ".join(f"`{value}`" for value in values) if values else KINDS[type(trait).__name__]
    value = "…" if name == "state_dir" else repr(trait.default()).replace("'", '"')
    return f"### {name}\n\n```python\nc.{kind}.{name} = {value}\n```\n\n{fill(f'{what}. {flow(trait.help)}')}"


# --- the command line ---


def make_cli() -> str:
    """Return the page of the command line."""
    group: Any = get_command(app)
    codes = [(f"`{code}`", meaning) for code, meaning in re.findall(r"(\d+) ([^;]+?)[;.]", EXPLAINED)]
    lines = [NOTE.format("the command line's own help"), "# The command `hubdock`\n", fill(flow(HELP)), make_table(("option", ""), _list_options(group, ()))]
    lines += ["`hubdock --install-completion` sets up completion in your shell. Every command has `--help`.\n"]
    for name, command in group.commands.items():
        arguments = [parameter for parameter in command.params if parameter.param_type_name == "argument"]
        words = [p.metavar if p.required else f"[{p.metavar}]" for p in arguments]
        options = _list_options(command, SHARED)
        usage = " ".join(["hubdock", name, *(["[OPTIONS]"] if options else []), *words])
        rows = [(f"`{parameter.metavar}`", flow(parameter.help)) for parameter in arguments] + options
        lines += [f"## hubdock {name}\n", f"```\n{usage}\n```\n", fill(flow(command.help)), make_table(("argument or option", ""), rows)]
    lines += ["## Exit codes\n", make_table(("code", "meaning"), codes)]
    return "\n".join(lines)


def _list_options(command: Any, without: Sequence[str]) -> list[tuple[str, str]]:
    found = [p for p in command.params if p.param_type_name == "option" and p.name not in (*without, "install_completion", "show_completion")]
    return [(f"`{' '.join([*p.opts, *([p.metavar] if p.metavar else [])])}`", flow(p.help)) for p in found]


# --- the API ---


def make_api() -> str:
    """Return the page of the JSON API."""
    lines = [
        NOTE.format("`hubdock/service/openapi.py`"),
        "# The JSON API\n",
        fill(
            f"Below `{PREFIX}` of the hub; `{PREFIX}api/openapi.json` says the same to programs (OpenAPI 3.1). Send a JupyterHub token with the scope "
            "`access:services!service=hubdock` as `Authorization: token …`; users make theirs on the hub's Token page. Everybody sees their own builds; who "
            "has the scope `custom:hubdock:admin` sees all. A server is started with the hub's own API: `POST /hub/api/users/NAME/servers/SERVER` with "
            "[Options](#options) as its body."
        ),
        "## Requests\n",
    ]
    for path, operations in PATHS.items():
        lines += [_describe_operation(method, path, operation) for method, operation in operations.items()]
    lines += ["## Objects\n", *(_describe_schema(name, schema) for name, schema in SCHEMAS.items())]
    lines += ["## Errors\n", fill("Each `code` with its status. `field` names the option at fault, `file` and `line` the place in the repository.")]
    ours = [(code, kind) for code, kind in errors._all_errors(errors.HubDockError).items() if kind.__module__ == errors.__name__]
    rows = [(f"`{code}`", str(kind.status), flow((kind.__doc__ or "").partition("\n\n")[0])) for code, kind in ours]
    return "\n".join([*lines, make_table(("code", "status", "meaning"), rows)])


def _describe_operation(method: str, path: str, operation: dict[str, Any]) -> str:
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
    asked = [(f"`{p['name']}`", p.get("description", "")) for p in operation.get("parameters", []) if p["in"] == "query"]
    answers = [(f"`{status}`", _describe_answer(answer)) for status, answer in operation["responses"].items() if status != "default"]
    lines = [f"### {method.upper()} {path}\n", fill(flow(operation["summary"]) + (". No token is needed." if operation.get("security") == [] else "."))]
    lines += [f"Body: {_name_type(body)}\n"] if body else []
    return "\n".join([*lines, make_table(("query", ""), asked), make_table(("answer", ""), answers)])


def _describe_answer(answer: dict[str, Any]) -> str:
    kinds = [_name_type(content["schema"]) if media == "application/json" else f"`{media}`" for media, content in answer.get("content", {}).items()]
    return ": ".join([answer["description"], *kinds])


def _describe_schema(name: str, schema: dict[str, Any]) -> str:
    always = schema.get("required", ())
    rows = [(f"`{field}`", _name_type(kind), "yes" if field in always else "", kind.get("description", "")) for field, kind in schema["properties"].items()]
    return f"### {name}\n\n{make_table(('field', 'type', 'always there', ''), rows)}"


def _name_type(schema: dict[str, Any]) -> str:
    """Return a schema in a few words, with links to the objects that it names."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "allOf" in schema:
        return ", ".join(_name_type(part) for part in schema["allOf"])
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_name_type(schema['items'])}"
    if schema.get("properties"):
        return "object of " + ", ".join(f"`{field}`" for field in schema["properties"])
    kinds = schema.get("type", "anything")
    return kinds if isinstance(kinds, str) else " or ".join(kinds)


def main(directory: Path) -> None:
    """Write the pages."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in make_pages().items():
        (directory / name).write_text(text, encoding="utf-8")
        print(directory / name)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/reference"))
