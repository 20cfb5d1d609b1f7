"""What is written down for users and admins is held to the code."""

from __future__ import annotations

import re
from typing import Any

import jsonschema
import pytest
from traitlets import TraitType
from traitlets.config import Configurable

from hubdock.core.errors import RecipeError
from hubdock.core.events import Event, Kind, Phase
from hubdock.core.options import FIELDS, parse_options
from hubdock.core.plan import Part, Plan, State
from hubdock.engine.config import HubDock
from hubdock.service.app import make_routes
from hubdock.service.openapi import OPTIONS, PATHS, SCHEMAS, make_openapi
from hubdock.spawner.docker import HubDockSpawner
from hubdock.spawner.kubernetes import HubDockKubeSpawner
from hubdock.spawner.mixin import HubDockMixin

PREFIX = "/services/hubdock/"
BUILD = "0123456789abcdef" * 2
METHODS = ("get", "post", "put", "patch", "delete")


def api_routes() -> list[tuple[re.Pattern[str], type]]:
    return [(re.compile(str(route[0]) + "$"), route[1]) for route in make_routes(PREFIX) if str(route[0]).startswith(f"{PREFIX}api")]  # type: ignore[misc]


def fill(path: str) -> str:
    return PREFIX.rstrip("/") + path.replace("{id}", BUILD)


@pytest.mark.parametrize("path", PATHS)
def test_every_described_path_has_a_handler_of_its_methods(path: str) -> None:
    handlers = [handler for pattern, handler in api_routes() if pattern.match(fill(path))]
    assert len(handlers) == 1, path
    assert set(PATHS[path]) <= set(METHODS)
    for method in PATHS[path]:
        assert method in vars(handlers[0]), f"{method} {path}"


def test_every_route_is_described() -> None:
    described = {pattern.pattern for pattern, _ in api_routes() for path in PATHS if pattern.match(fill(path))}
    assert {pattern.pattern for pattern, _ in api_routes()} == described


def test_every_method_is_described() -> None:
    for pattern, handler in api_routes():
        methods = {method for method in METHODS if method in vars(handler)}
        assert methods == {method for path, operations in PATHS.items() if pattern.match(fill(path)) for method in operations}, handler


def test_paths_name_their_parameters() -> None:
    for path, operations in PATHS.items():
        for method, operation in operations.items():
            named = {p["name"] for p in operation.get("parameters", []) if p["in"] == "path"}
            assert named == set(re.findall(r"{(\w+)}", path)), f"{method} {path}"


def test_references_lead_somewhere() -> None:
    whole = make_openapi(PREFIX)
    assert whole["servers"] == [{"url": "/services/hubdock"}] and whole["openapi"].startswith("3.1")
    for reference in set(re.findall(r"#/components/schemas/\w+", str(whole))):
        assert reference.rpartition("/")[2] in whole["components"]["schemas"], reference


def check(name: str, value: Any) -> None:
    schema = {"$ref": f"#/components/schemas/{name}", "components": {"schemas": SCHEMAS}}
    jsonschema.Draft202012Validator(schema).validate(value)


def test_the_options_are_those_that_are_read() -> None:
    assert set(OPTIONS) == set(FIELDS)
    asked = {"repo": "https://a.org/x", "ref": "main", "new_branch": "try", "cpu": 2, "memory": "4G", "shm": "1G", "gpu": 1}
    check("Options", asked)
    check("Options", parse_options(asked).as_dict())
    with pytest.raises(jsonschema.ValidationError):
        check("Options", {**asked, "image": "x"})


def test_answers_are_as_described() -> None:
    check("Plan", {
        **Plan("https://a.org/x", "main", "branch", "c", "t", "", (Part("data", State.BUILD, "k", ("why",), 1.5, 2, 10), Part("image", State.READY)), ("n",)).as_dict(),
        "source": {"commit": "c", "subject": "s", "author": "a", "time": 1, "files": 2},
    })  # fmt: skip
    check("Event", Event(Kind.PHASE, 1.0, "image", Phase.FAILED, "m", 3.0, {"code": "x"}).as_dict())
    check("Error", {"error": RecipeError("m", file="f", line=1).as_dict()})


# --- settings ---

SETTINGS: list[tuple[type[Configurable], str]] = [
    (kind, name) for kind in (HubDock, HubDockMixin, HubDockSpawner, HubDockKubeSpawner) for name in sorted(kind.class_own_traits(config=True))
]


@pytest.mark.parametrize(("kind", "name"), SETTINGS, ids=[f"{kind.__name__}.{name}" for kind, name in SETTINGS])
def test_every_setting_says_what_it_means_and_its_default(kind: type[Configurable], name: str) -> None:
    trait: TraitType[Any, Any] = kind.class_traits()[name]
    text = " ".join((trait.help or "").split())
    assert re.search(r"[.;] Default: [^.]+.*\.$", text), f"{kind.__name__}.{name}: {text!r}"
    assert text[0].isupper() or text.startswith("``"), text
    assert len(text) < 700


def test_there_are_few_settings() -> None:
    assert 30 <= len(SETTINGS) <= 65


DEFAULTS = {  # where the words of the help can be compared
    "git_timeout": "60", "build_timeout": "an hour", "max_parallel_builds": "4", "cancel_grace": "20", "smoke_test": "True", "data_mode": "store", "data_network": "bridge",
    "gpu_limit": "0", "package_max_age": "0", "max_repo_size": "2 GiB", "base_refresh": "a day",
}  # fmt: skip
WORDS = {"an hour": 3600.0, "a day": 24 * 3600.0, "2 GiB": 2 * 1024**3}


@pytest.mark.parametrize(("name", "words"), DEFAULTS.items())
def test_the_default_is_the_one_that_the_help_states(name: str, words: str) -> None:
    trait: TraitType[Any, Any] = HubDock.class_traits()[name]
    assert f"Default: {words}" in " ".join(str(trait.help).split())
    value = getattr(HubDock(), name)
    assert value == WORDS[words] if words in WORDS else str(value).removesuffix(".0") == words
