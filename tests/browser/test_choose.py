"""The page where people choose: live branches, the plan before the start, mistakes beside their fields; with JavaScript and without."""

from __future__ import annotations

import json
import re
import socket
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from config.demo.server import Server as Remote
from tests.browser.conftest import Windows, check_axe, check_width, log_in, take_picture
from tests.kit.hub import Hub, find_gateway, run_hub
from tests.kit.repos import Project, make_requirements


@pytest.fixture(scope="module")
def digits(server: Remote, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Two branches, a tag, three DVC files; its environment is new."""
    project = Project(server, tmp_path_factory.mktemp("choose"), "digits")
    project.write_all({"requirements.txt": make_requirements("tabulate==0.9.0"), "train.py": "print(1)\n"}).track("images.csv", "1,2,3\n" * 1000).commit("Train on the digits")
    project.push("vgg19")
    project.push("feature/resnet")
    project.git("tag", "v1.0")
    project.git("push", "--quiet", "origin", "v1.0")
    return project


def choose(page: Page, project: Project, ref: str = "main") -> None:
    page.fill("#repo", project.url)
    expect(page.locator("#refs-told")).to_contain_text("branch")
    page.fill("#ref", ref)


def list_parts(page: Page) -> dict[str, str]:
    """Return what the panel says of each part, once it is there."""
    expect(page.locator("#plan")).not_to_have_attribute("aria-busy", "true", timeout=30_000)
    expect(page.locator("#plan-panel")).to_be_visible()
    found = page.locator("#plan-parts > li")
    return {str(item.get_attribute("data-part")): str(item.get_attribute("data-state")) for item in found.all()}


def start(page: Page, hub: Hub, user: str) -> tuple[str, str]:
    """Start what is chosen, wait for JupyterLab, and return the build and the server."""
    with page.expect_response(lambda answer: "/builds/" in answer.headers.get("location", "") and answer.status == 303) as told:
        page.click("#start")
    build = told.value.headers["location"].rpartition("/")[2]
    page.wait_for_url(f"**/user/{user}/**/lab**", timeout=120_000)
    server = page.url.partition(f"/user/{user}/")[2].partition("/")[0]
    page.goto("about:blank")  # JupyterLab complains once its server is stopped
    return build, server


def read_made(hub: Hub, build: str) -> dict[str, dict[str, float]]:
    """Return the parts that a build made, each with BuildKit's steps and their seconds."""
    tasks = hub.service("GET", f"builds/{build}").json()["tasks"]
    with sqlite3.connect(hub.state / "hubdock.sqlite") as database:
        rows = dict(database.execute("SELECT id, steps FROM tasks"))
    return {part: json.loads(rows[identity]) for part, identity in tasks.items()}


def test_what_the_plan_says_is_what_happens(page: Page, hub: Hub, digits: Project) -> None:
    """A new environment, only code, a new hypothesis, nothing at all: from the choice through the plan into JupyterLab."""
    log_in(page, hub, "alice")
    choose(page, digits)
    panel = page.locator("#plan-panel")
    expect(panel).to_contain_text("Train on the digits")
    expect(panel).to_contain_text(digits.git("rev-parse", "HEAD")[:12])
    expect(panel).to_contain_text("Ada, just now")
    told = list_parts(page)
    assert {name: told[name] for name in ("environment", "image", "data")} == {"environment": "build", "image": "build", "data": "build"}
    expect(panel.locator("[data-part=data]")).to_contain_text("will be fetched, 5.9K to fetch")
    take_picture(page, "choose-plan")
    build, server = start(page, hub, "alice")
    made = read_made(hub, build)
    assert set(made) - {"base"} == {"environment", "image", "data"} and made["environment"] and made["image"]
    hub.stop_server("alice", server)

    digits.write_all({"train.py": "print(2)\n"}).commit("Train longer")
    page.goto(f"{hub.url}/services/hubdock/?repo={digits.url}&ref=main")
    expect(panel).to_contain_text("Train longer")
    assert list_parts(page) == {"environment": "ready", "image": "build", "data": "ready"}
    expect(panel.locator("[data-part=image]")).to_contain_text("new code on a ready environment")
    expect(page.locator("#plan-sum")).to_contain_text(re.compile(r"Something is to be made first\. About \d+ s, from \d+ builds?\."))
    build, server = start(page, hub, "alice")
    made = read_made(hub, build)
    assert set(made) == {"image"} and made["image"]
    hub.stop_server("alice", server)

    page.goto(f"{hub.url}/services/hubdock/?repo={digits.url}&ref=main")
    list_parts(page)
    page.get_by_role("button", name="New hypothesis from here").click()
    expect(page.locator("#new_branch")).to_be_focused()
    page.keyboard.type("try-resnet")
    expect(page.locator("#plan-title")).to_have_text("New branch try-resnet from branch main")
    assert list_parts(page) == {"environment": "ready", "image": "ready", "data": "ready"}
    expect(page.locator("#plan-sum")).to_contain_text(re.compile(r"Everything is ready\. About \d+ s, from \d starts?\."))
    build, new = start(page, hub, "alice")
    assert read_made(hub, build) == {} and new != server and "try-resnet" in new

    page.goto(f"{hub.url}/services/hubdock/?repo={digits.url}&ref=main")
    assert set(list_parts(page).values()) == {"ready"}
    build, again = start(page, hub, "alice")
    assert read_made(hub, build) == {} and again == server, "two hypotheses are two servers, and each is found again"
    hub.stop_server("alice", again)
    hub.stop_server("alice", new)


def test_requirements_that_changed_are_told(page: Page, hub: Hub, digits: Project) -> None:
    lines = (digits.path / "requirements.txt").read_text()
    digits.git("checkout", "--quiet", "-B", "newer")
    digits.write_all({"requirements.txt": lines.replace("tabulate==0.9.0", "tabulate==0.8.10") + "xgboost==3.2\n"}).commit("Newer")
    digits.git("checkout", "--quiet", "main")
    log_in(page, hub, "alice")
    choose(page, digits, "newer")
    environment = page.locator("#plan-panel [data-part=environment]")
    expect(environment).to_contain_text("requirements.txt: + xgboost 3.2")
    expect(environment).to_contain_text("requirements.txt: tabulate 0.9.0 → 0.8.10")


# --- the combobox ---


def test_branches_by_keyboard(page: Page, hub: Hub, digits: Project) -> None:
    """The pattern of the ARIA Authoring Practices: a screen reader hears where one is, and the form is sent only when nothing is chosen in the list."""
    log_in(page, hub, "alice")
    page.fill("#repo", digits.url)
    field = page.get_by_role("combobox", name="Branch or tag")
    expect(field).to_have_value("main")
    field.focus()
    field.fill("")
    page.keyboard.type("RES")
    options = page.get_by_role("listbox", name="Branches and tags").get_by_role("option")
    expect(options).to_have_count(1)
    expect(field).to_have_attribute("aria-expanded", "true")
    page.keyboard.press("ArrowDown")
    expect(options.first).to_have_attribute("aria-selected", "true")
    assert field.get_attribute("aria-activedescendant") == options.first.get_attribute("id")
    check_axe(page)
    take_picture(page, "choose-combobox")
    page.keyboard.press("Enter")
    expect(field).to_have_value("feature/resnet")
    expect(field).to_have_attribute("aria-expanded", "false")
    assert field.get_attribute("aria-activedescendant") is None
    expect(page.locator("#plan-title")).to_have_text("Branch feature/resnet")
    page.keyboard.press("ArrowDown")
    expect(page.get_by_role("option", name="v1.0")).to_contain_text("tag")
    expect(page.get_by_role("option", name="vgg19")).to_contain_text("branch")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Escape")
    expect(field).to_have_attribute("aria-expanded", "false")
    expect(field).to_have_value("feature/resnet")
    field.click()
    page.get_by_role("option", name="v1.0").click()
    expect(page.locator("#plan-title")).to_have_text("Tag v1.0")
    assert page.url.endswith("/services/hubdock/")


# --- mistakes ---


def test_a_missing_branch_offers_near_names(page: Page, hub: Hub, digits: Project) -> None:
    log_in(page, hub, "bob")
    choose(page, digits)
    page.fill("#memory", "1G")
    page.fill("#ref", "vgg18")
    problem = page.locator("#ref-problem")
    expect(problem).to_contain_text("Did you mean vgg19?")
    expect(page.locator("#ref")).to_be_focused()
    expect(page.locator("#ref")).to_have_attribute("aria-invalid", "true")
    expect(page.locator("#plan-panel")).to_have_count(0)
    take_picture(page, "choose-problem")
    check_axe(page)
    problem.get_by_role("link", name="vgg19").click()
    expect(page.locator("#ref")).to_have_value("vgg19")
    expect(problem).to_be_hidden()
    expect(page.locator("#plan-title")).to_have_text("Branch vgg19")
    assert page.input_value("#memory") == "1G"


def test_what_is_being_typed_keeps_the_focus_and_start_moves_it(page: Page, hub: Hub, digits: Project) -> None:
    log_in(page, hub, "bob")
    choose(page, digits)
    page.fill("#memory", "64G")
    expect(page.locator("#memory-problem")).to_contain_text("64G memory were asked for; the limit is 2G.")
    expect(page.locator("#memory-limit")).to_have_text("at most 2G")
    expect(page.locator("#memory")).to_be_focused()
    page.locator("#cpu").focus()
    page.click("#start")
    expect(page.locator("#memory-problem")).to_contain_text("the limit is 2G")
    expect(page.locator("#memory")).to_be_focused()
    assert [page.input_value(field) for field in ("#repo", "#ref", "#memory")] == [digits.url, "main", "64G"]
    page.fill("#memory", "1G")
    expect(page.locator("#memory-problem")).to_be_hidden()
    expect(page.locator("#plan-panel")).to_be_visible()


def test_broken_requirements_are_told_with_their_line_before_anything_starts(page: Page, hub: Hub, project: Project) -> None:
    project.write_all({"requirements.txt": "six\nnumpy=>1\n"}).commit()
    log_in(page, hub, "bob")
    choose(page, project)
    expect(page.locator("#general [role=alert]")).to_contain_text("requirements.txt:2")
    page.fill("#repo", "ext::sh -c true")
    expect(page.locator("#repo-problem")).to_be_visible()
    expect(page.locator("#repo")).to_be_focused()


def test_a_link_fills_in_and_starts_nothing(page: Page, hub: Hub, digits: Project) -> None:
    log_in(page, hub, "carol")
    page.goto(f"{hub.url}/services/hubdock/?repo={digits.url}&ref=main&new_branch=linked&cpu=1&memory=1G&rebuild=1")
    values = {field: page.input_value(f"#{field}") for field in ("repo", "ref", "new_branch", "cpu", "memory")}
    assert values == {"repo": digits.url, "ref": "main", "new_branch": "linked", "cpu": "1", "memory": "1G"}
    expect(page.locator("#rebuild")).to_be_checked()
    expect(page.locator("#plan-title")).to_contain_text("New branch linked")
    page.wait_for_timeout(500)
    assert hub.api("GET", "users/carol").json()["servers"] == {}


def test_rebuild_says_what_it_does(page: Page, hub: Hub, project: Project, digits: Project) -> None:
    log_in(page, hub, "carol")
    choose(page, digits)
    list_parts(page)
    page.check("#rebuild")
    expect(page.locator(".plan-notice")).to_contain_text(["Every package is pinned to one version: there is nothing to renew."])
    project.write_all({"requirements.txt": make_requirements("tabulate")}).commit()
    hub.start_server("carol", "before", {"repo": project.url, "ref": "main"}).stop()
    page.goto(f"{hub.url}/services/hubdock/?repo={project.url}&ref=main")
    assert list_parts(page)["environment"] == "ready"
    page.check("#rebuild")
    expect(page.locator("#plan-panel [data-part=environment]")).to_contain_text("packages are renewed")
    build, server = start(page, hub, "carol")
    assert "environment" in read_made(hub, build)
    hub.stop_server("carol", server)


def test_who_runs_it_is_told(windows: Windows, hub: Hub, digits: Project) -> None:
    running = hub.start_server("bob", "bobs", {"repo": digits.url, "ref": "vgg19"})
    page = windows.open()
    log_in(page, hub, "alice")
    choose(page, digits, "vgg19")
    expect(page.locator("#plan-running")).to_contain_text("bob runs it", timeout=15_000)
    page.fill("#ref", "main")
    expect(page.locator("#plan-title")).to_have_text("Branch main")
    expect(page.locator("#plan-running")).to_have_count(0)
    running.stop()


# --- without JavaScript ---


def test_all_of_it_without_javascript(plain_page: Page, hub: Hub, digits: Project) -> None:
    """Branches, plan, near names, values that stay, and the start: by buttons alone."""
    page = plain_page
    log_in(page, hub, "dave")
    page.fill("#repo", digits.url)
    page.get_by_role("button", name="List branches").click()
    expect(page.locator("#refs-told")).to_contain_text("branches, 1 tag")
    assert page.input_value("#ref") == "main"
    page.fill("#ref", "vgg18")
    page.fill("#memory", "1G")
    page.get_by_role("button", name="Show plan").click()
    expect(page.locator("#ref-problem")).to_contain_text("Did you mean vgg19?")
    expect(page.locator("#ref")).to_be_focused()
    check_width(page)
    page.get_by_role("link", name="vgg19").click()
    assert [page.input_value(field) for field in ("#repo", "#ref", "#memory")] == [digits.url, "vgg19", "1G"]
    page.fill("#cpu", "99")
    page.click("#start")
    expect(page.locator("#cpu-problem")).to_contain_text("the limit is 2")
    expect(page.locator("#cpu")).to_be_focused()
    page.fill("#cpu", "1")
    page.get_by_role("button", name="Show plan").click()
    expect(page.locator("#plan-panel")).to_contain_text("Train on the digits")
    expect(page.locator("#plan-title")).to_have_text("Branch vgg19")
    assert [page.input_value(field) for field in ("#repo", "#ref", "#cpu", "#memory")] == [digits.url, "vgg19", "1", "1G"]
    page.fill("#new_branch", "by-hand")
    page.click("#start")
    page.wait_for_url(re.compile("/builds/|/spawn-pending/|/user/dave/"))
    (name,) = hub.wait_for(lambda: hub.api("GET", "users/dave").json()["servers"], 60, "it starts")
    hub.wait_ready("dave", name)
    hub.stop_server("dave", name)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_can_be_read_on_a_telephone(windows: Windows, hub: Hub, digits: Project, theme: str) -> None:
    page = windows.open((400, 800), theme)
    log_in(page, hub, "alice")
    check_width(page)
    choose(page, digits)
    list_parts(page)
    check_axe(page)
    check_width(page)
    page.locator("#start").scroll_into_view_if_needed()
    take_picture(page, f"choose-small-{theme}")


# --- the catalogue ---


def test_the_list_of_the_hub(windows: Windows, docker_engine: Any, hub_settings: dict[str, Any], digits: Project, locked: Remote, tmp_path: Path) -> None:
    """Those who can read a repository see it; nobody waits for one that hangs; and what is not on the list is refused at every face."""
    hidden = Project(locked, tmp_path, "secretive", push_as="team:only-for-tests")
    hidden.write_all({"README.md": "secret"}).commit()
    other = Project(digits.server, tmp_path, "other")
    other.write_all({"README.md": "other"}).commit()
    silent = socket.create_server((find_gateway(), 0))
    hanging = f"http://{find_gateway()}:{silent.getsockname()[1]}"
    listed = [f"{hanging}/team/hangs", {"url": digits.url, "title": "Digits <b>", "description": "Handwriting"}, hidden.url]
    hosts = [*hub_settings["HubDock"]["allowed_hosts"], hanging]
    settings = {**hub_settings, "HubDock": {**hub_settings["HubDock"], "allowed_hosts": hosts, "catalogue": listed, "free_choice": False}}
    with run_hub(tmp_path / "hub", settings) as hub, silent:
        page = windows.open()
        log_in(page, hub, "alice")
        began = time.monotonic()
        page.goto(f"{hub.url}/services/hubdock/")
        assert time.monotonic() - began < 5
        assert "hangs" not in page.content()
        expect(page.locator("#offered")).to_contain_text("Digits <b>")
        expect(page.locator("#offered")).to_contain_text("Handwriting")
        assert "secretive" not in page.content(), "what one may not read is not hinted at"
        take_picture(page, "choose-catalogue")
        check_axe(page)
        page.select_option("#repo", digits.url)
        expect(page.locator("#plan-title")).to_have_text("Branch main")
        page.goto(f"{hub.url}/services/hubdock/?repo={other.url}&ref=main")
        expect(page.locator("#repo-problem")).to_contain_text("chosen from its list")
        assert page.input_value("#repo") == other.url
        asked = {"repo": other.url, "ref": "main"}
        refused = [hub.service("POST", "plan", asked), hub.service("POST", "builds", asked), hub.service("GET", f"branches?repo={other.url}")]
        assert {answer.json()["error"]["code"] for answer in refused} == {"repo_not_allowed"}
        answer = hub.api("POST", "users/alice/servers/other", asked)
        assert answer.status_code == 403 and "chosen from its list" in answer.text
