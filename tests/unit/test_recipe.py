"""Which files make the environment: places, closure, what is refused and how to mend it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from hubdock.core.errors import RecipeError
from hubdock.core.project import Project
from hubdock.core.recipe import MAX_FILE, MissingBlobs, Recipe, find_first_files, make_recipe
from hubdock.core.requirements import LineKind, RequirementLine
from hubdock.core.tree import Tree
from tests.unit.conftest import Repository, read

LOCK = 'version = 1\n[[package]]\nname = "app"\nversion = "1"\nsource = { virtual = "." }\n'
MANIFEST = '[project]\nname = "app"\nversion = "1"\ndependencies = ["six"]\n'


def make(repository: Repository, files: Mapping[str, str | bytes], extra: Sequence[str] = ()) -> Recipe:
    tree, contents = read(repository, files)
    return make_recipe(tree, contents, extra)


def closure(recipe: Recipe) -> list[str]:
    return [entry.path for entry in recipe.files]


def test_a_whole_recipe(repository: Repository) -> None:
    tree, contents = read(repository, {"requirements.txt": "six==1.16\n-r more.txt\n", "more.txt": "numpy\n", "apt.txt": "git\n", ".hubdock.yml": "base: torch\n"})
    entries = tuple(entry for path in ("apt.txt", "more.txt", "requirements.txt") if (entry := tree.find(path)))
    assert make_recipe(tree, contents) == Recipe(
        kind="requirements", main="requirements.txt", files=entries, apt=("git",), project=Project(base="torch"),
        lines=(
            RequirementLine(LineKind.PACKAGE, "requirements.txt", 1, "six==1.16", "six", "==1.16", True),
            RequirementLine(LineKind.INCLUDE, "requirements.txt", 2, "-r more.txt", value="more.txt"),
            RequirementLine(LineKind.PACKAGE, "more.txt", 1, "numpy", "numpy"),
        ),
    )  # fmt: skip


@pytest.mark.parametrize("files", [{}, {"README.md": "x", "notebook.ipynb": "{}"}, {"pyproject.toml": "[tool.ruff]\n"}, {"pyproject.toml": "project = 3\ntool = 4\n"}])
def test_nothing_to_install(repository: Repository, files: dict[str, str]) -> None:
    assert make(repository, files) == Recipe("none")


ALL = {
    "named/dev.txt": "six\n", "admin/team.txt": "six\n", "binder/requirements.txt": "six\n", ".binder/requirements.txt": "six\n", "requirements.txt": "six\n",
    "binder/uv.lock": LOCK, "binder/pyproject.toml": MANIFEST, "uv.lock": LOCK, "pyproject.toml": MANIFEST,
}  # fmt: skip


@pytest.mark.parametrize(
    ("without", "main"),
    [
        ([], "named/dev.txt"),
        ([".hubdock.yml"], "admin/team.txt"),
        ([".hubdock.yml", "admin"], "binder/requirements.txt"),
        ([".hubdock.yml", "admin", "binder/requirements.txt"], "binder/uv.lock"),
        ([".hubdock.yml", "admin", "binder"], ".binder/requirements.txt"),
        ([".hubdock.yml", "admin", "binder", ".binder"], "requirements.txt"),
        ([".hubdock.yml", "admin", "binder", ".binder", "requirements.txt"], "uv.lock"),
    ],
)
def test_the_first_place_wins(repository: Repository, without: list[str], main: str) -> None:
    files = {".hubdock.yml": "requirements: named/dev.txt", **ALL}
    kept = {path: text for path, text in files.items() if not path.startswith(tuple(without))} if without else files
    assert make(repository, kept, ["nowhere.txt", "admin/team.txt"]).main == main


def test_places_are_not_looked_for_deeper(repository: Repository) -> None:
    assert make(repository, {"src/requirements.txt": "six", "docs/binder/requirements.txt": "six"}).kind == "none"


@pytest.mark.parametrize(
    ("files", "apt", "closed"),
    [
        ({"apt.txt": "git"}, ("git",), ["apt.txt"]),
        ({"binder/apt.txt": "git"}, ("git",), ["binder/apt.txt"]),
        ({"requirements.txt": "", "apt.txt": "git"}, ("git",), ["apt.txt", "requirements.txt"]),
        ({"binder/requirements.txt": "", "binder/apt.txt": "git", "apt.txt": "vim"}, ("git",), ["binder/apt.txt", "binder/requirements.txt"]),
        ({"requirements.txt": "", "binder/apt.txt": "git"}, (), ["requirements.txt"]),
        ({"requirements.txt": "", "apt.txt": "# none\n"}, (), ["apt.txt", "requirements.txt"]),
        ({"uv.lock": LOCK, "pyproject.toml": MANIFEST, "apt.txt": "git"}, ("git",), ["apt.txt", "pyproject.toml", "uv.lock"]),
    ],
)
def test_apt_stands_beside_the_requirements(repository: Repository, files: dict[str, str], apt: tuple[str, ...], closed: list[str]) -> None:
    recipe = make(repository, files)
    assert (recipe.apt, closure(recipe)) == (apt, closed)


def test_the_closure_of_includes(repository: Repository) -> None:
    recipe = make(repository, {
        "env/dev.txt": "-r ../base.txt\n-c pins/all.txt\n-r ../base.txt\n", "base.txt": "-r env/more.txt\nsix\n", "env/more.txt": "-r dev.txt\nnumpy\n",
        "env/pins/all.txt": "numpy==1\n-c more.txt\n", "env/pins/more.txt": "six==1\n", "unrelated.txt": "x", ".hubdock.yml": "requirements: env/dev.txt",
    })  # fmt: skip
    assert closure(recipe) == ["base.txt", "env/dev.txt", "env/more.txt", "env/pins/all.txt", "env/pins/more.txt"]
    assert [line.name for line in recipe.lines if line.kind is LineKind.PACKAGE] == ["six", "numpy", "numpy", "six"]


def test_local_packages_bring_their_trees(repository: Repository) -> None:
    recipe = make(repository, {"requirements.txt": "-e ./pkg\nwheels/six-1-py3-none-any.whl\n-f ./wheels\n", "pkg/setup.py": "", "wheels/six-1-py3-none-any.whl": "x"})
    assert [(entry.path, entry.kind) for entry in recipe.files] == [
        ("pkg", "tree"), ("requirements.txt", "blob"), ("wheels", "tree"), ("wheels/six-1-py3-none-any.whl", "blob"),
    ]  # fmt: skip
    assert recipe.local


def test_a_directory_of_wheels_is_not_built(repository: Repository) -> None:
    recipe = make(repository, {"requirements.txt": "six\n-f ./wheels\n", "wheels/six-1-py3-none-any.whl": "x"})
    assert (closure(recipe), recipe.local) == (["requirements.txt", "wheels"], False)


def test_the_repository_itself_as_a_package(repository: Repository) -> None:
    files = {"requirements.txt": "-e .\n", "setup.py": "", "README.md": "one"}
    one = make(repository, files)
    assert closure(one) == [".", "requirements.txt"] and one.local
    two = make(repository, {"README.md": "two"})
    assert one.files[0] != two.files[0]  # whatever changes may change the package: fail closed


@pytest.mark.parametrize(
    ("text", "pinned"),
    [
        ("six==1.16\n", True), ("six\n", False), ("six>=1\n", False), ("six==1.*\n", False), ("six\n-c pins.txt\n", True), ("numpy\n-c pins.txt\n", False),
        ("https://a.org/x.zip\n", False), ("https://a.org/x.zip#sha256=aa\n", True), ("-e ./pkg\nsix==1\n", True), ("x @ git+https://a.org/x@main\n", True), ("", True),
    ],
)  # fmt: skip
def test_pinned(repository: Repository, text: str, pinned: bool) -> None:
    assert make(repository, {"requirements.txt": text, "pins.txt": "six==1.16\n", "pkg/x": ""}).pinned is pinned


def test_what_a_lock_takes_from_git_is_a_requirement_like_any_other(repository: Repository) -> None:
    """Its host is held to the admin's lists, and the build knows that there is something to build."""
    commit = "a" * 40
    lock = LOCK + f'[[package]]\nname = "x"\nsource = {{ git = "https://a.org/x?subdirectory=lib&rev=main#{commit}" }}\n'
    recipe = make(repository, {"uv.lock": lock, "pyproject.toml": MANIFEST})
    (line,) = recipe.sources
    assert (line.name, line.value, line.pinned) == ("x", f"https://a.org/x@{commit}#subdirectory=lib", True)
    assert lock.splitlines()[line.line - 1].startswith("source") and line.file == "uv.lock"
    for old, new, words in (
        ("https://a.org", "ssh://git@a.org", "Only git"), ("https://a.org", "https://tok@a.org", "Remove the credential"), ("https://a.org", "file://", "Only git"),
        (commit, "main", "names no commit"), ('name = "x"', 'name = "x\\n-e ."', "not a requirement"),
    ):  # fmt: skip
        with pytest.raises(RecipeError, match=words) as caught:
            make(repository, {"uv.lock": lock.replace(old, new)})
        assert (caught.value.file, caught.value.line) == ("uv.lock", line.line)


def test_what_only_constrains_need_not_be_pinned(repository: Repository) -> None:
    files = {"pins.txt": "numpy<3\n-r more.txt\n", "more.txt": "six==1.16\nscipy\n"}
    recipe = make(repository, {"requirements.txt": "six\n-c pins.txt\n", **files})
    assert recipe.pinned
    assert {line.text: line.constrains for line in recipe.lines} == {"six": False, "-c pins.txt": False, "numpy<3": True, "-r more.txt": True, "six==1.16": True, "scipy": True}
    both = make(repository, {"requirements.txt": "six\n-c more.txt\n-r more.txt\n", **files})
    assert not both.pinned  # scipy is installed after all
    assert sorted(line.constrains for line in both.lines if line.text == "scipy") == [False, True]


def test_sources(repository: Repository) -> None:
    recipe = make(repository, {"requirements.txt": "six\nx @ git+https://a.org/x@main\n"})
    assert [(line.name, line.value) for line in recipe.sources] == [("x", "https://a.org/x@main")]
    assert not recipe.local


BAD: list[tuple[dict[str, str], str, str]] = [
    ({"requirements.txt": "-> /etc/shadow"}, "requirements.txt", "It is a symbolic link; a regular file is needed"),
    ({"requirements.txt/x": ""}, "requirements.txt", "It is a directory"),
    ({"apt.txt": "-> /etc/shadow"}, "apt.txt", "It is a symbolic link"),
    ({".hubdock.yml": "-> /etc/shadow"}, ".hubdock.yml", "It is a symbolic link"),
    ({"requirements.txt": "-r link.txt", "link.txt": "-> /etc/shadow"}, "requirements.txt:1", "This names link.txt, which is a symbolic link"),
    ({"requirements.txt": "-r sub", "sub/x": ""}, "requirements.txt:1", "This names sub, which is a directory"),
    ({"requirements.txt": "\n-r gone.txt"}, "requirements.txt:2", "This names gone.txt, which this branch does not have"),
    ({"requirements.txt": "-c /run/secrets/x"}, "requirements.txt:1", "An absolute path"),
    ({"requirements.txt": "-r a/x.txt", "a/x.txt": "six\n-r ../../x"}, "a/x.txt:2", "leads out of the repository"),
    ({"requirements.txt": "-e ./gone"}, "requirements.txt:1", "“gone” is not a file or directory of this branch"),
    ({"requirements.txt": "./link", "link": "-> /srv"}, "requirements.txt:1", "“link” is not a file or directory"),
    ({"requirements.txt": "six\n\xff=="}, "requirements.txt:2", "not a requirement"),
    ({".hubdock.yml": "requirements: gone.txt"}, ".hubdock.yml", "gone.txt, which this branch does not have"),
    ({".hubdock.yml": "requirements: sub", "sub/x": ""}, "sub", "It is a directory"),
    ({".hubdock.yml": "requirements: run.py", "run.py": "# /// script\n# dependencies = ['x']\n# ///"}, ".hubdock.yml", "must name a .txt or .in file, or a uv.lock"),
    ({".hubdock.yml": "requirements: pyproject.toml", "pyproject.toml": ""}, ".hubdock.yml", "must name a .txt"),
    ({".hubdock.yml": "bass: x"}, ".hubdock.yml:1", "unknown"),
    ({"environment.yml": "name: x"}, "environment.yml", "requirements.txt"),
    ({"environment.yaml": "name: x"}, "environment.yaml", "requirements.txt"),
    ({"binder/environment.yml": "name: x"}, "binder/environment.yml", "requirements.txt"),
    ({"Pipfile": ""}, "Pipfile", "`pipenv requirements > requirements.txt`"),
    ({"poetry.lock": "", "pyproject.toml": MANIFEST}, "poetry.lock", "`poetry export -o requirements.txt`"),
    ({"conda-lock.yml": ""}, "conda-lock.yml", "requirements.txt"),
    ({"setup.py": ""}, "setup.py", "`-e .`"),
    ({"pyproject.toml": MANIFEST}, "pyproject.toml", "Run `uv lock` and commit uv.lock"),
    ({"pyproject.toml": "[tool.poetry.dependencies]\nsix = '*'\n"}, "pyproject.toml", "Run `uv lock`"),
    ({"pyproject.toml": "[project\n"}, "pyproject.toml", "not valid TOML"),
    ({"pyproject.toml": "a = " + "[" * 5000}, "pyproject.toml", "not valid TOML"),
    ({"pyproject.toml": "a = " + "9" * 5000}, "pyproject.toml", "not valid TOML"),
    ({"uv.lock": LOCK}, "uv.lock", "needs the pyproject.toml"),
    ({"uv.lock": "x", "pyproject.toml": MANIFEST}, "uv.lock", "not valid TOML"),
    ({"uv.lock": LOCK, "pyproject.toml": "["}, "pyproject.toml", "not valid TOML"),
    ({"uv.lock": "-> x", "pyproject.toml": MANIFEST}, "uv.lock", "It is a symbolic link"),
    *(
        ({"uv.lock": LOCK + f'[[package]]\nname = "lib"\nsource = {{ {kind} = "{path}" }}\n', "pyproject.toml": MANIFEST}, "uv.lock", f"The local package lib ({path})")
        for kind, path in (("path", "/srv/x"), ("path", "../x.whl"), ("directory", "libs/x"), ("editable", "libs/x"), ("virtual", "libs/x"))
    ),
]


@pytest.mark.parametrize(("files", "place", "words"), BAD, ids=[" ".join(files) for files, _, _ in BAD])
def test_refused_with_place_and_mend(repository: Repository, files: dict[str, str], place: str, words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        make(repository, files)
    assert words in caught.value.message
    assert caught.value.place == place


def test_a_submodule_is_no_requirements_file(repository: Repository) -> None:
    oid = "1" * 40
    listing = f"160000 commit {oid}\trequirements.txt\0".encode()
    with pytest.raises(RecipeError, match="It is a submodule"):
        make_recipe(Tree("2" * 40, listing), {})


def test_requirements_beside_what_is_not_supported(repository: Repository) -> None:
    recipe = make(repository, {
        "requirements.txt": "", "uv.lock": LOCK, "pyproject.toml": MANIFEST, "environment.yml": "", "Pipfile": "", "binder/postBuild": "", "binder/Dockerfile": "",
        "setup.py": "", "Dockerfile": "",
    })  # fmt: skip
    assert recipe.notices == (
        "requirements.txt is used; uv.lock beside it is not.", "requirements.txt is used; environment.yml is not.", "requirements.txt is used; Pipfile is not.",
        "Not used by hubdock: binder/Dockerfile, binder/postBuild.",
    )  # fmt: skip


def test_submodules_are_told() -> None:
    listing = b"".join(b"160000 commit %s\tlib%d\0" % (b"1" * 40, number) for number in range(7))
    assert make_recipe(Tree("2" * 40, listing), {}).notices == (
        "Submodules are left out: lib0, lib1, lib2, lib3, lib4. Run `git submodule update --init` in the server.",
    )


@pytest.mark.parametrize(
    "source", ['{ registry = "https://a.org/simple" }', '{ url = "https://a.org/x.whl" }', '{ editable = "." }', '"odd"', "3"]
)
def test_a_lock(repository: Repository, source: str) -> None:
    lock = LOCK + f'[[package]]\nname = "lib"\nversion = "1"\nsource = {source}\n'
    recipe = make(repository, {"uv.lock": lock, "pyproject.toml": MANIFEST})
    assert (recipe.kind, recipe.main, closure(recipe), recipe.lines, recipe.pinned) == ("uv", "uv.lock", ["pyproject.toml", "uv.lock"], (), True)


def test_files_are_asked_for_until_there_is_no_more_to_ask(repository: Repository) -> None:
    """The loop of the engine: each round fetches what is named as missing, and nothing is fetched that no key needs."""
    tree, contents = read(repository, {
        "requirements.txt": "-r a.txt\n-c b.txt\n-e ./pkg\n", "a.txt": "-r c.txt\n", "b.txt": "", "c.txt": "six\n", "pkg/setup.py": "", "apt.txt": "git\n", "x.txt": "",
    })  # fmt: skip
    blobs = {path: contents[path] for path in find_first_files(tree)}
    rounds = []
    while True:
        try:
            recipe = make_recipe(tree, blobs)
            break
        except MissingBlobs as missing:
            rounds.append(sorted(missing.paths))
            blobs |= {path: contents[path] for path in missing.paths}
    assert rounds == [["a.txt", "b.txt"], ["c.txt"]]
    assert recipe == make_recipe(tree, contents)


def test_the_first_files(repository: Repository) -> None:
    tree, _ = read(repository, {
        "requirements.txt": "", "apt.txt": "", ".hubdock.yml": "", "pyproject.toml": "", "uv.lock": "", "binder/requirements.txt": "", ".binder/apt.txt": "",
        "team.txt": "", "other.txt": "", "README.md": "", "environment.yml": "",
    })  # fmt: skip
    assert sorted(find_first_files(tree, ["team.txt", "gone.txt"])) == [
        ".binder/apt.txt", ".hubdock.yml", "apt.txt", "binder/requirements.txt", "pyproject.toml", "requirements.txt", "team.txt", "uv.lock",
    ]  # fmt: skip


def test_too_large(repository: Repository) -> None:
    with pytest.raises(RecipeError, match="The file is 4097 KiB; at most 4096 KiB are read") as caught:
        make(repository, {"requirements.txt": "#" * (MAX_FILE + 1)})
    assert caught.value.file == "requirements.txt"


def test_too_many_files(repository: Repository) -> None:
    files = {f"r{n}.txt": f"-r r{n + 1}.txt" for n in range(201)} | {"requirements.txt": "-r r0.txt", "r201.txt": ""}
    with pytest.raises(RecipeError, match="include more than 200 files"):
        make(repository, files)
