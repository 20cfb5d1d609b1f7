"""What people type into the forms or send by REST: each refused with what is wrong, where, and what to do; nothing that they had is lost."""

from __future__ import annotations

from typing import Any

import pytest

from config.demo.server import Server as Remote
from tests.kit.canary import find_in_files
from tests.kit.faces import Faces, Refusal
from tests.kit.repos import Project

URL, REF, OPTION, DENIED = "invalid_repo_url", "invalid_ref", "invalid_option", "repo_not_allowed"


def address(*words: str, code: str = URL) -> Refusal:
    return Refusal(403 if code == DENIED else 400, code, words, "repo")


def branch(*words: str, code: str = REF, field: str = "ref") -> Refusal:
    return Refusal(400 if code == REF else 404, code, words, field)


def option(field: str, *words: str) -> Refusal:
    return Refusal(400, OPTION, words, field)


TRANSPORT = address("This transport is not accepted", "Use https:// or ssh://")
BAD: dict[str, tuple[dict[str, Any], Refusal]] = {
    "empty": ({"repo": ""}, address("Give the address of a repository", "for example https://")),
    "only blanks": ({"repo": "  \t "}, address("Give the address of a repository")),
    "a space": ({"repo": "https://git.example.org/a b"}, address("holds a space", "Remove it")),
    "a line break": ({"repo": "https://git.example.org/a\nb"}, address("a line break", "Remove it")),
    "NUL": ({"repo": "https://git.example.org/a\0b"}, address("a control character", "Remove it")),
    "too long": ({"repo": "https://git.example.org/" + "a" * 2048}, address("2072 characters long", "at most 2048")),
    "file:": ({"repo": "file:///etc"}, TRANSPORT),
    "a path": ({"repo": "/etc"}, address("A path on a disk", "Use its https:// or ssh:// address")),
    "ext::": ({"repo": "ext::sh$IFS-c$IFS/bin/id"}, TRANSPORT),
    "an option": ({"repo": "--upload-pack=touch /tmp/x"}, address("a space")),
    "an option without blank": ({"repo": "--upload-pack=id"}, address("can't start with “-”")),
    "an option of ssh": ({"repo": "ssh://-oProxyCommand=id/x"}, address("host", "not a valid name")),
    "loopback": ({"repo": "https://127.0.0.1/a/b"}, address("127.0.0.1 are not allowed", "HubDock.allowed_hosts", code=DENIED)),
    "loopback in IPv6": ({"repo": "https://[::1]/a/b"}, address("::1 are not allowed", code=DENIED)),
    "loopback in disguise": ({"repo": "https://0x7f000001/a/b"}, address("an address in disguise", "as four decimal numbers")),
    "metadata": ({"repo": "http://169.254.169.254/latest/meta-data"}, address("169.254.169.254 are not allowed", code=DENIED)),
    "a private host": ({"repo": "http://10.0.0.1/a/b"}, address("http://10.0.0.1 are not allowed", code=DENIED)),
    "another host": ({"repo": "https://elsewhere.example.org/a/b"}, address("elsewhere.example.org are not allowed", "HubDock.allowed_hosts", code=DENIED)),
    "a homograph": ({"repo": "https://g\u0456thub.com/a/b"}, address("xn--gthub-n2e.com are not allowed", code=DENIED)),
    "a fragment": ({"repo": "https://github.com/a/b#main"}, address("Remove “?…” and “#…”", "the branch has a field of its own")),
    "a query": ({"repo": "https://github.com/a/b?ref=x"}, address("Remove “?…” and “#…”")),
    "a script as address": ({"repo": "<script>alert(1)</script>"}, address("must start with https://")),
    "no branch": ({"ref": ""}, branch("Give the name of a branch", "for example main")),
    "a branch like an option": ({"ref": "-x"}, branch("starts with “-”")),
    "two dots": ({"ref": "a..b"}, branch("holds '..'")),
    "a reflog": ({"ref": "main@{1}"}, branch("holds '@{'")),
    "a pattern": ({"ref": "*"}, branch("holds '*'")),
    "a script as branch": ({"ref": '"><img\u00a0src=x\u00a0onerror=alert(1)>'}, branch("has no branch or tag", code="ref_not_found")),
    "branch and tag": ({"ref": "both"}, branch("both is both a branch and a tag", "Write refs/heads/both or refs/tags/both")),
    "a short commit": ({"ref": "SHORT"}, branch("looks like a commit", "Give a branch or a tag", "git push origin", code="ref_not_found")),
    "a missing branch": ({"ref": "featur/vgg"}, branch("has no branch or tag featur/vgg", "Did you mean feature/vgg?", code="ref_not_found")),
    "a new branch like an option": ({"new_branch": "-x"}, branch("starts with “-”", field="new_branch")),
    "a new branch that is the old": ({"new_branch": "main"}, branch("the name of the branch it starts from", "Choose another name", field="new_branch")),
    "cores over the limit": ({"cpu": "2.5"}, option("cpu", "2.5 CPU cores", "the limit is 2")),
    "cores that are none": ({"cpu": "NaN"}, option("cpu", "between 0.01 and 4096")),
    "memory over the limit": ({"memory": "3G"}, option("memory", "the limit is 2G")),
    "memory in words": ({"memory": "lots"}, option("memory", "such as 512M or 4G")),
    "shared memory over the limit": ({"shm": "1G"}, option("shm", "the limit is 256M")),
    "GPUs over the limit": ({"gpu": "3"}, option("gpu", "3 GPUs were asked for", "at most 2")),
    "GPUs below none": ({"gpu": "-1"}, option("gpu", "whole number")),
    "GPUs beyond number": ({"gpu": "1e9"}, option("gpu", "whole number")),
    "GPUs that are none": ({"gpu": "NaN"}, option("gpu", "whole number")),
    "an image": ({"image": "evil"}, option("image", "An image can't be chosen", "made from the repository and branch")),
    "a commit": ({"commit": "0" * 40}, option("commit", "A commit can't be chosen", "give a branch or tag")),
}
BY_REST: dict[str, tuple[dict[str, Any], Refusal]] = {
    "no address": ({"repo": None}, address("Give the address")),
    "a list as address": ({"repo": ["https://github.com/a/b"]}, address("must be text")),
    "an object as branch": ({"ref": {"name": "main"}}, branch("given as text")),
    "a number as branch": ({"ref": 3}, branch("given as text")),
    "a list as new branch": ({"new_branch": ["x"]}, branch("given as text", field="new_branch")),
    "a list of cores": ({"cpu": [1]}, option("cpu", "a number of cores")),
    "an object as memory": ({"memory": {"G": 1}}, option("memory", "such as 512M or 4G")),
    "true as GPUs": ({"gpu": True}, option("gpu", "whole number")),
    "half a GPU": ({"gpu": 0.5}, option("gpu", "whole number")),
    "an unknown key": ({"speed": 1}, option("speed", "'speed' is unknown", "Known: repo, ref")),
}


@pytest.fixture(scope="module")
def many(server: Remote, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A repository with branches, tags, and a name that is both."""
    project = Project(server, tmp_path_factory.mktemp("many"), "many")
    project.write_all({"README.md": "one"}).commit("one")
    for name in ("feature/vgg", "both"):
        project.push(name)
    project.write_all({"README.md": "two"}).commit("two")
    project.git("tag", "both")
    project.git("push", "--quiet", "origin", "refs/tags/both")
    return project


@pytest.mark.parametrize("name", BAD)
def test_by_every_face(faces: Faces, many: Project, name: str) -> None:
    changed, expected = BAD[name]
    options = {"repo": many.url, "ref": "main", **changed}
    if options["ref"] == "SHORT":
        options["ref"] = many.git("rev-parse", "HEAD~1")[:8]
    faces.refuse(options, expected)


@pytest.mark.parametrize("name", BY_REST)
def test_what_only_rest_can_send(faces: Faces, many: Project, name: str) -> None:
    changed, expected = BY_REST[name]
    faces.refuse({"repo": many.url, "ref": "main", **changed}, expected)


@pytest.mark.parametrize("count", [2, 900])
def test_a_field_that_is_sent_many_times(faces: Faces, many: Project, count: int) -> None:
    faces.refuse_forms([("ref", "main"), *[("repo", many.url)] * count], option("repo"), f"The field 'repo' was sent {count} times.")
    for path in ("/services/hubdock/", "/hub/spawn"):  # tornado itself reads no form with over 1,000 fields
        assert faces.send(path, [("ref", "main"), *[("repo", many.url)] * 1200]).status == 400
    faces.check_nothing_lost()


def test_missing_and_forbidden_answer_alike(faces: Faces, many: Project, locked: Remote) -> None:
    """Three repositories that can't be read, for three reasons: nobody can tell the reasons apart."""
    hidden = Project(locked, many.path.parent, "hidden", push_as="team:only-for-tests")
    hidden.write_all({"README.md": "secret"}).commit()
    told = set()
    for url in (hidden.url, f"{locked.url}/git/nothing.git", many.url.replace("many-", "none-")):
        faces.refuse({"repo": url, "ref": "main"}, Refusal(404, "repo_not_found", ("There is no repository", "or you may not read it", "Check the address"), "repo"))
        told.add(faces.ask({"repo": url, "ref": "main"})["message"].replace(url.partition("://")[2].removesuffix(".git"), "URL"))
    assert len(told) == 1, told


@pytest.mark.parametrize("scheme", ["https", "ssh", "http"])
def test_a_password_in_an_address_is_told_to_nobody(faces: Faces, scheme: str) -> None:
    """Refused; in no page, answer or log, and in no database: neither the hub's, which writes down what was asked of it, nor hubdock's."""
    canary = f"canary{scheme}0123456789"
    options = {"repo": f"{scheme}://git:{canary}@git.example.org/team/x", "ref": "main"}
    faces.refuse(options, address("holds a user name or a password", "Remove everything before “@”"))
    for shown in (faces.send("/services/hubdock/", options), faces.send("/hub/spawn", options)):
        assert canary not in shown.answer.text
        assert shown.values["repo"] == f"{scheme}://git.example.org/team/x", "the mend is done already"
    assert canary not in faces.client.get("/hub/spawn").text
    assert canary not in faces.hub.api("GET", "users/alice?include_stopped_servers").text
    assert not find_in_files(faces.hub.directory, [canary.encode()])


def test_nothing_becomes_html(faces: Faces, many: Project) -> None:
    for field in ("repo", "ref", "new_branch", "cpu", "memory", "shm", "gpu"):
        options = {"repo": many.url, "ref": "main", field: '"><script>alert(1)</script><img src=x onerror=alert(1)>'}
        for path in ("/services/hubdock/", "/hub/spawn"):
            text = faces.send(path, options).answer.text
            assert "<script>alert" not in text and "<img src=x" not in text
