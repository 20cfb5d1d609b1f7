"""The pages that compare, from the real service over a real git server: without a browser, as the hub's own token sees them."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from html import unescape
from pathlib import Path

import httpx
import pytest
from tornado.httpserver import HTTPServer
from tornado.testing import bind_unused_port

from config.demo.server import Server, make_repository
from hubdock.engine.config import HubDock
from hubdock.engine.engine import Engine
from hubdock.service.app import make_app
from tests.unit.conftest import Repository
from tests.unit.test_notebooks import HI, HO, make_notebook

TOKEN = "only-for-tests"
HOSTILE = "<img src=x onerror=alert(1)>"
SOURCE = "import os\nfrom model import train, load\n\nmodel = load('resnet')\ntrain(model, epochs=20)\n"


@pytest.fixture
def url(server: Server, tmp_path: Path) -> str:
    work = Repository(tmp_path / "work")
    work.commit({"metrics.json": '{"acc": 0.8}', "params.yaml": "lr: 1\nseed: 1\n", "a.ipynb": make_notebook(("code", SOURCE, HI))})
    for branch, acc in (("deep", 0.9), ("odd", f'"{HOSTILE}"')):
        work.git("checkout", "--quiet", "-b", branch, "main")
        work.commit({"metrics.json": f'{{"acc": {acc}}}', "params.yaml": f"lr: 2\nseed: 1\n'{HOSTILE}': 1\n", "a.ipynb": make_notebook(("code", f"{SOURCE}# {HOSTILE}\n", HO))}, HOSTILE)
    work.git("push", "--quiet", str(make_repository(server.root, "x")), "--all")
    return f"{server.url}/git/x.git"


@pytest.fixture
async def client(url: str, server: Server, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    engine = Engine(HubDock(state_dir=str(tmp_path / "state"), base_image="base:1", allowed_hosts=[server.url]))
    app = make_app(engine, {"JUPYTERHUB_API_URL": "http://127.0.0.1:9/hub/api", "JUPYTERHUB_API_TOKEN": TOKEN})
    socket, port = bind_unused_port()
    running = HTTPServer(app)
    running.add_socket(socket)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}/services/hubdock/", headers={"Authorization": f"token {TOKEN}"}, timeout=60) as made:
        yield made
    running.stop()
    await engine.close()


async def test_the_form_leads_from_a_repository_to_a_comparison(client: httpx.AsyncClient, url: str) -> None:
    empty = await client.get("compare")
    assert empty.status_code == 200 and 'name="refs"' not in empty.text
    listed = await client.get("compare", params={"repo": url})
    assert re.findall(r'name="refs" value="(\w+)"', listed.text) == ["deep", "main", "odd"]
    one = await client.get("compare", params={"repo": url, "refs": "deep"})
    assert one.status_code == 400 and "Choose two branches or more." in one.text and 'value="deep" id="ref-1" checked' in one.text
    found = await client.get("compare", params={"repo": url, "refs": ["deep", "main", "odd"]})
    assert found.status_code == 200 and "(+0.1)" in found.text and "<mark>2</mark>" in found.text
    assert HOSTILE not in found.text and "&lt;img src=x onerror=alert(1)&gt;" in found.text
    assert "<svg viewBox" in found.text and " style=" not in found.text and not re.search(r"<script(?! src=)", found.text)


async def test_a_wrong_repository_is_told_beside_its_field(client: httpx.AsyncClient, url: str) -> None:
    for address in (url.replace("/x.git", "/none.git"), "ext::sh -c true", f"{url}?{HOSTILE}"):
        answer = await client.get("compare", params={"repo": address, "refs": ["a", "b"]})
        assert answer.status_code in {400, 404} and 'id="repo-problem"' in answer.text and HOSTILE not in answer.text
    missing = await client.get("compare", params={"repo": url, "refs": ["main", HOSTILE]})
    assert missing.status_code == 404 and 'id="refs-problem"' in missing.text and HOSTILE not in missing.text


async def test_a_notebook_s_outputs_come_under_a_policy_of_their_own(client: httpx.AsyncClient, url: str) -> None:
    asked = {"repo": url, "before": "main", "after": "odd", "path": "a.ipynb"}
    page = await client.get("compare/notebook", params=asked)
    assert page.status_code == 200 and HOSTILE not in page.text and "1 of 1 cell differs." in page.text
    assert page.headers["Content-Security-Policy"].endswith("; frame-src 'self'")
    frames = re.findall(r'<iframe class="outputs" sandbox src="([^"]+)"', page.text)
    assert len(frames) == 2
    outputs = await client.get(unescape(frames[1]).removeprefix("/services/hubdock/"))
    assert "<pre" in outputs.text and "ho" in outputs.text
    policy = outputs.headers["Content-Security-Policy"]
    assert policy.startswith("sandbox; default-src 'none'") and "frame-ancestors 'self'" in policy and "allow-" not in policy
    assert outputs.headers["X-Content-Type-Options"] == "nosniff"
    forged = await client.get("compare/outputs", params={"of": unescape(frames[1]).partition("of=")[2][:-2] + "00"})
    assert forged.status_code == 404 and forged.headers["Content-Security-Policy"] == policy
    for wrong in ({**asked, "path": "none.ipynb"}, {**asked, "path": "metrics.json"}, {**asked, "after": "nope"}):
        assert (await client.get("compare/notebook", params=wrong)).status_code in {404, 422}


async def test_the_api_says_the_same(client: httpx.AsyncClient, url: str) -> None:
    from tests.unit.test_docs import check

    found = (await client.get("api/compare", params={"repo": url, "refs": ["main", "deep"], "base": "deep"})).json()
    check("Comparison", found)
    assert found["base"] == "deep" and found["metrics"][0]["values"][0]["delta"] == -0.1
    cells = (await client.get("api/compare/notebook", params={"repo": url, "before": "main", "after": "deep", "path": "a.ipynb"})).json()
    check("NotebookComparison", cells)
    assert (await client.get("api/compare", params={"repo": url, "refs": "main"})).json()["error"]["field"] == "refs"
