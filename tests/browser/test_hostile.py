"""Text of strangers that would do harm, in every place where a page shows some: it is text, nothing runs, and the page keeps its shape."""

from __future__ import annotations

import json
import re
from urllib.parse import quote, urlencode

import pytest
from playwright.sync_api import Page, expect

from config.demo.server import Server
from tests.browser.conftest import Windows, check_width, each_look, log_in
from tests.kit.hub import Hub
from tests.kit.repos import Project, make_requirements

IMAGE = "<img src=x onerror=hurt()>"
FILE = f"{IMAGE}\u202e" + "endless" * 20
ENDLESS = "endless" * 1500
TURNED = "\u202etxet denrut"
TEXT = f"{IMAGE}<script>hurt()</script> \"'> \x1b[31mred\x1b[0m \x1b]0;title\x07 {TURNED} zero\u200bwidth {{{{7*7}}}} {ENDLESS}"
BRANCH = "<img/src=x/onerror=hurt()>\"'\u202e" + "endless" * 25
BROKEN = "broken/<svg/onload=hurt()>"
CHANGED = "changed/<b/onclick=hurt()>"
# What no page may hold as text: terminal sequences, text that runs backwards, what is unseen.
UNSEEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b\u202a-\u202e\u2066-\u2069]")
SETUP = f"""import sys
from setuptools import setup
for line in ["x" * 10_000, {TEXT!r}] + ["more"] * 12 + ["\\x1b[2J\\x1b[H" + {TURNED!r}, {IMAGE!r}]:
    print(line.encode("utf-8", "replace").decode(), file=sys.stderr)
raise SystemExit({IMAGE!r})
"""


@pytest.fixture(scope="module")
def hostile(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Its branch `BRANCH` starts, with hostile names, messages, metrics and notices; `BROKEN` fails in a hostile setup.py."""
    project = Project(server, tmp_path_factory.mktemp("hostile"), "hostile")
    notebook = {"cells": [{"cell_type": "markdown", "metadata": {}, "source": f"{IMAGE} <b>{TURNED}</b>", "id": "a"}], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    project.write_all({
        "README.md": TEXT,
        f"{IMAGE}.ipynb": json.dumps(notebook),
        "notes.ipynb": json.dumps(notebook),
        "metrics.json": json.dumps({IMAGE: 0.5, TURNED: 1.5, "text": TEXT[:3000], ENDLESS: 2.5, "nested": {IMAGE: {"'\"": 1}}}),
        "params.yaml": json.dumps({IMAGE: TEXT[:3000], "lr": 0.1, TURNED: [1, 2]}),
        "dvc.yaml": json.dumps({"metrics": ["metrics.json"], "params": ["params.yaml"]}),
        ".dvc/config": "[core]\n    remote = <img src=x onerror=hurt()>\n['remote \"<img src=x onerror=hurt()>\"']\n    url = https://example.org/<img src=x onerror=hurt()>\n    endpointurl = x\n",
    })  # fmt: skip
    project.git("config", "user.name", "x")
    project.git("add", "-A")
    author = f"\"'&lt;img src=x onerror=hurt()&gt; {TURNED} \x1b[31mred {'author' * 200} <{'x' * 300}@\u202e.example.org>"
    project.git("commit", "--quiet", "--cleanup=verbatim", "--author", author, "-m", TEXT + "\n\n" + IMAGE)
    project.push("main")
    project.push(BRANCH)
    project.write_all({"requirements.txt": make_requirements("./hostile"), "hostile/setup.py": SETUP, "metrics.json": json.dumps({IMAGE: 0.75})})
    project.commit(IMAGE, branch=BROKEN)
    notebook["cells"].append({"cell_type": "code", "metadata": {}, "execution_count": 1, "source": TEXT, "id": "b", "outputs": [{"output_type": "stream", "name": "stdout", "text": TEXT}]})
    project.write_all({
        f"{IMAGE}.ipynb": json.dumps(notebook), "requirements.txt": "x @ https://example.org/<img/src=x/onerror=hurt()>.whl\n", f"{FILE}.dvc": "outs:\n- md5: " + "a" * 32 + f"\n  size: 3\n  path: '{FILE}'\n",
        "params.yaml": json.dumps({IMAGE: IMAGE, "lr": 0.2}), "metrics.json": json.dumps({IMAGE: 0.9, "text": TEXT}),
    })  # fmt: skip
    project.commit(TEXT[:200].replace("\x1b", "").replace("\x07", ""), branch=CHANGED)
    return project


@pytest.fixture(scope="module")
def running(hub: Hub, hostile: Project) -> str:
    """The name of a server on the hostile branch; its workspace is on the pages, too."""
    hub.start_server("erin", "hostile", {"repo": hostile.url, "ref": BRANCH})
    return "hostile"


def check_harmless(page: Page, *shown: str) -> None:
    """Nothing of the text became markup, nothing unseen is shown, no name widens the page in any look; ``shown`` stands there as text."""
    text = page.inner_text("body")
    assert not UNSEEN.search(text), repr(text)[:3000]
    for part in shown:
        assert part in text, text[:3000]
    assert page.locator("[onerror], [onload], img[src='x'], main svg[onload], script:not([src])").count() == 0 or "/hub/" in page.url
    assert "49" not in re.findall(r"width (\S+) endless", text), "a template in a message was filled in"
    for look in each_look(page):
        check_width(page)
        assert look


def test_addresses_and_forms(windows: Windows, hub: Hub, hostile: Project) -> None:
    """A link fills the form in with any text; what is sent comes back beside its field."""
    link = "/services/hubdock/?" + urlencode({"repo": TEXT[:2000], "ref": TEXT[:2000], "new_branch": IMAGE, "memory": IMAGE, "cpu": TURNED, "unknown": IMAGE})
    for javascript in (True, False):
        page = windows.open(javascript=javascript)
        log_in(page, hub, "erin")
        page.goto(hub.url + link)
        expect(page.locator("#repo")).not_to_have_value("")
        check_harmless(page)
        page.click("#start")
        expect(page.locator("#repo-problem")).to_be_visible()
        check_harmless(page)
        page.fill("#repo", hostile.url)
        page.fill("#ref", IMAGE.replace(" ", "/"))
        page.fill("#new_branch", "")
        page.fill("#memory", "")
        page.fill("#cpu", "")
        page.click("#start")
        expect(page.locator("#ref-problem")).to_contain_text("<img/src=x")
        check_harmless(page)


def test_branches_and_plan(windows: Windows, hub: Hub, hostile: Project) -> None:
    """Names of branches, the commit's message and author, and the notices of a plan."""
    for javascript in (True, False):
        page = windows.open(javascript=javascript)
        log_in(page, hub, "erin")
        page.goto(f"{hub.url}/services/hubdock/?{urlencode({'repo': hostile.url, 'ref': BRANCH})}")
        if not javascript:
            page.get_by_role("button", name="Show plan").click()
        expect(page.locator("#plan")).to_contain_text("<script>hurt()</script>", timeout=20_000)
        check_harmless(page, IMAGE)


def test_a_failing_build(page: Page, hub: Hub, hostile: Project) -> None:
    """Lines of the log, while they come and afterwards; the failure, its explanation, and the whole log."""
    log_in(page, hub, "erin")
    page.goto(f"{hub.url}/services/hubdock/?{urlencode({'repo': hostile.url, 'ref': BROKEN})}")
    page.click("#start")
    page.wait_for_url(re.compile("/builds/"))
    expect(page.locator("#log")).to_contain_text("[environment]", timeout=30_000)
    check_harmless(page)
    expect(page.locator("#error")).to_be_visible(timeout=90_000)
    expect(page.locator("#log")).to_contain_text(IMAGE)
    check_harmless(page, "hurt()")
    page.reload()
    expect(page.locator("#error")).to_be_visible()
    check_harmless(page, "hurt()")
    answer = page.context.request.get(f"{page.url.replace('/builds/', '/api/builds/')}/log")
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_the_hubs_pending_page(page: Page, hub: Hub, hostile: Project) -> None:
    """The same build, started by REST without hubdock's page, on the page of the hub itself."""
    log_in(page, hub, "erin")
    hub.api("POST", "users/erin/servers/pending", {"repo": hostile.url, "ref": BROKEN, "new_branch": "<img/src=x/onerror=hurt()>"})
    page.goto(f"{hub.url}/hub/spawn-pending/erin/pending")
    expect(page.locator("body")).to_contain_text("hurt()", timeout=90_000)
    assert not UNSEEN.search(page.inner_text("body"))
    assert page.locator("[onerror], [onload], img[src='x']").count() == 0


@pytest.mark.parametrize(
    ("path", "shown"),
    [("", "<img/src=x"), ("board?repo={repo}", "<img/src=x"), ("compare?repo={repo}&refs=main&refs={branch}&refs={changed}", "hurt()"), ("workspaces", "<img/src=x"), ("builds/" + "0" * 32, "no such build")],
    ids=["start", "board", "compare", "workspaces", "error"],
)  # fmt: skip
def test_other_pages(windows: Windows, hub: Hub, hostile: Project, running: str, path: str, shown: str) -> None:
    """Names, messages and metrics of a repository, wherever else they are listed."""
    address = f"{hub.url}/services/hubdock/" + path.format(repo=quote(hostile.url, safe=""), branch=quote(BRANCH, safe=""), changed=quote(CHANGED, safe=""))
    for javascript in (True, False):
        page = windows.open(javascript=javascript)
        log_in(page, hub, "erin")
        page.goto(address)
        expect(page.locator("main")).to_contain_text(shown, timeout=20_000)
        check_harmless(page)


def test_a_notebook_cell_by_cell(windows: Windows, hub: Hub, hostile: Project) -> None:
    """A notebook's name and sources on the page, and its outputs in their sandbox (what those may hold is tried in test_compare.py)."""
    for javascript in (True, False):
        page = windows.open(javascript=javascript)
        log_in(page, hub, "erin")
        page.goto(f"{hub.url}/services/hubdock/compare?{urlencode({'repo': hostile.url, 'refs': ['main', CHANGED]}, doseq=True)}")
        page.get_by_role("link", name=f"{IMAGE}.ipynb").click()
        expect(page.locator("main")).to_contain_text("hurt()", timeout=20_000)
        expect(page.locator("iframe").first).to_be_attached()
        check_harmless(page, IMAGE)


def test_the_administrators_page(page: Page, hub: Hub, hostile: Project, running: str) -> None:
    """Builds of everybody, as whoever administrates sees them."""
    page.set_extra_http_headers({"Authorization": f"token {hub.token}"})
    page.goto(f"{hub.url}/services/hubdock/admin")
    expect(page.locator("main")).to_contain_text("<img/src=x")
    check_harmless(page)
