"""What DVC files get wrong: refused with the file, or told in the plan; nothing that a repository writes decides where the hub's credentials go."""

from __future__ import annotations

import pytest

from config.demo.server import Server as Remote
from tests.kit.faces import Faces, Refusal
from tests.kit.hub import Hub
from tests.kit.repos import Project

MD5 = "0123456789abcdef" * 2
OUT = f"outs:\n- md5: {MD5}\n  hash: md5\n  path: PATH\n"
CONFIG = "[core]\n    remote = storage\n['remote \"storage\"']\n    url = SERVER/dvc/x\n"


def recipe(place: str, *words: str) -> Refusal:
    return Refusal(422, "recipe_error", words, place=place)


def out(path: str) -> str:
    return OUT.replace("PATH", path)


BAD: dict[str, tuple[dict[str, str], Refusal]] = {
    "a remote that is not declared": ({".dvc/config": CONFIG, "a.dvc": out("a") + "  remote: other\n"}, recipe(".dvc/config", "'other', which is not declared", "Declared: storage")),
    "a default that is not declared": ({".dvc/config": CONFIG.replace("= storage", "= gone"), "a.dvc": out("a")}, recipe(".dvc/config", "'gone', which is not declared", "Declared: storage")),
    "no default": ({".dvc/config": CONFIG.replace("    remote = storage\n", ""), "a.dvc": out("a")}, recipe(".dvc/config", "no default remote", "Run `dvc remote default NAME`")),
    "a directory of a machine": ({".dvc/config": CONFIG.replace("SERVER", "/home/ada"), "a.dvc": out("a")}, recipe(".dvc/config", "a directory of somebody's machine", "Use one that servers can reach")),
    "a foreign host": ({".dvc/config": CONFIG.replace("SERVER", "https://elsewhere.example.org"), "a.dvc": out("a")}, recipe("a.dvc", "is on a host that this hub does not ask", "HubDock.dvc_remotes or allowed_hosts")),
    "metadata": ({".dvc/config": CONFIG.replace("SERVER", "http://169.254.169.254"), "a.dvc": out("a")}, recipe("a.dvc", "is on a host that this hub does not ask")),
    "a password": ({".dvc/config": CONFIG.replace("SERVER", "https://me:pa55@a.example.org"), "a.dvc": out("a")}, recipe("a.dvc", "holds a password", "change the password")),
    "an absolute output": ({".dvc/config": CONFIG, "a.dvc": out("/etc/passwd")}, recipe("a.dvc", "“/etc/passwd” does not lie inside the project")),
    "an output outside": ({".dvc/config": CONFIG, "sub/a.dvc": out("../../x")}, recipe("sub/a.dvc", "does not lie inside the project", "Only outputs inside it can be fetched")),
    "an output in .git": ({".dvc/config": CONFIG, "a.dvc": out(".git/hooks/pre-commit")}, recipe("a.dvc", "in a directory of git or DVC itself")),
    "no hash": ({".dvc/config": CONFIG, "a.dvc": out("a").replace(MD5, "../../etc/passwd")}, recipe("a.dvc", "not 32 hexadecimal digits")),
    "no YAML": ({".dvc/config": CONFIG, "a.dvc": "outs:\n- [\n"}, recipe("a.dvc:3", "not valid YAML")),
    "no configuration": ({".dvc/config": CONFIG + "nonsense\n", "a.dvc": out("a")}, recipe(".dvc/config:5", "no valid DVC configuration")),
}


@pytest.mark.parametrize("name", BAD)
def test_by_every_face(faces: Faces, project: Project, server: Remote, name: str) -> None:
    files, expected = BAD[name]
    project.write_all({path: text.replace("SERVER", server.url) for path, text in files.items()}).commit()
    server.requests.clear()
    faces.refuse({"repo": project.url, "ref": "main"}, expected)
    assert "pa55" not in str(faces.ask({"repo": project.url, "ref": "main"}))
    assert not [path for _, path in server.requests if path.startswith("/dvc/")], "nothing was asked of the remote"


def test_a_file_that_the_remote_lacks(faces: Faces, project: Project) -> None:
    """Found out by the fetch that every face waits for: the file is named, and the mend."""
    project.init_dvc().add_data("images", {"here.txt": "here"})
    project.write_all({"images/lost.txt": "never pushed"})
    project.dvc("add", "--quiet", "images")
    project.commit("forgot dvc push")
    faces.refuse_build({"repo": project.url, "ref": "main"}, Refusal(422, "data_not_found", ("could not be fetched from http://", "images", "run `dvc push`"), place="images.dvc"))


HOSTILE = CONFIG + "    endpointurl = https://evil.example.org\n    configpath = /etc/shadow\n    credentialpath = ../x\n"
IMPORT = "deps:\n- path: data\n  repo:\n    url: https://evil.example.org/repo\n    rev_lock: " + "0" * 40 + f"\nouts:\n- md5: {MD5}\n  hash: md5\n  path: imported\n"


def test_what_is_ignored_is_told(hub: Hub, project: Project, server: Remote) -> None:
    """Options that would send credentials elsewhere have no say, imports are not followed: the plan says so, and the rest of the data comes."""
    project.init_dvc().add_data("images", {"1.txt": "one"})
    url = f"{server.url}/dvc/{project.remote_name}"
    project.write_all({".dvc/config": HOSTILE.replace("SERVER/dvc/x", url), "imported.dvc": IMPORT}).commit()
    notices = " ".join(hub.service("POST", "plan", {"repo": project.url, "ref": "main"}).json()["notices"])
    assert ".dvc/config: configpath, credentialpath, endpointurl ignored" in notices and "HubDock.dvc_remotes" in notices
    assert "imported.dvc imports from another repository, which is not fetched" in notices and "dvc update" in notices
    running = hub.start_server("bob", "ignored", {"repo": project.url, "ref": "main"})
    assert running.run("cat images/1.txt; ls imported 2>/dev/null || echo none") == "onenone"
    running.stop()
