"""The page where people choose: live branches, the plan before the start, mistakes beside their fields; with JavaScript and without."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import log_in, take_picture
from tests.kit.hub import Hub
from tests.kit.repos import Project, make_requirements


@pytest.fixture
def digits(project: Project) -> Project:
    project.write_all({"requirements.txt": make_requirements("tabulate==0.9.0"), "train.py": "print(1)\n"}).track("images.csv", "1,2,3\n" * 1000).commit("Train on the digits")
    project.push("vgg19")
    project.git("tag", "v1")
    project.git("push", "--quiet", "origin", "v1")
    return project


def test_the_plan_stands_beside_the_choice(page: Page, hub: Hub, digits: Project) -> None:
    log_in(page, hub, "alice")
    take_picture(page, "choose-empty")
    page.fill("#repo", digits.url)
    expect(page.locator("#ref")).to_have_value("main")
    panel = page.locator("#plan-panel")
    expect(panel).to_contain_text("Train on the digits")
    take_picture(page, "choose-plan")
