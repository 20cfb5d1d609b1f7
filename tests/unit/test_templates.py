"""The pages' sources: nothing in them could run, or load, what a strict Content-Security-Policy forbids, and nothing of strangers is taken for markup."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from hubdock.service.base import SECURITY

SERVICE = Path(__file__).parent.parent.parent / "hubdock" / "service"
TEMPLATES = sorted(SERVICE.glob("templates/**/*.html"))
STATIC = sorted(path for path in SERVICE.glob("static/**/*") if path.is_file())
MARKUP = re.compile(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|DOMParser|createContextualFragment|setHTML|\.style\.cssText")


class Finder(HTMLParser):
    """Collects what runs in the page itself, and addresses that are on other hosts."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = {name: value or "" for name, value in attrs}
        self.found += [f"<{tag} {name}>" for name in names if name.startswith("on") or name == "style"]
        self.found += [f"<{tag} {name}={value}>" for name, value in names.items() if re.match(r"\s*(javascript:|data:text|(https?:)?//)", value) and name != "placeholder"]
        if tag == "style" or (tag == "script" and "src" not in names):
            self.found.append(f"<{tag}>")
        if tag == "iframe" and ("sandbox" not in names or "allow-same-origin" in names["sandbox"]):
            self.found.append("<iframe> without a sandbox")


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_no_template_holds_what_runs(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"\|\s*safe\b|autoescape|Markup", text), "text of strangers would become markup"
    finder = Finder()
    finder.feed(re.sub(r"\{%.*?%\}|\{#.*?#\}", "", text, flags=re.S))
    assert not finder.found


@pytest.mark.parametrize("path", [path for path in STATIC if path.suffix == ".js"], ids=lambda path: path.name)
def test_no_script_makes_markup(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not MARKUP.search(text)
    assert len(text.splitlines()) <= 300


@pytest.mark.parametrize("path", STATIC, ids=lambda path: path.name)
def test_nothing_is_loaded_from_elsewhere(path: Path) -> None:
    text = re.sub(r"(?m)^\s*//.*$|/\*.*?\*/", "", path.read_text(encoding="utf-8"), flags=re.S) if path.suffix in {".js", ".css"} else ""
    assert not re.search(r"(https?:)?//[a-z0-9-]+\.[a-z]", text.replace("http://www.w3.org/", ""))


def test_the_policy_allows_only_what_is_hubdocks_own() -> None:
    policy = dict(part.strip().partition(" ")[::2] for part in SECURITY["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == policy["form-action"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert not re.search(r"unsafe|https?:|\*", SECURITY["Content-Security-Policy"])
