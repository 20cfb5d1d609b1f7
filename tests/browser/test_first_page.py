"""The first page in a real browser: from login to JupyterLab, and back from mistakes."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from config.demo.server import Server
from tests.browser.conftest import log_in, take_picture
from tests.kit.hub import Hub
from tests.kit.lab import Lab
from tests.kit.repos import Project, make_requirements


@pytest.fixture(scope="module")
def digits(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = Project(server, tmp_path_factory.mktemp("first"), "digits")
    project.init_dvc().write_all({"README.md": "# digits\n", "requirements.txt": make_requirements("tabulate==0.9.0"), "train.py": "print(1)\n"})
    project.add_data("images", {f"{n}.txt": f"image {n}" for n in range(5)}).commit("first")
    project.push("vgg19")
    return project


def test_from_login_to_jupyterlab(page: Page, hub: Hub, digits: Project) -> None:
    """Branches are listed as the repository is typed; one button builds, shows how it goes, and leads into JupyterLab with code and data."""
    log_in(page, hub, "alice")
    page.fill("#repo", digits.url)
    expect(page.locator("#refs-told")).to_have_text("2 branches, 0 tags: main, vgg19")
    expect(page.locator("#ref")).to_have_value("main")
    page.fill("#ref", "vgg19")
    lab = Lab(page)
    page.click("#start")
    page.wait_for_url(re.compile(r"/services/hubdock/builds/[0-9a-f]{32}$"))
    expect(page.locator("#log")).to_contain_text("[environment]", timeout=30_000)
    page.wait_for_url("**/user/alice/**/lab**", timeout=120_000)
    lab.wait(60)
    listed = page.locator(".jp-DirListing-itemText")
    expect(listed.filter(has_text="train.py")).to_be_visible()
    expect(listed.filter(has_text=re.compile("^images$"))).to_be_visible()
    take_picture(page, "lab")
    page.goto(f"{hub.url}/services/hubdock/")
    expect(page.locator("table")).to_contain_text("vgg19")
    (name,) = [name for name, server in hub.api("GET", "users/alice").json()["servers"].items() if server["user_options"]["repo"] == digits.url]
    hub.stop_server("alice", name)


def test_a_mistake_keeps_what_was_typed(page: Page, hub: Hub, digits: Project) -> None:
    """The message stands beside the field, the focus is there, and every value is kept."""
    log_in(page, hub, "bob")
    page.fill("#repo", digits.url)
    page.fill("#ref", "vgg18")
    page.fill("#memory", "1G")
    page.click("#start")
    expect(page.locator("#ref-problem")).to_contain_text("Did you mean vgg19?")
    expect(page.locator("#ref")).to_be_focused()
    assert [page.input_value(field) for field in ("#repo", "#ref", "#memory")] == [digits.url, "vgg18", "1G"]
    page.fill("#repo", "ext::sh -c true")
    page.click("#start")
    expect(page.locator("#repo-problem")).to_be_visible()
    assert page.input_value("#memory") == "1G"


def test_reload_second_window_and_cancel(page: Page, hub: Hub, project: Project) -> None:
    """A reload and a second window show the same build; Cancel leads back with the values, and the build ends."""
    project.write_all({"requirements.txt": make_requirements("tabulate==0.9.0", "./slow"), "slow/setup.py": "import time; time.sleep(60)\n"}).commit()
    log_in(page, hub, "carol")
    page.fill("#repo", project.url)
    page.fill("#ref", "main")
    page.click("#start")
    page.wait_for_url(re.compile("/builds/"))
    expect(page.locator("#log")).to_contain_text("[environment]", timeout=30_000)
    second = page.context.new_page()
    second.goto(page.url)
    expect(second.locator("#log")).to_contain_text("[environment]", timeout=30_000)
    page.reload()
    expect(page.locator("#log")).to_contain_text("[environment]", timeout=30_000)
    build = page.url.rpartition("/")[2]
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#repo")).to_have_value(project.url)
    hub.wait_for(lambda: hub.service("GET", f"builds/{build}").json()["phase"] == "cancelled", 20, "it is cancelled")


def test_a_failure_tells_place_and_keeps_the_choice(page: Page, hub: Hub, project: Project) -> None:
    project.write_all({"requirements.txt": make_requirements("tabulate==0.9.0", "tornado==4.5.3")}).commit()
    log_in(page, hub, "dave")
    page.fill("#repo", project.url)
    page.fill("#ref", "main")
    page.click("#start")
    expect(page.locator("#error")).to_contain_text("requirements.txt:3", timeout=60_000)
    expect(page.get_by_role("link", name="The whole log")).to_be_visible()
    page.get_by_role("link", name="Back to the choice").click()
    expect(page.locator("#repo")).to_have_value(project.url)
