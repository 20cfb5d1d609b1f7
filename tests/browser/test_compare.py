"""Branches compared in a real browser: numbers, pictures, words; and a notebook that tries everything it can from within its sandbox."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from config.demo.server import Server
from tests.browser.conftest import SMALL, Windows, check_axe, check_width, log_in, take_picture
from tests.kit.hub import Hub
from tests.kit.repos import Project

HOSTILE = "<img src=x onerror=top.hit=1>\u202e\x1b[31m"
PIPELINE = """stages:
  train:
    cmd: python train.py
    params: [lr]
    metrics:
    - metrics.json: {cache: false}
    plots:
    - loss.csv: {x: epoch, y: loss, title: Training loss, cache: false}
"""
SOURCE = "import pandas as pd\nfrom model import build\n\nmodel = build()\nmodel.fit(pd.read_csv('train.csv'), epochs=20)\n"
TABLE = {"text/html": "<table><tr><th>class</th><td>cat</td></tr></table>", "text/plain": "class cat"}
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def show(data: dict[str, Any]) -> dict[str, Any]:
    return {"output_type": "display_data", "metadata": {}, "data": data}


def make_notebook(*cells: tuple[str, str, list[dict[str, Any]]]) -> str:
    made = [{"cell_type": kind, "source": source, "metadata": {}, **({"outputs": outputs, "execution_count": 1} if kind == "code" else {})} for kind, source, outputs in cells]
    return json.dumps({"nbformat": 4, "nbformat_minor": 4, "metadata": {}, "cells": made})


def make_loss(rate: float) -> str:
    return "epoch,loss\n" + "".join(f"{epoch},{rate**epoch:.4f}\n" for epoch in range(12))


@pytest.fixture
def hypotheses(project: Project) -> Project:
    """Three branches with metrics, parameters, a notebook, packages and data of their own."""
    for number, accuracy in enumerate((0.85, 0.9)):
        project.write_all({"dvc.yaml": PIPELINE, "metrics.json": json.dumps({"accuracy": accuracy}), "params.yaml": "lr: 0.1\nseed: 7\n", "loss.csv": make_loss(0.8), "requirements.txt": "numpy==1.26.4\n"})
        project.write_all({"eda.ipynb": make_notebook(("markdown", "# Digits", []), ("code", SOURCE, [show(TABLE)]))}).track("train.csv", "1,2\n").commit(f"Step {number}")
    for branch, accuracy, rate, package in (("vgg19", 0.953, 0.6, "torch==2.6.0"), ("xgboost", 0.87, 0.9, "xgboost==3.2.0")):
        project.git("checkout", "--quiet", "-b", branch, "main")
        project.write_all({"metrics.json": json.dumps({"accuracy": accuracy, "f1": 0.5}), "params.yaml": f"lr: {rate}\nseed: 7\n", "loss.csv": make_loss(rate), "requirements.txt": f"numpy==2.1.0\n{package}\n"})
        cells = [("markdown", "# Digits", []), ("code", f"{SOURCE}print('{branch}')\n", [show(TABLE), show({"image/png": PIXEL})]), ("markdown", "A thought", [])]
        project.write_all({"eda.ipynb": make_notebook(*cells)}).track("train.csv", f"{branch}\n" * 500).commit(f"Try {branch}")
    return project


def open_comparison(page: Page, hub: Hub, project: Project) -> None:
    """From the form, as people do."""
    page.goto(f"{hub.url}/services/hubdock/compare")
    page.fill("#repo", project.url)
    page.get_by_role("button", name="List branches").click()
    for branch in ("main", "vgg19", "xgboost"):
        page.get_by_label(branch, exact=True).check()
    page.get_by_role("button", name="Compare").click()
    expect(page.get_by_role("heading", name="Metrics", exact=True)).to_be_visible()


@pytest.mark.parametrize("javascript", [True, False], ids=["with-javascript", "without"])
def test_three_branches_side_by_side(windows: Windows, hub: Hub, hypotheses: Project, javascript: bool) -> None:
    page = windows.open(javascript=javascript)
    log_in(page, hub, "alice")
    open_comparison(page, hub, hypotheses)
    metrics = page.get_by_role("region", name="Metrics", exact=True).get_by_role("row")
    expect(metrics.filter(has_text="accuracy")).to_have_text(re.compile(r"accuracy\s*metrics\.json\s*0\.9\s*0\.953\s*\(\+0\.053\)\s*0\.87\s*\(-0\.03\)"))
    expect(metrics.filter(has_text="f1").get_by_text("none")).to_have_count(1)
    params = page.get_by_role("region", name="Parameters that differ").get_by_role("row")
    expect(params.filter(has_text="lr").locator("mark")).to_have_text(["0.6", "0.9"])
    expect(page.get_by_text("1 that is alike")).to_be_visible()
    plot = page.get_by_role("img", name="Training loss")
    expect(plot.locator("polyline")).to_have_count(3)
    expect(page.get_by_role("img", name="accuracy (metrics.json)").locator("polyline")).to_have_count(3)
    words = page.locator("section", has=page.get_by_role("heading", name="Packages, data and notebooks"))
    expect(words).to_contain_text("requirements.txt: + torch 2.6.0")
    expect(words).to_contain_text("requirements.txt: numpy 1.26.4 → 2.1.0")
    expect(words).to_contain_text("train.csv changed (4 bytes → 2.9K)")
    page.get_by_text("Choose other branches").click()
    page.locator("#base").select_option("vgg19")
    page.get_by_role("button", name="Compare").click()
    expect(metrics.filter(has_text="accuracy")).to_contain_text("(-0.053)")


def test_pages_are_for_everybody(windows: Windows, hub: Hub, hypotheses: Project) -> None:
    """axe-core finds nothing serious, light and dark; nothing is wider than a telephone."""
    for size, theme in ((None, "light"), (None, "dark"), (SMALL, "light")):
        page = windows.open(size or (1200, 800), theme)
        log_in(page, hub, "alice")
        open_comparison(page, hub, hypotheses)
        check_axe(page)
        check_width(page)
        if not size and theme == "light":
            take_picture(page, "compare")
        page.get_by_role("link", name="eda.ipynb").first.click()
        expect(page.locator("#told")).to_have_text("2 of 3 cells differ.")
        expect(page.locator("ins")).to_have_text(["+ print('vgg19')", "+ A thought"])
        frame = page.frame_locator("iframe[title='Outputs of cell 2 on vgg19']")
        expect(frame.locator("th")).to_have_text("class")
        expect(frame.locator("img")).to_be_visible()
        check_axe(page)
        check_width(page)
        if not size and theme == "light":
            take_picture(page, "notebook")
        page.get_by_role("link", name="Back to the comparison").click()
        expect(page.locator("#repo")).to_have_value(re.compile(re.escape(hypotheses.url.removesuffix(".git"))))


def test_mistakes_stand_beside_their_fields(page: Page, hub: Hub, hypotheses: Project) -> None:
    log_in(page, hub, "bob")
    page.goto(f"{hub.url}/services/hubdock/compare?repo={hypotheses.url}&refs=main")
    expect(page.locator("#refs-problem")).to_have_text("Choose two branches or more.")
    expect(page.get_by_label("main", exact=True)).to_be_checked()
    expect(page.get_by_label("main", exact=True)).to_be_focused()
    page.fill("#repo", hypotheses.url.replace(".git", "-none.git"))
    page.get_by_role("button", name="List branches").click()
    expect(page.locator("#repo-problem")).to_contain_text("or you may not read it")
    expect(page.locator("#repo")).to_be_focused()


def test_who_may_not_read_a_repository_learns_nothing(windows: Windows, hub: Hub, locked: Server, tmp_path: Path) -> None:
    """A repository that only others may read, and one that is not there, answer alike; by the page, the notebook and the API."""
    there = Project(locked, tmp_path, "secret", push_as="team:only-for-tests")
    there.write_all({"metrics.json": '{"hidden": 1}', "a.ipynb": make_notebook(("code", SOURCE, []))}).commit()
    there.push("x")
    reader = windows.open()
    log_in(reader, hub, "carol")
    reader.goto(f"{hub.url}/services/hubdock/compare?repo={there.url}&refs=main&refs=x")
    expect(reader.get_by_role("rowheader", name="hidden")).to_be_visible()
    answers = []
    page = windows.open()
    log_in(page, hub, "dave")
    for url in (there.url, there.url.replace("secret", "nothing")):
        page.goto(f"{hub.url}/services/hubdock/compare?repo={url}&refs=main&refs=x")
        texts = [page.locator("#repo-problem").inner_text(), page.locator("main").inner_text()]
        texts.append(page.goto(f"{hub.url}/services/hubdock/compare/notebook?repo={url}&before=main&after=x&path=a.ipynb").text())  # type: ignore[union-attr]
        texts.append(hub.service("GET", "compare", params={"repo": url, "refs": ["main", "x"]}, token=hub.make_token("dave")).text)
        answers.append([re.sub(r"_?xsrf[^>]*", "", text).replace("nothing", "secret") for text in texts])
    assert answers[0] == answers[1]


# Everything that a notebook could try: to run, to ask for something, to lead the window elsewhere, to read what is the user's.
REACH = "top.hit=1;fetch('//{host}/api/hit');new Image().src='//{host}/hit';document.cookie;parent.document.title='hit'"
ATTACKS = (
    "<script>{reach}</script>", "<img src=x onerror=\"{reach}\">", "<svg onload=\"{reach}\"><script>{reach}</script><image href='//{host}/hit'/></svg>", "<body onload=\"{reach}\">",
    "<iframe src=\"javascript:{reach}\"></iframe>", "<iframe srcdoc=\"<script>{reach}</script>\"></iframe>", "<meta http-equiv=refresh content='0;url=//{host}/hit'>",
    "<form action='//{host}/hit' id=f><input autofocus onfocus=\"{reach}\"><button>go</button></form>", "<link rel=stylesheet href='//{host}/hit'>", "<style>@import '//{host}/hit'; body{{background:url(//{host}/hit)}}</style>",
    "<a href=\"javascript:{reach}\" id=link>link</a>", "<a href='//{host}/hit' target=_top id=top>top</a>", "<video src='//{host}/hit' autoplay onerror=\"{reach}\"></video>", "<object data='//{host}/hit'></object>", "<details open ontoggle=\"{reach}\">x</details>",
)  # fmt: skip


def test_a_hostile_notebook_can_do_nothing(windows: Windows, hub: Hub, project: Project, server: Server) -> None:
    """Neither script, picture, SVG, Markdown nor JavaScript of it runs, asks for anything, or reaches the page; its words are shown as text."""
    hosts = (f"127.0.0.1:{hub.port}/hit-by-a-notebook", f"{server.url.partition('://')[2]}/hit-by-a-notebook")  # ours, which has the session, and a stranger's
    reach, host = REACH.format(host=hosts[0]), hosts[1]
    outputs = [show({"text/html": attack.format(host=one, reach=reach)}) for attack in ATTACKS for one in hosts]
    outputs += [show({"image/svg+xml": f'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9" onload="{reach}"><script>{reach}</script></svg>'})]
    outputs += [show({"application/javascript": reach}), show({"text/markdown": f"[x](javascript:{reach}) <img src=//{host}/hit onerror=hit>"}), show({"text/plain": HOSTILE}), show({"image/png": f'"><img src=//{host}/hit>'})]
    outputs += [{"output_type": "stream", "name": "stdout", "text": HOSTILE}, {"output_type": "error", "ename": HOSTILE, "evalue": HOSTILE, "traceback": [HOSTILE]}]
    metrics = {HOSTILE: 1, "long": "x" * 10_000, "text": HOSTILE}
    project.write_all({"metrics.json": json.dumps(metrics), "params.yaml": json.dumps(metrics), "a.ipynb": make_notebook(("code", SOURCE, []))}).commit(HOSTILE.replace("\x1b", ""))
    project.git("checkout", "--quiet", "-b", "<b>x")
    project.write_all({"metrics.json": json.dumps({**metrics, HOSTILE: 2}), "requirements.txt": "numpy==1\n"})
    project.write_all({"a.ipynb": make_notebook(("code", f"{SOURCE}# {HOSTILE}", outputs), ("markdown", f"{HOSTILE}<script>{reach}</script>", []))}).commit(HOSTILE.replace("\x1b", ""))
    page = windows.open()
    answered: list[str] = []
    page.context.on("response", lambda response: answered.append(response.url))
    log_in(page, hub, "dave")
    page.goto(f"{hub.url}/services/hubdock/compare?repo={project.url}&refs=main&refs=%3Cb%3Ex")
    expect(page.get_by_role("heading", name="Metrics", exact=True)).to_be_visible()
    expect(page.locator("th", has_text="<img src=x onerror=top.hit=1>").first).to_be_visible()
    check_width(page)
    check_axe(page)
    assert not windows.faults, windows.faults
    page.get_by_role("link", name="a.ipynb").click()
    expect(page.locator("ins").filter(has_text="<script>")).to_be_visible()
    iframe = page.locator("iframe")
    expect(iframe).to_have_count(1)
    assert iframe.get_attribute("sandbox") == ""
    frame = page.frame_locator("iframe")
    expect(frame.get_by_text("JavaScript, which is not run:")).to_be_attached()
    page.wait_for_timeout(1000)
    for name in ("#link", "#top"):
        frame.locator(name).first.click(force=True)
    page.wait_for_timeout(500)
    assert page.url.partition("?")[0].endswith("/compare/notebook") and "hit" not in page.title()
    inner = page.frames[1]
    for target in (page, inner):
        assert target.evaluate("typeof window.hit") == "undefined"
    assert inner.evaluate("window.origin") == "null"
    assert "SecurityError" in inner.evaluate("(() => { try { return document.cookie } catch (error) { return String(error) } })()")
    # The debugger says so of the frame, which could not: opened by itself, the document is as powerless.
    address = str(iframe.get_attribute("src"))
    alone = page.context.new_page()
    alone.goto(f"{hub.url}{address}")
    expect(alone.get_by_text("JavaScript, which is not run:")).to_be_attached()
    assert alone.evaluate("[window.origin, typeof window.hit]") == ["null", "undefined"]
    assert any("/compare/outputs" in url for url in answered)
    assert not [url for url in answered if "hit-by-a-notebook" in url], answered
    assert not [path for _, path in server.requests if "hit-by-a-notebook" in path]
    windows.faults.clear()  # what the policy forbade the notebook, as it should
    windows.foreign.clear()


def test_outputs_are_for_who_saw_their_page(windows: Windows, hub: Hub, hypotheses: Project) -> None:
    """The address of an output, in somebody else's hands, is worth nothing."""
    page = windows.open()
    log_in(page, hub, "alice")
    page.goto(f"{hub.url}/services/hubdock/compare/notebook?repo={hypotheses.url}&before=main&after=vgg19&path=eda.ipynb")
    address = f"{hub.url}{page.locator('iframe').first.get_attribute('src')}"
    other = windows.open()
    log_in(other, hub, "bob")
    answer = other.goto(address)
    assert answer is not None and answer.status == 404 and "class" not in answer.text()
