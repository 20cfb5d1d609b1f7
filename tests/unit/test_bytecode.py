"""Bytecode for what was installed: by the real program, with the interpreter as the judge."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

GUEST = Path(__file__).parents[2] / "hubdock" / "guest"


class Tree:
    """A tree of installed modules, and a cache."""

    def __init__(self, path: Path, modules: dict[str, str | bytes]) -> None:
        self.root, self.cache = path / "installed", path / "cache"
        for name, source in modules.items():
            file = self.root / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(source.encode() if isinstance(source, str) else source)
            os.utime(file, (1_700_000_000, 1_700_000_000))

    def compile(self, before: str = "pass") -> str:
        """Write bytecode as an installer does: with its imports closed."""
        code = f"import sys; sys.path.insert(0, {str(GUEST)!r}); import bytecode; bytecode.close_imports(); {before}; bytecode.write({str(self.root)!r}, {str(self.cache)!r})"
        return subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True).stdout.strip()

    def run(self, code: str) -> subprocess.CompletedProcess[str]:
        """Run code with the modules and their bytecode, none of which is written anew."""
        argv = [sys.executable, "-B", "-v", "-c", f"import sys; sys.path.insert(0, {str(self.root)!r}); {code}"]
        return subprocess.run(argv, capture_output=True, text=True, check=False)

    def list_bytecode(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.root.rglob("*.pyc")}

    def list_cache(self) -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in self.cache.rglob("*") if path.is_file()}


MODULES: dict[str, str | bytes] = {"pkg/__init__.py": "", "pkg/good.py": "def f():\n    return 42\n", "pkg/old.py": "print 'two'\n", "pkg/odd.py": b"\xff\xfe", "data.txt": "x"}


def test_modules_are_loaded_from_it(tmp_path: Path) -> None:
    tree = Tree(tmp_path, MODULES)
    assert tree.compile() == "bytecode for 4 modules"
    done = tree.run("import pkg.good; print(pkg.good.f(), pkg.good.f.__code__.co_filename)")
    assert done.stdout.split() == ["42", str(tree.root / "pkg" / "good.py")]
    cached = tree.root / "pkg" / "__pycache__" / f"good.{sys.implementation.cache_tag}.pyc"
    assert f"{cached} matches" in done.stderr
    assert set(tree.list_bytecode()) == {f"{name}.{sys.implementation.cache_tag}.pyc" for name in ("__init__", "good")}


def test_an_edited_module_is_never_served_stale(tmp_path: Path) -> None:
    tree = Tree(tmp_path, MODULES)
    tree.compile()
    (tree.root / "pkg" / "good.py").write_text("def f():\n    return 7\n")
    assert tree.run("import pkg.good; print(pkg.good.f())").stdout == "7\n"


def test_what_is_compiled_once_comes_from_the_cache(tmp_path: Path) -> None:
    tree = Tree(tmp_path, MODULES)
    tree.compile()
    first, kept = tree.list_bytecode(), tree.list_cache()
    subprocess.run(["rm", "-r", tree.root / "pkg" / "__pycache__"], check=True)
    tree.compile()
    assert tree.list_bytecode() == first and tree.list_cache() == kept and len(kept) == 2


@pytest.mark.parametrize("damage", [b"", b"short", b"x" * 300])
def test_a_damaged_cache_is_not_believed(tmp_path: Path, damage: bytes) -> None:
    tree = Tree(tmp_path, MODULES)
    tree.compile()
    for path in tree.list_cache():
        path.write_bytes(damage)
    subprocess.run(["rm", "-r", tree.root / "pkg" / "__pycache__"], check=True)
    tree.compile()
    assert tree.run("import pkg.good; print(pkg.good.f())").stdout == "42\n"


def test_nothing_of_what_was_installed_is_run(tmp_path: Path) -> None:
    """Not even where it takes the place of the interpreter's own modules, among them the codec that a first line asks for."""
    mark = tmp_path / "it ran"
    hostile = f"open({str(mark)!r}, 'w')\n"
    names = ("encodings/cp1006.py", "marshal.py", "hashlib.py", "warnings.py", "linecache.py", "pkg/__init__.py", "evil.py")
    tree = Tree(tmp_path, {**dict.fromkeys(names, hostile), "asks.py": "# -*- coding: cp1006 -*-\n", "evil.pth": f"import evil; {hostile}"})
    assert tree.compile(before=f"sys.path.insert(0, {str(tree.root)!r}); import_path = sys.modules['encodings'].__path__.insert(0, {str(tree.root / 'encodings')!r})")
    assert not mark.exists() and f"asks.{sys.implementation.cache_tag}.pyc" not in tree.list_bytecode()


def test_what_has_bytecode_is_left_alone(tmp_path: Path) -> None:
    name = f"pkg/__pycache__/good.{sys.implementation.cache_tag}.pyc"
    tree = Tree(tmp_path, {**MODULES, name: b"there"})
    assert tree.compile() == "bytecode for 3 modules" and (tree.root / name).read_bytes() == b"there"


def test_a_module_that_breaks_the_compiler_breaks_nothing_else(tmp_path: Path) -> None:
    tree = Tree(tmp_path, {**MODULES, "deep.py": "(" * 100_000, "nul.py": b"x = 1\0"})
    tree.compile()
    assert tree.run("import pkg.good; print(pkg.good.f())").stdout == "42\n"
