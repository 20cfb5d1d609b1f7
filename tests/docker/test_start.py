"""The main job, from a repository and a branch to JupyterLab, by every way to start it. What is in the server then: tests/contract/test_workspace.py."""

from __future__ import annotations

import re
import time

import httpx
import pytest

from tests.kit.hub import Hub
from tests.kit.repos import Project, make_requirements

REQUIREMENTS = make_requirements("tabulate==0.9.0")


@pytest.fixture
def digits(project: Project) -> Project:
    """A branch with requirements and data, and one that differs in code."""
    project.init_dvc().write_all({"README.md": "# digits\n", "requirements.txt": REQUIREMENTS, "train.py": "print('main')\n"})
    project.add_data("images", {f"{n}.txt": f"image {n}" for n in range(20)})
    project.commit("first")
    project.git("checkout", "--quiet", "-b", "vgg19")
    project.write_all({"train.py": "print('vgg19')\n"}).commit("a deeper network")
    return project


def test_by_the_hubs_own_form(hub: Hub, digits: Project) -> None:
    """The hub's form starts the default server; a wrong branch keeps what was typed, with the message."""
    with hub.browser("carol") as browser:
        page = browser.get("/hub/spawn")
        assert 'name="repo"' in page.text
        wrong = browser.submit(page, "/hub/spawn", repo=digits.url, ref="mian..x", cpu="1")
        assert wrong.status_code == 400 and "no name of a branch" in wrong.text
        assert digits.url in wrong.text and "mian..x" in wrong.text
        missing = browser.submit(wrong, "/hub/spawn", repo=digits.url, ref="mian")
        assert "Did you mean main?" in missing.text and digits.url in missing.text
        browser.submit(missing, "/hub/spawn", repo=digits.url, ref="main")
        server = hub.wait_ready("carol", "")
    assert "README.md" in {entry["name"] for entry in server.ask("contents").json()["content"]}
    hub.api("DELETE", "users/carol/server")


def test_by_the_page(hub: Hub, digits: Project) -> None:
    """Login lands on the page; it lists branches, refuses kindly, builds, starts the named server, and hands over."""
    with hub.browser("dave") as browser:
        assert browser.landing.url.path == "/services/hubdock/"
        listed = browser.submit(browser.landing, "/services/hubdock/", repo=digits.url, ref="", list="1")
        assert "main, vgg19" in listed.text and 'value="main"' in listed.text
        wrong = browser.submit(listed, "/services/hubdock/", repo=digits.url, ref="vgg18", memory="1G")
        assert wrong.status_code == 404 and "Did you mean vgg19?" in wrong.text
        assert 'value="1G"' in wrong.text and 'id="ref-problem"' in wrong.text
        page = browser.submit(wrong, "/services/hubdock/", repo=digits.url, ref="vgg19", memory="1G")
        assert re.match(r"^/services/hubdock/builds/[0-9a-f]{32}$|^/hub/spawn-pending/|^/user/dave/", page.url.path), page.url
        until = time.monotonic() + 120
        while not page.url.path.startswith("/user/dave/") and time.monotonic() < until:
            page = browser.get(str(page.url))
            time.sleep(0.3)
        assert page.url.path.startswith("/user/dave/"), page.text[:2000]
    (name,) = hub.api("GET", "users/dave").json()["servers"]
    assert re.fullmatch(r"[a-z][a-z0-9-]{0,29}", name)
    hub.stop_server("dave", name)


def test_a_link_only_fills_the_form(hub: Hub, digits: Project) -> None:
    """Neither the hub's form nor the page starts anything for a link, which another site may have made."""
    with hub.browser("erin") as browser:
        filled = browser.get("/hub/spawn", params={"repo": digits.url, "ref": "main"})
        assert digits.url in filled.text and "press Start" in filled.text
        assert digits.url in browser.get("/services/hubdock/", params={"repo": digits.url, "ref": "main"}).text
        forged = browser.client.post("/services/hubdock/", data={"repo": digits.url, "ref": "main"})
        assert forged.status_code == 403
    assert hub.api("GET", "users/erin").json()["servers"] == {}


def test_progress_tells_the_build(hub: Hub, project: Project) -> None:
    """The hub's pending page hears each part; the percentage never falls; a reload hears it all again."""
    project.write_all({"requirements.txt": make_requirements("tabulate==0.9.0")}).commit()
    with httpx.Client(timeout=180) as client:
        request = client.build_request("POST", f"{hub.url}/hub/api/users/erin/servers/told", json={"repo": project.url, "ref": "main"}, headers={"Authorization": f"token {hub.token}"})
        answer = client.send(request)
        assert answer.status_code in {201, 202}
    events = hub.read_progress("erin", "told")
    hub.wait_ready("erin", "told")
    assert events[-1]["ready"] is True
    hub.stop_server("erin", "told")
