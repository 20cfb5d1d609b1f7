"""The service's API: who may ask what, plans, builds and their events, health and metrics."""

from __future__ import annotations

import json
import re

import httpx
import jsonschema
import pytest

from hubdock.service.openapi import make_openapi
from tests.kit.history import SolveCounter
from tests.kit.hub import Hub
from tests.kit.repos import Project, make_requirements


@pytest.fixture
def plain(project: Project) -> Project:
    project.write_all({"requirements.txt": make_requirements("tabulate==0.9.0"), "README.md": "plain"}).commit("the first commit")
    return project


def check(hub: Hub, path: str, method: str, answer: httpx.Response) -> dict[str, object]:
    """Hold an answer to the API's own description."""
    document = make_openapi("/")
    responses = document["paths"][path][method]["responses"]
    described = responses.get(str(answer.status_code), responses["default"])
    schema = described["content"]["application/json"]["schema"]
    jsonschema.validate(answer.json(), {**schema, "components": document["components"]})
    found: dict[str, object] = answer.json()
    return found


def test_answers_are_as_described(hub: Hub, plain: Project) -> None:
    options = {"repo": plain.url, "ref": "main"}
    check(hub, "/api/", "get", hub.service("GET", ""))
    check(hub, "/api/health", "get", hub.service("GET", "health"))
    found = check(hub, "/api/branches", "get", hub.service("GET", "branches", params={"repo": plain.url}))
    assert found == {"branches": ["main"], "tags": [], "default": "main"}
    plan = check(hub, "/api/plan", "post", hub.service("POST", "plan", options))
    assert plan["source"]["subject"] == "the first commit" and not plan["ready"]  # type: ignore[index]
    build = check(hub, "/api/builds", "post", hub.service("POST", "builds", options))
    events = [event for _, event in read_events(hub, str(build["id"]))]
    for event in events:
        jsonschema.validate(event, {"$ref": "#/components/schemas/Event", "components": make_openapi("/")["components"]})
    assert events[-1]["phase"] == "ready"
    assert check(hub, "/api/builds/{id}", "get", hub.service("GET", f"builds/{build['id']}"))["phase"] == "ready"
    check(hub, "/api/builds", "get", hub.service("GET", "builds"))
    images = check(hub, "/api/images", "get", hub.service("GET", "images"))["images"]
    assert {"environment", "image"} <= {image["kind"] for image in images}  # type: ignore[union-attr, index]
    error = check(hub, "/api/plan", "post", hub.service("POST", "plan", {"repo": plain.url, "ref": "mian"}))
    assert error["error"]["code"] == "ref_not_found"  # type: ignore[index]
    assert hub.service("GET", f"builds/{build['id']}/log").text.count("tabulate==0.9.0") >= 1
    assert "hubdock_tasks_total" in hub.service("GET", "metrics").text


def read_events(hub: Hub, build: str, last: str = "", stop_after: int = 0) -> list[tuple[str, dict[str, object]]]:
    """Return (id, event) until the stream ends, or after some."""
    found: list[tuple[str, dict[str, object]]] = []
    headers = {"Authorization": f"token {hub.token}", **({"Last-Event-ID": last} if last else {})}
    with httpx.stream("GET", f"{hub.url}/services/hubdock/api/builds/{build}/events", headers=headers, timeout=120) as answer:
        identifier = kind = ""
        for line in answer.iter_lines():
            name, _, value = line.partition(": ")
            identifier = value if name == "id" else identifier
            kind = value if name == "event" else kind
            if name == "data" and kind != "end":
                found.append((identifier, json.loads(value)))
                if stop_after and len(found) == stop_after:
                    break
    return found


def test_events_replay_from_where_a_reader_left(hub: Hub, plain: Project) -> None:
    """However often the connection breaks, a reader hears every event exactly once."""
    build = hub.service("POST", "builds", {"repo": plain.url, "ref": "main"}).json()["id"]
    heard: list[dict[str, object]] = []
    last = ""
    while True:
        part = read_events(hub, build, last, stop_after=3)
        heard += [event for _, event in part]
        if len(part) < 3:
            break
        last = part[-1][0]
    whole = [event for _, event in read_events(hub, build)]
    key = lambda event: json.dumps(event, sort_keys=True)  # noqa: E731
    assert sorted(map(key, heard)) == sorted(map(key, whole))


def test_many_ask_once_is_built(hub: Hub, plain: Project) -> None:
    counter = SolveCounter()
    ids = {hub.service("POST", "builds", {"repo": plain.url, "ref": "main"}).json()["id"] for _ in range(5)}
    assert len(ids) == 1
    read_events(hub, ids.pop())
    assert counter.new("image", plain.remote_name) == 1


def test_who_may_ask(hub: Hub, plain: Project) -> None:
    """Nobody without a login; each their own builds; images for administrators; launches for the hub alone."""
    options = {"repo": plain.url, "ref": "main"}
    alice, bob = hub.make_token("alice"), hub.make_token("bob")
    nothing = hub.make_token("bob", ["read:users!user"])
    assert httpx.post(f"{hub.url}/services/hubdock/api/plan", json=options).status_code == 403
    assert hub.service("POST", "plan", options, token="wrong").status_code == 403
    assert hub.service("POST", "plan", options, token=nothing).status_code == 403
    build = hub.service("POST", "builds", options, token=alice).json()["id"]
    read_events(hub, build)
    assert hub.service("GET", f"builds/{build}", token=alice).status_code == 200
    for path in (f"builds/{build}", f"builds/{build}/log", f"builds/{build}/events"):
        assert hub.service("GET", path, token=bob).status_code == 404
    assert build not in hub.service("GET", "builds", token=bob).text
    assert hub.service("GET", "images", token=alice).status_code == 403
    assert hub.service("POST", "launches", {"user": "bob", "server": "", "options": options}, token=alice).status_code == 403
    assert hub.service("GET", f"launches/{build}/archive", params={"user": "bob", "server": ""}, token=alice).status_code == 404  # her own, and there is none


def test_pages_have_a_strict_policy(hub: Hub, plain: Project) -> None:
    with hub.browser("alice") as browser:
        page = browser.landing
        policy = page.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy
        assert not re.search(r"<script(?![^>]*src=)|\son\w+=|style=", page.text), "no inline script or style"
        shown = browser.get("/services/hubdock/", params={"repo": "<script>alert(1)</script>", "ref": '"><img onerror=x>'})
        assert "<script>alert" not in shown.text and "<img onerror" not in shown.text


def test_cancel_ends_a_build_that_nobody_waits_for(hub: Hub, project: Project) -> None:
    """One of two leaves: it goes on. The last leaves: after the grace time it ends, and nothing of it runs."""
    project.write_all({"requirements.txt": make_requirements("tabulate==0.9.0", "./slow"), "slow/setup.py": "import time; time.sleep(60)\n"}).commit()
    alice, bob = hub.make_token("alice"), hub.make_token("bob")
    options = {"repo": project.url, "ref": "main"}
    build = hub.service("POST", "builds", options, token=alice).json()["id"]
    assert hub.service("POST", "builds", options, token=bob).json()["id"] == build
    hub.wait_for(lambda: "Building" in hub.service("GET", f"builds/{build}/log", token=bob).text or "install.py" in hub.service("GET", f"builds/{build}/log", token=bob).text, 30, "it builds")
    assert hub.service("DELETE", f"builds/{build}", token=alice).status_code == 204
    import time

    time.sleep(2)
    assert hub.service("GET", f"builds/{build}", token=bob).json()["phase"] == "building"
    assert hub.service("DELETE", f"builds/{build}", token=bob).status_code == 204
    hub.wait_for(lambda: hub.service("GET", f"builds/{build}").json()["phase"] == "cancelled", 10, "it is cancelled")
    hub.wait_for(lambda: not list((hub.state / "tasks").glob("environment/*/*/lock")) or not _runs(hub), 10, "no worker is left")


def _runs(hub: Hub) -> bool:
    import psutil

    return any(str(hub.state) in " ".join(process.info["cmdline"] or []) and "worker" in " ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"]))
