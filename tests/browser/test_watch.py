"""The page that watches one start: what it tells while it goes on, what it leads to, and what it costs."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Browser, Error, Page, expect

from config.demo.server import Server
from tests.browser.conftest import log_in, take_picture
from tests.faults.conftest import make_slow
from tests.kit.gate import Gate
from tests.kit.history import SolveCounter
from tests.kit.hub import Hub, run_hub
from tests.kit.repos import Project, make_requirements

BUILD = re.compile(r"/services/hubdock/builds/[0-9a-f]{32}$")
CHOICE = ("#repo", "#ref", "#memory", "#cpu")


def start(page: Page, project: Project, ref: str = "main", **fields: str) -> str:
    """Press Start, and return the build's id."""
    page.goto(page.url.split("/services/")[0].split("/hub/")[0] + "/services/hubdock/")
    page.fill("#repo", project.url)
    page.fill("#ref", ref)
    for name, value in fields.items():
        page.fill(f"#{name}", value)
    page.click("#start")
    page.wait_for_url(BUILD)
    return page.url.rpartition("/")[2]


def read_stages(page: Page) -> dict[str, str]:
    """Return what is told of each stage."""
    found = page.locator("#stages > li").evaluate_all("items => items.map(i => [i.querySelector('.stage-title').textContent, i.dataset.state + ' ' + i.querySelector('.stage-time').textContent])")
    return dict(found)


def find_server(hub: Hub, user: str, project: Project) -> str:
    servers = hub.api("GET", f"users/{user}?include_stopped_servers").json()["servers"]
    return next((name for name, server in servers.items() if (server["user_options"] or {}).get("repo") == project.url), "")


@pytest.fixture
def digits(project: Project) -> Project:
    project.write_all({"README.md": "# digits\n", **make_slow(6)}).commit("first")
    return project


def test_it_tells_stages_percent_and_time_left(page: Page, hub: Hub, digits: Project) -> None:
    """Steps with their own times, a percentage that never goes back and is 100 at the end alone, what is left in words; then JupyterLab."""
    log_in(page, hub, "alice")
    start(page, digits)
    expect(page.locator("#words")).to_contain_text("Making the environment", timeout=30_000)
    expect(page.locator("#stages")).to_contain_text("build packages from source", timeout=30_000)
    percents: list[int] = []
    pictured = False
    until = time.monotonic() + 120
    while BUILD.search(page.url) and time.monotonic() < until:
        try:
            told = page.evaluate("() => ['percent-told', 'left'].map(id => document.getElementById(id).textContent)")
        except Error:
            break  # it leads into the server
        percents.append(int(told[0].split()[0]))
        stages = {} if pictured else read_stages(page)
        if re.fullmatch(r"running \d+ s so far", stages.get("Environment", "")):
            assert stages["Server"] == "waiting waiting", stages
            assert re.search("left|usual|not known yet", told[1]), told
            take_picture(page, "watch")
            pictured = True
        page.wait_for_timeout(100)
    page.wait_for_url("**/user/alice/**/lab**", timeout=60_000)
    assert pictured and percents == sorted(percents) and max(percents) < 100 and len(set(percents)) > 5, percents
    assert page.evaluate("history.length") < 10
    name = find_server(hub, "alice", digits)
    page.goto(f"{hub.url}/hub/home")
    page.locator("#hubdock").get_by_role("link", name="how it was started").first.click()
    page.wait_for_url(BUILD)
    expect(page.locator("#words")).to_have_text("Ready")
    stages = read_stages(page)
    assert all(re.fullmatch(r"done done in \d+ s", stages[title]) for title in ("Environment", "Code", "Server")), stages
    expect(page.get_by_role("link", name="Open JupyterLab")).to_be_visible()
    hub.stop_server("alice", name)


def test_reload_second_tab_and_a_closed_one_are_one_build(page: Page, hub: Hub, digits: Project) -> None:
    """Whatever a person does with the tabs: one build, the same account everywhere, and Back leads to the right page."""
    log_in(page, hub, "bob")
    counter = SolveCounter()
    build = start(page, digits)
    expect(page.locator("#log")).to_contain_text("[environment]", timeout=30_000)
    second = page.context.new_page()
    second.goto(page.url)
    page.reload()
    for tab in (page, second):
        expect(tab.locator("#words")).to_contain_text("Making the environment")
        expect(tab.locator("#log")).to_contain_text("[environment]")
    assert start(second, digits) == build, "the same click again joins the first"
    second.close()
    page.go_back()
    expect(page.locator("#repo")).to_be_visible()
    page.go_forward()
    expect(page.locator("#words")).to_be_visible()
    page.close()  # it goes on
    name = hub.wait_for(lambda: find_server(hub, "bob", digits), 90, "the server starts")
    hub.wait_ready("bob", name)
    assert counter.new("environment", digits.remote_name) == 1
    hub.stop_server("bob", name)


def test_cancel_stops_this_server_and_no_other(page: Page, hub: Hub, project: Project) -> None:
    """The default server runs on; the choice keeps every value; a start that the hub has already is stopped there."""
    project.write_all({"README.md": "x"}).commit()
    default = hub.start_server("carol", "", {"repo": project.url, "ref": "main"})
    identity = default.container.id
    log_in(page, hub, "carol")
    project.write_all(make_slow(60)).commit(push=False)
    project.push("slow")
    build = start(page, project, "slow", memory="1G", cpu="1")
    expect(page.locator("#log")).to_contain_text("[environment]", timeout=30_000)
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#repo")).to_have_value(project.url)
    assert [page.input_value(field) for field in CHOICE[1:]] == ["slow", "1G", "1"]
    hub.wait_for(lambda: hub.service("GET", f"builds/{build}").json()["phase"] == "cancelled", 20, "it is cancelled")
    page.go_back()
    expect(page.locator("#words")).to_have_text("Cancelled")
    assert default.container.id == identity and default.ask("contents").status_code == 200
    # a start of the hub's own, which this page follows and cancels
    answer = hub.api("POST", "users/carol/servers/theirs", {"repo": project.url, "ref": "slow"})
    assert answer.status_code in {201, 202}
    page.goto(f"{hub.url}/hub/spawn-pending/carol/theirs")
    page.locator("#hubdock-watch").click()
    page.wait_for_url(BUILD)
    expect(page.locator("#words")).to_contain_text("Making the environment", timeout=30_000)
    words = page.locator("#words").inner_text()
    shown = page.context.new_page()
    shown.goto(f"{hub.url}/hub/spawn-pending/carol/theirs")
    expect(shown.locator("#progress-message")).to_contain_text(words.split(":")[0], timeout=10_000)
    shown.close()
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#repo")).to_have_value(project.url)
    hub.wait_for(lambda: not hub.read_server("carol", "theirs").get("pending"), 20, "the hub gave up too")
    assert default.container.id == identity and default.ask("contents").status_code == 200
    hub.api("DELETE", "users/carol/server")


def test_without_javascript(chromium: Browser, hub: Hub, digits: Project) -> None:
    """The page loads itself again until it leads into the server."""
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    log_in(page, hub, "dave")
    start(page, digits)
    expect(page.locator("#words")).to_contain_text("Making the environment", timeout=30_000)
    expect(page.locator("#log")).to_contain_text("[environment]", timeout=30_000)
    expect(page.locator("#follow")).to_be_hidden()
    page.wait_for_url("**/user/dave/**", timeout=120_000)
    context.close()
    hub.stop_server("dave", find_server(hub, "dave", digits))


def test_a_failure_says_what_where_and_how_to_mend_it(page: Page, hub: Hub, project: Project) -> None:
    """The failing line is quoted and marked; words for what it means; the whole log by a link that lasts; the choice with its values."""
    project.write_all({"requirements.txt": make_requirements("six==1.16.0", "tabulate==99.0")}).commit()
    log_in(page, hub, "erin")
    build = start(page, project, memory="1G")
    expect(page.locator("#error")).to_contain_text("requirements.txt:3", timeout=60_000)
    expect(page.locator("#error")).to_contain_text("The requirements can't be installed together")
    expect(page.locator("#error")).to_contain_text("Change line 3 of requirements.txt")
    expect(page.locator("#error .failing")).to_contain_text("No solution found")
    assert page.evaluate("() => { const [log, line] = ['log', 'failing'].map(id => document.getElementById(id).getBoundingClientRect()); return line.top >= log.top && line.bottom <= log.bottom; }")
    assert read_stages(page)["Environment"].startswith("failed failed after")
    take_picture(page, "watch-failed")
    log = page.get_by_role("link", name="The whole log").get_attribute("href")
    with page.expect_popup() as opened:
        page.evaluate("address => { window.open(address); }", log)
    expect(opened.value.locator("body")).to_contain_text("tabulate==99.0")
    opened.value.close()
    page.get_by_role("link", name="Back to the choice").click()
    expect(page.locator("#repo")).to_have_value(project.url)
    assert [page.input_value(field) for field in CHOICE[1:3]] == ["main", "1G"]
    with httpx.Client() as stranger:
        answer = stranger.get(f"{hub.url}{log}")
        assert answer.status_code == 302 and "/hub/api/oauth2/authorize" in answer.headers["Location"], "who is not logged in is led to the login"
    bob = hub.make_token("bob")
    assert httpx.get(f"{hub.url}{log}", headers={"Authorization": f"token {bob}"}).status_code == 404
    assert build in (log or "")


@pytest.fixture
def own_hub(docker_engine: object, hub_settings: dict[str, dict[str, object]], tmp_path: object) -> Iterator[Hub]:
    """A hub that may be restarted."""
    with run_hub(tmp_path / "hub", hub_settings) as running:  # type: ignore[operator]
        yield running


def test_a_restart_is_survived_by_the_page(page: Page, own_hub: Hub, project: Project, server: Server) -> None:
    """Hub and service go away in the middle of a build: the page finds them again, and still leads into the server. Old failures keep their page."""
    project.write_all({"requirements.txt": make_requirements("tabulate==99.0")}).commit(push=False)
    project.push("bad")
    gate = Gate(server)
    gate.put_into(project)
    log_in(page, own_hub, "alice")
    failed = start(page, project, "bad", memory="1G")
    expect(page.locator("#error")).to_be_visible(timeout=60_000)
    start(page, project)
    expect(page.locator("#stages")).to_contain_text("build packages from source", timeout=60_000)
    own_hub.stop()
    expect(page.locator("#left")).to_contain_text("trying again", timeout=20_000)
    own_hub.start()
    expect(page.locator("#words")).to_contain_text("Making the environment", timeout=30_000)
    gate.open()
    page.wait_for_url("**/user/alice/**/lab**", timeout=120_000)
    page.goto(f"{own_hub.url}/services/hubdock/builds/{failed}")
    expect(page.locator("#error")).to_contain_text("requirements.txt:2")
    page.get_by_role("link", name="Back to the choice").click()
    assert [page.input_value(field) for field in CHOICE[:3]] == [project.url, "bad", "1G"]
    own_hub.stop_server("alice", find_server(own_hub, "alice", project))
