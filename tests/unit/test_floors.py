"""The layout holds: imports point strictly down, the pure part does no I/O, files and functions stay short."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent / "hubdock"
FLOORS = {"core": 0, "drivers": 1, "engine": 2}  # everything else of hubdock is floor 3; the guest stands apart
IMPURE = {
    "os", "io", "subprocess", "socket", "asyncio", "selectors", "threading", "multiprocessing", "concurrent", "time", "random", "secrets", "tempfile", "shutil",
    "pathlib", "glob", "traitlets", "requests", "httpx", "tornado", "docker", "sqlalchemy", "alembic", "jupyterhub", "dockerspawner", "logging",
}  # fmt: skip
ALLOWED_PARTS = {"urllib.parse"}
# Exit codes are shared with the programs that run inside builds: constants, nothing else.
GUEST_FROM_OUTSIDE = {("engine/step_environment.py", "hubdock.guest.install"), ("engine/step_environment.py", "hubdock.guest.smoke")}
FILES = sorted(path for path in ROOT.rglob("*.py") if "__pycache__" not in path.parts)
MAX_LINES, MAX_FUNCTION = 300, 50


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def part_of(module: str) -> str:
    """Return the part of hubdock that a module is in: ``core``, ``drivers``, ``service`` …; ``wiring`` for a module of the top."""
    return module.removeprefix("hubdock").lstrip(".").split(".")[0]


def imports_of(path: Path) -> list[tuple[str, bool]]:
    """Return (module, whether only for type checkers) of each import of a file, whole names."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        id(node) for block in ast.walk(tree) if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.dump(block.test) for child in block.body for node in ast.walk(child)
    }
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, id(node) in typing_only) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)}: a relative import"
            assert node.module
            # ``from hubdock.drivers import git`` names a module
            names = [f"{node.module}.{alias.name}" for alias in node.names] if node.module in {"hubdock", *(f"hubdock.{part}" for part in FLOORS)} else [node.module]
            found += [(name, id(node) in typing_only) for name in names]
    return found


def test_there_is_something_to_look_at() -> None:
    assert len(FILES) > 60 and {part_of(name_of(path).replace("/", ".")) for path in FILES} >= {"core", "drivers", "engine", "service", "spawner", "guest"}


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_point_strictly_down(path: Path) -> None:
    part = path.relative_to(ROOT).parts[0]
    floor = FLOORS.get(part, 3)
    for module, typing_only in imports_of(path):
        if not module.startswith("hubdock"):
            continue
        other = part_of(module)
        if part == "guest":
            raise AssertionError(f"{name_of(path)} imports {module}: the guest stands alone")
        if other == "guest":
            assert (name_of(path), module) in GUEST_FROM_OUTSIDE, f"{name_of(path)} imports {module}"
        elif other in FLOORS or floor < 3:
            lower = FLOORS.get(other, 3 if other and not other.startswith("__") else -1)
            assert lower < floor or (lower == floor and other == part), f"{name_of(path)} (floor {floor}) imports {module}"
        assert not (typing_only and other in FLOORS and FLOORS[other] > floor), f"{name_of(path)} imports {module} for its types"


@pytest.mark.parametrize("path", [path for path in FILES if path.parts[-2] == "core"], ids=name_of)
def test_the_core_is_pure(path: Path) -> None:
    for module, _ in imports_of(path):
        assert module.split(".")[0] not in IMPURE, f"{name_of(path)} imports {module}"
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        assert not isinstance(node, (ast.AsyncFunctionDef, ast.Await)), name_of(path)
        assert not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in {"open", "print", "input", "exec", "eval"}), name_of(path)


@pytest.mark.parametrize("path", [path for path in FILES if path.parts[-2] == "guest"], ids=name_of)
def test_the_guest_needs_nothing_but_the_standard_library(path: Path) -> None:
    """It runs with the Python of any image: ``dvc`` and ``tornado`` are imported only by programs that run where those are."""
    siblings = {other.stem for other in path.parent.glob("*.py")}
    beside = {"smoke.py": {"tornado"}, "fetch.py": {"dvc"}, "server.py": {"jupyterhub", "jupyterlab", "jupyter_server"}}
    for module, _ in imports_of(path):
        top = module.split(".")[0]
        assert top in sys.stdlib_module_names or top in siblings or top in beside.get(path.name, set()), f"{path.name} imports {module}"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_files_and_functions_stay_short(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= MAX_LINES, f"{name_of(path)} has {text.count(chr(10))} lines"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            assert node.end_lineno is not None
            lines = node.end_lineno - node.lineno + 1
            assert lines <= MAX_FUNCTION, f"{name_of(path)}: {node.name} has {lines} lines"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_modules_say_what_they_hold(path: Path) -> None:
    assert path.stem not in {"utils", "util", "helpers", "helper", "manager", "common", "misc"}, name_of(path)
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree) or not tree.body, f"{name_of(path)} has no docstring"
    if {"guest", "migrations"} & set(path.parts):
        return
    for node in tree.body:
        public = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and not node.name.startswith("_")
        assert not public or ast.get_docstring(node), f"{name_of(path)}: {node.name} has no docstring"  # type: ignore[arg-type,union-attr]


def test_no_package_registry_and_no_machine_is_named() -> None:
    words = ("pypi" + ".org", "registry.npmjs" + ".org", "/" + "root/", "/" + "work/main")
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        assert not [word for word in words if word in text], name_of(path)
