"""Bytecode for what was installed: by the real program, with the interpreter as the judge."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[2] / "hubdock" / "guest" / "bytecode.py"


class Tree:
    """A tree of installed modules, as a build sees it, and where its bytecode goes."""

    def __init__(self, path: Path, modules: dict[str, str | bytes]) -> None:
        self.root, self.out, self.cache = path / "installed", path / "out", path / "cache"
        for name, source in modules.items():
            file = self.root / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(source.encode() if isinstance(source, str) else source)
            os.utime(file, (1_700_000_000, 1_700_000_000))

    def compile(self) -> str:
        done = subprocess.run([sys.executable, "-I", PROGRAM, self.root, self.root, self.out, self.cache], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def run(self, code: str) -> subprocess.CompletedProcess[str]:
        """Run code with the modules and their bytecode in place, none of which may be written anew."""
        subprocess.run(["cp", "-a", f"{self.out}/.", self.root], check=True)
        argv = [sys.executable, "-B", "-v", "-c", f"import sys; sys.path.insert(0, {str(self.root)!r}); {code}"]
        return subprocess.run(argv, capture_output=True, text=True, check=False)


MODULES: dict[str, str | bytes] = {"pkg/__init__.py": "", "pkg/good.py": "def f():\n    return 42\n", "pkg/old.py": "print 'two'\n", "pkg/odd.py": b"\xff\xfe", "data.txt": "x"}


def test_modules_are_loaded_from_it(tmp_path: Path) -> None:
    tree = Tree(tmp_path, MODULES)
    assert tree.compile() == "bytecode for 2 of 4 modules"
    done = tree.run("import pkg.good; print(pkg.good.f(), pkg.good.f.__code__.co_filename)")
    assert done.stdout.split() == ["42", str(tree.root / "pkg" / "good.py")]
    cached = tree.root / "pkg" / "__pycache__" / f"good.{sys.implementation.cache_tag}.pyc"
    assert f"{cached} matches" in done.stderr


def test_an_edited_module_is_never_served_stale(tmp_path: Path) -> None:
    tree = Tree(tmp_path, MODULES)
    tree.compile()
    (tree.root / "pkg" / "good.py").write_text("def f():\n    return 7\n")
    assert tree.run("import pkg.good; print(pkg.good.f())").stdout == "7\n"


def test_what_is_compiled_once_comes_from_the_cache(tmp_path: Path) -> None:
    tree = Tree(tmp_path, MODULES)
    tree.compile()
    before = {path: path.stat().st_mtime_ns for path in tree.cache.rglob("*") if path.is_file()}
    first = {path.name: path.read_bytes() for path in tree.out.rglob("*.pyc")}
    subprocess.run(["rm", "-r", tree.out], check=True)
    tree.compile()
    assert {path.name: path.read_bytes() for path in tree.out.rglob("*.pyc")} == first
    assert {path: path.stat().st_mtime_ns for path in tree.cache.rglob("*") if path.is_file()} == before and len(before) == 2


@pytest.mark.parametrize("damage", [b"", b"short", b"x" * 300])
def test_a_damaged_cache_is_not_believed(tmp_path: Path, damage: bytes) -> None:
    tree = Tree(tmp_path, MODULES)
    tree.compile()
    for path in tree.cache.rglob("*"):
        if path.is_file():
            path.write_bytes(damage)
    subprocess.run(["rm", "-r", tree.out], check=True)
    tree.compile()
    assert tree.run("import pkg.good; print(pkg.good.f())").stdout == "42\n"


def test_nothing_is_run(tmp_path: Path) -> None:
    mark = tmp_path / "it ran"
    hostile = f"open({str(mark)!r}, 'w')\n"
    names = ("concurrent/futures/__init__.py", "marshal.py", "hashlib.py", "sitecustomize.py", "pkg/__init__.py", "evil.py")
    tree = Tree(tmp_path, {**dict.fromkeys(names, hostile), "evil.pth": f"import evil; {hostile}"})
    assert tree.compile() == "bytecode for 6 of 6 modules"
    assert not mark.exists()


def test_what_has_bytecode_is_left_alone(tmp_path: Path) -> None:
    name = f"pkg/__pycache__/good.{sys.implementation.cache_tag}.pyc"
    tree = Tree(tmp_path, {**MODULES, name: b"there"})
    assert tree.compile() == "bytecode for 1 of 3 modules"
    assert not (tree.out / name).exists()


def test_directories_keep_their_modes(tmp_path: Path) -> None:
    tree = Tree(tmp_path, MODULES)
    (tree.root / "pkg").chmod(0o2775)
    tree.compile()
    assert (tree.out / "pkg").stat().st_mode & 0o7777 == 0o2775
