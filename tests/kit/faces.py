"""The ways in (the service's API, its page, the hub's own form, REST), and the one question that bad input puts to each: is it refused as it should be?"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urlencode

import httpx

from tests.kit.hub import Browser, Hub, Server

USER = "alice"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
CREDENTIAL = re.compile(r"(?<=://)[^/@]*:[^/@]*@")
UNSEEN = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True)
class Refusal:
    """How an input is refused: ``words`` are parts of the message, the mend among them; ``place`` is ``file``, ``file:line`` or empty."""

    status: int
    code: str
    words: tuple[str, ...]
    field: str = ""
    place: str = ""


class Page(HTMLParser):
    """What a person sees of a page: the values of its fields, the texts of its problems, where its links lead."""

    def __init__(self, answer: httpx.Response) -> None:
        super().__init__()
        self.answer, self.status = answer, answer.status_code
        self.values: dict[str, str] = {}
        self.problems: dict[str, str] = {}
        self.links: list[str] = []
        self.shown: list[str] = []
        self._open: list[tuple[str, str]] = []
        self.feed(answer.text)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.shown).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "input" and "name" in given:
            self.values[given["name"]] = given.get("value", "")
        if tag == "a":
            self.links.append(given.get("href", ""))
        if tag in {"div", "p", "script", "style"}:
            problem = given.get("id", "").removesuffix("-problem") if given.get("role") == "alert" else ""
            self._open.append((tag, problem if tag == "div" else ""))

    def handle_endtag(self, tag: str) -> None:
        if self._open and self._open[-1][0] == tag:
            self._open.pop()

    def handle_data(self, data: str) -> None:
        if not self._open or self._open[-1][0] not in {"script", "style"}:
            self.shown.append(data)
        for problem in {name for _, name in self._open if name}:
            self.problems[problem] = self.problems.get(problem, "") + data


class Faces:
    """One user at all the faces of a hub, with a server that runs meanwhile and must go on."""

    def __init__(self, hub: Hub, url: str) -> None:
        self.hub = hub
        self.running: Server = hub.start_server(USER, "goes-on", {"repo": url, "ref": "main"})
        self.container = self.running.container.id
        self.client = httpx.Client(base_url=hub.url, follow_redirects=True, timeout=90)
        self.browser = Browser(self.client, USER)

    def close(self) -> None:
        self.client.close()
        self.running.stop()

    # --- each face ---

    def ask(self, options: Any) -> dict[str, Any]:
        """Return the error that the API answers to a plan."""
        found: dict[str, Any] = self.hub.service("POST", "plan", options).json()["error"]
        return found

    def send(self, path: str, fields: Any) -> Page:
        """Send a form as a browser does; ``fields`` may repeat themselves (a list of pairs)."""
        target = path if path.startswith("/services") else f"/hub/spawn/{USER}/bad-form"
        proof = self.browser.find_xsrf(self.client.get(path))
        pairs = [*(fields.items() if isinstance(fields, Mapping) else fields), ("_xsrf", proof)]
        return Page(self.client.post(target, content=urlencode(pairs), headers=FORM))

    def rest(self, options: Any) -> httpx.Response:
        return self.hub.api("POST", f"users/{USER}/servers/bad-rest", options)

    # --- the question ---

    def refuse(self, options: dict[str, Any], expected: Refusal) -> None:
        """Put options to every face. They are known to be bad before anything is built."""
        error = self.ask(options)
        self.check_error(error, expected)
        message, place = error["message"], expected.place
        answer = self.rest(options)
        assert (answer.status_code, answer.reason_phrase) == (expected.status, expected.code), answer.text
        assert answer.json()["message"] == (f"{place}: {message}" if place else message)
        if all(isinstance(value, str) for value in options.values()):
            self.refuse_forms(options, expected, message)
        self.check_nothing_lost()

    def refuse_forms(self, fields: Any, expected: Refusal, message: str) -> None:
        """Send both forms: each says it where it belongs, and keeps what was typed."""
        page, form = self.send("/services/hubdock/", fields), self.wait_form(fields)
        plain = " ".join(message.split())
        for shown in (page, form):
            assert shown.status == expected.status, f"{shown.status} {shown.text[:1500]}"
            assert plain in shown.text and "SpawnException" not in shown.text, shown.text[:1500]
            self.check_values(shown if "repo" in shown.values else Page(self.client.get("/hub/spawn")), dict(fields))
        if expected.field in page.values:
            assert plain in " ".join(page.problems.get(expected.field, "").split()), f"not beside {expected.field}: {page.problems}"
        if expected.place:
            assert f"{expected.place} : {plain}" in page.text.replace(f"{expected.place}:", f"{expected.place} :") and expected.place in form.text

    def check_error(self, error: dict[str, Any], expected: Refusal) -> None:
        place = ":".join(str(error[name]) for name in ("file", "line") if name in error)
        assert (error["status"], error["code"], error.get("field", ""), place) == (expected.status, expected.code, expected.field, expected.place), error
        for words in expected.words:
            assert words in error["message"], error["message"]

    def check_values(self, page: Page, fields: dict[str, str]) -> None:
        """What was typed stands in the fields again, but for what no field can hold, and for credentials."""
        for name, typed in fields.items():
            if name not in page.values:
                continue
            kept, wanted = (UNSEEN.sub("", text).replace(" ", "")[:2000] for text in (page.values[name], CREDENTIAL.sub("", typed)))
            assert kept == wanted, f"{name} was {typed[:200]!r}, and is {page.values[name][:200]!r}"

    def check_nothing_lost(self) -> None:
        """The user's running server is the same container, and no other was made."""
        state = self.hub.engine.api.inspect_container(self.container)["State"]
        assert state["Running"], state
        made = self.hub.engine.containers.list(all=True, filters={"label": [f"hubdock.user={USER}"], "name": self.hub.prefix})
        assert [container.id for container in made] == [self.container]

    # --- what only a build finds out ---

    def refuse_build(self, options: dict[str, str], expected: Refusal) -> str:
        """Put options to every face at once, which share one build, and return its identity. Each tells how it ended."""
        build = self.hub.service("POST", "builds", options).json()["id"]
        with ThreadPoolExecutor(2) as pool:
            asked = pool.submit(self.wait_rest, options), pool.submit(self.wait_form, options)
            page = self.wait_page(options)
            (status, message), form = asked[0].result(), asked[1].result()
        ended = self.hub.wait_for(lambda: (b := self.hub.service("GET", f"builds/{build}").json())["finished"] and b, 90, "the build ends")
        self.check_error(ended["error"], expected)
        told = f"{expected.place}: {ended['error']['message']}" if expected.place else ended["error"]["message"]
        plain = " ".join(told.split())
        assert plain in page.text.replace(" :", ":"), page.text[:2000]
        back = next(link for link in page.links if "ref=" in link)
        self.check_values(Page(self.client.get(back)), options)
        assert plain in " ".join(message.split()) and status in {expected.status, 0}, f"{status} {message}"
        assert plain in form.text and "SpawnException" not in form.text and form.status == expected.status, f"{form.status} {form.text[:1500]}"
        self.check_values(Page(self.client.get(f"/hub/spawn/{USER}/bad-form")), options)
        self.check_nothing_lost()
        return str(build)

    def wait_page(self, fields: dict[str, str]) -> Page:
        """Send the page's form, and reload what it leads to until it tells an end."""
        page = self.send("/services/hubdock/", fields)
        until = time.monotonic() + 90
        while 'id="error"' not in page.answer.text and time.monotonic() < until:
            time.sleep(0.2)
            page = Page(self.client.get(str(page.answer.url)))
        return page

    def wait_form(self, fields: Any) -> Page:
        """Send the hub's form, and wait on its pending page if it is not refused within a second."""
        page = self.send("/hub/spawn", fields)
        until = time.monotonic() + 90
        while page.status == 200 and time.monotonic() < until:
            time.sleep(0.2)
            page = Page(self.client.get(f"/hub/spawn-pending/{USER}/bad-form"))
        return page

    def wait_rest(self, options: dict[str, str]) -> tuple[int, str]:
        """Return status and message; the status is 0 where the hub had answered before it was known."""
        answer = self.rest(options)
        if answer.status_code != 202:
            return answer.status_code, str(answer.json().get("message"))
        events = self.hub.wait_for(lambda: [event for event in self.hub.read_progress(USER, "bad-rest") if event.get("failed")], 90, "the start fails")
        return 0, str(events[-1]["message"])
