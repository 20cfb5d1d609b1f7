"""What a base image must be, and what of it every environment keeps."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hubdock.core.contract import BaseImage, check_roots, make_roots
from hubdock.core.errors import RecipeError
from hubdock.core.recipe import Recipe
from hubdock.core.requirements import parse_requirements

PACKAGES = {"jupyterhub": "5.4.6", "jupyterlab": "4.4.2", "jupyter-server": "2.16.0", "ipykernel": "6.29", "numpy": "2.0"}
BASE = BaseImage(
    "base:1", "sha256:a", {"User": "jovyan"}, "3.12.1", PACKAGES, ("start.sh", "jupyterhub-singleuser", "git", "tini"), 1000, 100, "/home/jovyan", 1000
)
ROOTS = ("jupyterhub>=5,<6", "jupyterlab>=4,<5", "jupyter-server>=2,<3", "ipykernel>=6")


def test_a_good_base() -> None:
    assert BASE.find_problems() == []
    assert BASE.roots == ROOTS
    assert BASE.user == "jovyan"


@pytest.mark.parametrize(("identity", "user"), [({"User": "1000"}, "1000"), ({"User": ""}, "1000:100"), ({"User": None}, "1000:100"), ({}, "1000:100")])
def test_the_user_an_environment_ends_with(identity: dict[str, str], user: str) -> None:
    assert replace(BASE, identity=identity).user == user


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"uid": 0, "gid": 0}, "It runs as 0:0; hubdock needs jovyan, 1000:100. End its Dockerfile with USER 1000:100."),
        ({"gid": 1000}, "It runs as 1000:1000; hubdock needs jovyan, 1000:100. End its Dockerfile with USER 1000:100."),
        ({"home": ""}, "HOME is not set; it must be /home/jovyan."),
        ({"home": "/root"}, "HOME is /root; it must be /home/jovyan."),
        ({"python": ""}, "/opt/conda/bin/python does not run. Python must be installed under /opt/conda."),
        ({"programs": ("start.sh", "git")}, "jupyterhub-singleuser is not on its PATH. Install it in the image."),
        ({"packages": {k: v for k, v in PACKAGES.items() if k != "ipykernel"}}, "The package ipykernel is missing. Install it in /opt/conda."),
    ],
)
def test_each_broken_part_is_named_with_its_mend(change: dict[str, object], words: str) -> None:
    assert replace(BASE, **change).find_problems() == [words]  # type: ignore[arg-type]


def test_the_owner_of_conda() -> None:
    (problem,) = replace(BASE, owner=0).find_problems()
    assert "/opt/conda does not belong to jovyan" in problem


def test_a_plain_image_breaks_everything() -> None:
    assert len(BaseImage("debian", "sha256:b", {}, "", {}, (), 0, 0, "/root", 0).find_problems()) == 11


@pytest.mark.parametrize(
    ("packages", "roots"),
    [
        (PACKAGES, ROOTS),
        ({"jupyterlab": "4.5.0a1", "jupyterhub": "6.0.0.dev0"}, ("jupyterhub>=6,<7", "jupyterlab>=4,<5", "ipykernel>=6")),
        ({"jupyterlab": "unknown"}, ("ipykernel>=6",)),
        ({}, ("ipykernel>=6",)),
    ],
)
def test_roots(packages: dict[str, str], roots: tuple[str, ...]) -> None:
    assert make_roots(packages) == roots


def recipe(text: str) -> Recipe:
    return Recipe("requirements", "requirements.txt", lines=tuple(parse_requirements("requirements.txt", text.encode())))


@pytest.mark.parametrize(
    "text",
    [
        "", "numpy==1.0\n", "jupyterlab\n", "jupyterlab>=3\n", "jupyterlab==4.1.0\n", "jupyterlab==4.5.0b1\n", "jupyterlab===4.1.0\n", "JupyterLab==4.4,!=4.3\n",
        "ipykernel==7.0\n", "jupyterlab==3.6 ; python_version<'3'\n", "jupyterlab<4\n", "notebook==6.0\n", "jupyter-server[test]==2.14\n", "jupyterlab==4.*\n",
    ],
)  # fmt: skip
def test_pins_that_jupyter_can_live_with_or_that_only_a_resolver_can_judge(text: str) -> None:
    check_roots(recipe(text), ROOTS)


@pytest.mark.parametrize(
    ("text", "line", "needs"),
    [
        ("numpy\n\njupyterlab==3.6.1\n", 3, "jupyterlab<5,>=4"),
        ("jupyterlab==5.0.0\n", 1, "jupyterlab<5,>=4"),
        ("jupyterlab===3.6\n", 1, "jupyterlab<5,>=4"),
        ("jupyterlab===odd\n", 1, "jupyterlab<5,>=4"),
        ("Jupyter_Server==1.24\n", 1, "jupyter-server<3,>=2"),
        ("jupyterhub==1.5\n", 1, "jupyterhub<6,>=5"),
        ("ipykernel==5.5\n", 1, "ipykernel>=6"),
        ("jupyterlab==3.6 --hash=sha256:aa\n", 1, "jupyterlab<5,>=4"),
    ],
)
def test_pins_that_break_jupyter_are_named_with_file_and_line(text: str, line: int, needs: str) -> None:
    with pytest.raises(RecipeError) as caught:
        check_roots(recipe(text), ROOTS)
    assert caught.value.place == f"requirements.txt:{line}"
    assert f"breaks Jupyter on this hub, which needs {needs}" in caught.value.message
