"""What repositories get wrong outside their requirements and data: refused with the file, or told in the plan, by every face alike."""

from __future__ import annotations

import os
import time
from typing import Any

import pytest

from tests.kit.faces import Faces, Refusal
from tests.kit.hub import Hub
from tests.kit.repos import Project

LINK = object()
Files = dict[str, Any]


def recipe(place: str, *words: str) -> Refusal:
    return Refusal(422, "recipe_error", words, place=place)


BAD: dict[str, tuple[Files, Refusal]] = {
    "requirements a link": ({"requirements.txt": LINK}, recipe("requirements.txt", "It is a symbolic link", "a regular file is needed")),
    "requirements a directory": ({"requirements.txt/a.txt": "six\n"}, recipe("requirements.txt", "It is a directory", "a regular file is needed")),
    "settings that lead out": ({".hubdock.yml": "requirements: ../x.txt\n"}, recipe(".hubdock.yml:1", "must be a path inside the repository", "such as env/dev.txt")),
    "settings that name nothing": ({".hubdock.yml": "requirements: dev.txt\n"}, recipe(".hubdock.yml", "names dev.txt, which this branch does not have")),
    "a setting that is none": ({".hubdock.yml": "labels: {a: b}\nimage: evil\n"}, recipe(".hubdock.yml:2", "'image' is unknown", "Known: base, requirements")),
    "a base that is not offered": ({".hubdock.yml": "base: evil\n"}, recipe(".hubdock.yml", "The base 'evil' is not offered", "Offered: other")),
    "a variable of the hub's": ({".hubdock.yml": "env: {JUPYTERHUB_USER: x}\n"}, recipe(".hubdock.yml:1", "JUPYTERHUB_USER")),
    "settings that are no YAML": ({".hubdock.yml": "env:\n  a: [1\n"}, recipe(".hubdock.yml:3", "not valid YAML")),
    "settings with a control character": ({".hubdock.yml": "env:\n  a: \x01\n"}, recipe(".hubdock.yml:2", "U+0001", "Remove it")),
    "a Debian package that is none": ({"apt.txt": "git\n--yes\n"}, recipe("apt.txt:2", "“--yes” is no name of a Debian package")),
    "conda": ({"environment.yml": "dependencies: [numpy]\n"}, recipe("environment.yml", "not supported", "List the packages in requirements.txt")),
    "poetry": ({"poetry.lock": ""}, recipe("poetry.lock", "not supported", "poetry export")),
    "a project without lock": ({"pyproject.toml": "[project]\nname = 'x'\ndependencies = ['six']\n"}, recipe("pyproject.toml", "no uv.lock stands beside it", "Run `uv lock`")),
    "a lock without project": ({"uv.lock": "version = 1\n"}, recipe("uv.lock", "needs the pyproject.toml", "Commit that file too")),
    "a lock that is none": ({"uv.lock": "package = 3\n[", "pyproject.toml": ""}, recipe("uv.lock", "not valid TOML")),
}


def write(project: Project, files: Files) -> None:
    for name, content in files.items():
        if content is LINK:
            os.symlink("/etc/shadow", project.path / name)
        else:
            project.write_all({name: content})
    project.commit()


@pytest.mark.parametrize("name", BAD)
def test_by_every_face(faces: Faces, project: Project, name: str) -> None:
    files, expected = BAD[name]
    write(project, files)
    faces.refuse({"repo": project.url, "ref": "main"}, expected)


def test_an_empty_repository(faces: Faces, project: Project) -> None:
    faces.refuse({"repo": project.url, "ref": "main"}, Refusal(404, "ref_not_found", ("is empty: it has no branch yet", "Push a first commit"), "ref"))


def test_a_requirements_file_that_is_a_pipe(faces: Faces, project: Project) -> None:
    """No git writes such a tree. One made by hand is refused like any other that holds no file there; git itself takes the entry for a submodule."""
    blob = project.git("hash-object", "-w", "/dev/null")
    (project.path / "tree").write_text(f"010000 blob {blob}\trequirements.txt\n")
    tree = project.run("sh", "-c", "git mktree <tree")
    commit = project.git("commit-tree", "-m", "a pipe", tree)
    project.git("push", "--quiet", "origin", f"{commit}:refs/heads/main")
    faces.refuse({"repo": project.url, "ref": "main"}, recipe("requirements.txt", "It is a submodule", "a regular file is needed"))


def test_too_large_is_stopped_early(faces: Faces, project: Project) -> None:
    """The limit is stated, and no more than that much is ever on the hub's disk."""
    project.write_all({"big.bin": os.urandom(40 * 1024**2)}).commit()
    began = time.monotonic()
    faces.refuse_build({"repo": project.url, "ref": "main"}, Refusal(422, "recipe_error", ("larger than this hub's limit of 16 MiB", "HubDock.max_repo_size")))
    assert time.monotonic() - began < 30
    copies = [path for path in (faces.hub.state / "git").glob(f"{project.remote_name}*/**/*") if path.is_file()]
    assert copies and max(path.stat().st_size for path in copies) < 16 * 1024**2


ODD = {
    ".gitattributes": "*.bin filter=lfs diff=lfs merge=lfs -text\n", "model.bin": "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 1000\n",
    "Data.txt": "large", "data.txt": "small", ".gitmodules": '[submodule "lib"]\n\tpath = lib\n\turl = https://elsewhere.example.org/lib\n',
}  # fmt: skip


def test_what_is_odd_is_told_and_started(hub: Hub, project: Project) -> None:
    """LFS pointers, a submodule, names that differ in case alone, and no requirements: said plainly in the plan and on the page, and it starts."""
    project.write_all(ODD)
    project.git("-c", "filter.lfs.clean=cat", "add", "-A")
    project.git("update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},lib")
    project.git("commit", "--quiet", "-m", "odd")
    project.push()
    options = {"repo": project.url, "ref": "main"}
    told = hub.service("POST", "plan", options).json()["notices"]
    wanted = ("Git LFS are pointers at first. Run `git lfs pull`", "Submodules are left out: lib. Run `git submodule update --init`", "No requirements were found: the base image is used as it is")
    assert all(any(words in notice for notice in told) for words in wanted), told
    with hub.browser("bob") as browser:
        page = browser.submit(browser.landing, "/services/hubdock/", **options)
        assert all(notice.split("`")[0] in page.text for notice in told) or page.url.path.startswith("/hub/"), page.text
    server = hub.start_server("bob", "odd", options)
    assert server.run("cat Data.txt data.txt; head -c 7 model.bin; ls -A lib; git status --short") == "largesmallversion"
    server.stop()
