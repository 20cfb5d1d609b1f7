"""The description of the JSON API (https://spec.openapis.org/oas/v3.1.0). A test holds its paths to the handlers, and its schemas to real answers."""

from __future__ import annotations

from typing import Any

from hubdock import __version__
from hubdock.core.events import Kind, Phase
from hubdock.core.plan import State
from hubdock.core.stages import TITLES, StageState

_TEXT: dict[str, Any] = {"type": "string"}
_NUMBER: dict[str, Any] = {"type": ["number", "null"]}

_SIZES: dict[str, Any] = {"type": "object", "additionalProperties": {"type": "integer"}, "description": "bytes by kind"}


def _object(properties: dict[str, Any], required: list[str] | None = None) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": sorted(properties) if required is None else required}


def _list(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


OPTIONS = {
    "repo": {**_TEXT, "description": "https:// or ssh:// address of the repository"},
    "ref": {**_TEXT, "description": "branch or tag; refs/heads/… or refs/tags/… where the two share a name"},
    "new_branch": {**_TEXT, "description": "name of a new branch to start from ref; nothing is built for it"},
    "cpu": {"type": ["number", "string"], "description": "cores"},
    "memory": {**_TEXT, "description": "bytes, or a size such as 4G"},
    "shm": {**_TEXT, "description": "shared memory: bytes, or a size such as 1G"},
    "gpu": {"type": ["integer", "string"], "description": "whole devices"},
}

SCHEMAS: dict[str, Any] = {
    "Options": {**_object(OPTIONS, ["repo", "ref"]), "additionalProperties": False},
    "Error": _object(
        {"error": _object({"code": _TEXT, "status": {"type": "integer"}, "message": _TEXT, "field": _TEXT, "file": _TEXT, "line": {"type": "integer"}, "near": {**_list(_TEXT), "description": "values that the field may have meant"}}, ["code", "status", "message"])}
    ),
    "Part": _object(
        {
            "name": {"enum": ["base", "environment", "image", "data"]}, "state": {"enum": [str(state) for state in State]}, "key": _TEXT,
            "reasons": _list(_TEXT), "seconds": _NUMBER, "samples": {"type": "integer"}, "size": {"type": "integer"},
        },
        ["name", "state", "key", "reasons"],
    ),
    "Source": _object({"commit": _TEXT, "subject": _TEXT, "author": _TEXT, "time": {"type": "integer"}, "files": {"type": "integer"}}),
    "Plan": _object(
        {
            "repo": _TEXT, "ref": _TEXT, "ref_kind": {"enum": ["branch", "tag"]}, "commit": _TEXT, "tree": _TEXT, "new_branch": _TEXT,
            "ready": {"type": "boolean"}, "seconds": {**_NUMBER, "description": "until all is made, from past builds; null: not known"},
            "launch_seconds": {**_NUMBER, "description": "the launch, from past ones"}, "total_seconds": {**_NUMBER, "description": "the whole start"}, "parts": _list(_ref("Part")), "notices": _list(_TEXT), "source": _ref("Source"),
        }
    ),
    "Build": _object(
        {
            "id": _TEXT, "phase": {"enum": [str(phase) for phase in Phase]}, "repo": _TEXT, "ref": _TEXT, "new_branch": _TEXT, "commit": _TEXT,
            "image": _TEXT, "created": {"type": "number"}, "finished": _NUMBER, "error": {"type": ["object", "null"]}, "options": _ref("Options"), "parts": _list(_ref("Part")),
            "notices": _list(_TEXT), "tasks": {"type": "object", "additionalProperties": _TEXT},
            "queue": {"type": "object", "additionalProperties": _object({"position": {"type": "integer"}, "seconds": _NUMBER}, ["position", "seconds"])},
        }
    ),
    "Event": _object(
        {
            "kind": {"enum": [str(kind) for kind in Kind]}, "time": {"type": "number"}, "part": _TEXT, "phase": {"enum": [str(phase) for phase in Phase]},
            "message": _TEXT, "percent": {"type": "number"}, "error": {"type": "object"},
        },
        ["kind", "time"],
    ),
    "Stage": _object(
        {
            "name": {"enum": list(TITLES)}, "title": _TEXT, "state": {"enum": [str(state) for state in StageState]}, "message": _TEXT,
            "seconds": {"type": "number", "description": "until now"}, "steps": _list(_object({"title": _TEXT, "state": _TEXT, "seconds": {"type": "number"}})),
        }
    ),
    "Account": _object(
        {
            "phase": {"enum": [str(phase) for phase in Phase]}, "over": {"type": "boolean"}, "words": {**_TEXT, "description": "what is done now"},
            "percent": {"type": "integer", "description": "of the whole; it never goes back"}, "queued": {**_TEXT, "description": "the place in the queue, while nothing else is done"},
            "left": {**_TEXT, "description": "how long it still takes, in words"}, "late": {"type": "boolean", "description": "longer than usual"},
            "stages": _list(_ref("Stage")), "notices": _list(_TEXT), "url": {**_TEXT, "description": "where the server is, once it is ready"},
        }
    ),
    "Image": _object({"kind": _TEXT, "key": _TEXT, "id": _TEXT, "size": {"type": "integer"}, "tags": _list(_TEXT), "created": {"type": ["number", "null"]}}),
    "Removal": _object({"kind": _TEXT, "key": _TEXT, "name": _TEXT, "size": {"type": "integer"}, "used": {"type": "number"}, "reason": _TEXT}),
    "Collection": _object(
        {
            "dry_run": {"type": "boolean"}, "budget": {"type": ["integer", "null"], "description": "bytes; null: unlimited"},
            "total": {"type": "integer", "description": "bytes of the budget that were taken"}, "left": {"type": "integer", "description": "bytes that are taken afterwards"},
            "over": {"type": "integer", "description": "bytes over the budget: the rest is in use, pinned, or was used a moment ago"}, "freed": _SIZES, "sizes": _SIZES,
            "held": _SIZES, "removed": _list(_ref("Removal")), "stayed": _list(_ref("Removal")), "rows": {"type": "integer"}, "missing": _list(_TEXT),
            "finished": {"type": "number"},
        }
    ),
    "Workspace": _object(
        {
            "volume": _TEXT, "user": _TEXT, "server": _TEXT, "repo": _TEXT, "branch": _TEXT, "created": {"type": "number"}, "used": {"type": "number"},
            "size": {"type": ["integer", "null"], "description": "bytes, as last measured"}, "trashed": {**_NUMBER, "description": "when it was deleted"},
            "expires": {**_NUMBER, "description": "when it is removed for good"}, "running": {"type": "boolean"},
            "on_remote": {"type": ["boolean", "null"], "description": "whether its branch is on the remote; null: not known"},
            "known": {"type": "boolean", "description": "false: a volume without a record"}, "there": {"type": "boolean", "description": "false: its volume is gone"},
        }
    ),
    "Branches": _object({"branches": _list(_TEXT), "tags": _list(_TEXT), "default": _TEXT}),
    "BoardRow": _object(
        {
            "repo": _TEXT, "branch": _TEXT, "commit": _TEXT, "default": {"type": "boolean"}, "subject": _TEXT, "author": _TEXT,
            "time": {**_NUMBER, "description": "of the last commit; null: not read yet"}, "detailed": {"type": "boolean", "description": "false: its files are not read yet"},
            "problem": {**_TEXT, "description": "why it has no environment"}, "metrics": {"type": "object"}, "makers": _list(_TEXT),
            "servers": _list(_object({"user": _TEXT, "server": _TEXT, "ready": {"type": "boolean"}})),
            "shared": {**_list(_object({"repo": _TEXT, "branch": _TEXT})), "description": "branches with the same environment"},
        }
    ),
    "Board": _object(
        {
            "repositories": _list(_object({"repo": _TEXT, "url": _TEXT, "default": _TEXT, "message": _TEXT})), "branches": _list(_ref("BoardRow")),
            "page": {"type": "integer"}, "pages": {"type": "integer"}, "total": {"type": "integer"}, "waiting": {"type": "integer", "description": "branches on the page that are not read yet"},
        }
    ),
    "CompareRow": _object(
        {"file": _TEXT, "name": _TEXT, "differs": {"type": "boolean", "description": "whether the branches' values are not all the same"},
         "values": {**_list(_object({"value": {"type": ["string", "number", "boolean", "null"]}, "there": {"type": "boolean"}, "delta": {**_NUMBER, "description": "difference to the base"}})), "description": "one for each branch"}}
    ),
    "Chart": _object(
        {"title": _TEXT, "x_label": _TEXT, "y_label": _TEXT, "lines": _list(_object({"name": _TEXT, "points": _list(_list({"type": "number"}))}))}
    ),
    "Comparison": _object(
        {
            "repo": _TEXT, "base": {**_TEXT, "description": "the branch that differences are against"},
            "branches": _list(_object({"branch": _TEXT, "commit": _TEXT, "subject": _TEXT, "author": _TEXT, "time": _NUMBER})),
            "metrics": _list(_ref("CompareRow")), "params": _list(_ref("CompareRow")),
            "differences": _list(
                _object(
                    {"branch": _TEXT, "readable": {"type": "boolean", "description": "false: packages and data can't be read on either side"}, "requirements": _list(_TEXT), "data": _list(_object({"path": _TEXT, "change": {"enum": ["added", "removed", "changed"]}, "before": _NUMBER, "after": _NUMBER})),
                     "notebooks": _list(_object({"path": _TEXT, "change": {"enum": ["added", "removed", "changed"]}}))}
                )
            ),
            "plots": _list(_ref("Chart")), "history": {**_list(_ref("Chart")), "description": "metrics over the last commits that changed them; the newest is 0"},
            "notices": _list(_object({"branch": _TEXT, "message": _TEXT})),
        }
    ),
    "NotebookComparison": _object(
        {
            "repo": _TEXT, "before": _TEXT, "after": _TEXT, "path": _TEXT,
            "cells": _list(
                _object(
                    {"change": {"enum": ["same", "changed", "added", "removed"]}, "kind": _TEXT, "before": {"type": ["integer", "null"]}, "after": {"type": ["integer", "null"]},
                     "lines": {**_list(_list(_TEXT)), "description": "(mark, line): “+”, “-”, a space, or “…” for what is left out"},
                     "outputs": {"enum": ["", "same", "before", "after", "both"], "description": "which sides have outputs; both: they differ"}}
                )
            ),
        }
    ),
    "Launch": _object({"build": _ref("Build"), "told": _ref("Account"), "launch": {"type": ["object", "null"]}}),
}  # fmt: skip

_ID = {"name": "id", "in": "path", "required": True, "schema": _TEXT}


def _query(name: str, description: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": True, "schema": _TEXT, "description": description}


def _answer(description: str, schema: dict[str, Any] | None = None, media: str = "application/json") -> dict[str, Any]:
    return {"description": description, **({"content": {media: {"schema": schema}}} if schema else {})}


def _operation(summary: str, answers: dict[str, Any], *, body: dict[str, Any] | None = None, parameters: list[dict[str, Any]] | None = None, open_to_all: bool = False) -> dict[str, Any]:
    operation: dict[str, Any] = {"summary": summary, "responses": {**answers, "default": _answer("An error", _ref("Error"))}}
    if body:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": body}}}
    if parameters:
        operation["parameters"] = parameters
    if open_to_all:
        operation["security"] = []
    return operation


_RENEW = {"rebuild": {"type": "boolean", "description": "take the newest base image, and renew packages that are not pinned"}}
_LOOK = {"allOf": [_object({**OPTIONS, **_RENEW}, ["repo", "ref"])]}
_REBUILD = {"allOf": [{**_object({**OPTIONS, **_RENEW, "timeout": {"type": "number", "description": "seconds after which you no longer wait for it"}}, ["repo", "ref"])}]}
_VOLUME = {**_ID, "description": "its volume"}
_BUDGET = {**_query("budget", "instead of the settings' budget, such as 50G"), "required": False}
_BOARD = [{**_query(name, description), "required": False} for name, description in (("repo", "one repository instead of all"), ("q", "words that a branch, commit, author or repository holds"), ("mine", "1: yours alone"), ("running", "1: with a server alone"), ("page", "from 1"))]
_COLLECT = _object({"budget": {"type": ["string", "integer"], "description": "instead of the settings', such as 50G"}}, [])
_WORKSPACE_ERRORS = {"404": _answer("There is none, or it is somebody else's", _ref("Error")), "409": _answer("A server is on it, or another took its place", _ref("Error"))}
_WHO = [_query("user", "name of the user"), _query("server", "name of the server")]
_SERVER = {**_query("server", "the server that waits; none: you do"), "required": False}
_VIEW = {**_query("view", "page: how the start is, in words and stages, and the newest output, for as little as it takes to follow a long log"), "required": False}
_LOST = {**_TEXT, "description": "key of data that a launch did not find in the store: it is fetched anew"}
_LAUNCH_BODY = _object({"user": _TEXT, "server": _TEXT, "options": _ref("Options"), "lost": _LOST})

PATHS: dict[str, Any] = {
    "/api/": {"get": _operation("Name and version", {"200": _answer("Both", _object({"name": _TEXT, "version": _TEXT}))}, open_to_all=True)},
    "/api/openapi.json": {"get": _operation("This description", {"200": _answer("It", {"type": "object"})}, open_to_all=True)},
    "/api/health": {
        "get": _operation("Whether the service and what it stands on answer", {"200": _answer("All answers", {"type": "object"}), "503": _answer("Something does not", {"type": "object"})}, open_to_all=True)
    },
    "/api/metrics": {"get": _operation("Prometheus metrics", {"200": _answer("Text exposition", _TEXT, "text/plain")})},
    "/api/branches": {"get": _operation("Branches and tags of a repository, now", {"200": _answer("The names", _ref("Branches"))}, parameters=[_query("repo", "address of the repository")])},
    "/api/board": {"get": _operation("The branches of the repositories that you may read, the newest first", {"200": _answer("A page of them", _ref("Board"))}, parameters=_BOARD)},
    "/api/compare": {
        "get": _operation("Branches compared, from git: metrics, parameters, packages, data, notebooks, plots", {"200": _answer("The comparison", _ref("Comparison"))}, parameters=[_query("repo", "address of the repository"), {**_query("refs", "a branch; two to eight of them, the parameter repeated"), "schema": _list(_TEXT)}, {**_query("base", "the branch to compare with; none: the default branch if chosen, else the first"), "required": False}])
    },
    "/api/compare/notebook": {
        "get": _operation("One notebook on two branches, cell by cell", {"200": _answer("The cells", _ref("NotebookComparison"))}, parameters=[_query("repo", "address of the repository"), _query("before", "a branch"), _query("after", "another"), _query("path", "of the notebook in the repository")])
    },
    "/api/plan": {"post": _operation("What a start would do; nothing is done", {"200": _answer("The plan", _ref("Plan"))}, body=_LOOK)},
    "/api/builds": {
        "get": _operation("Your builds, newest first", {"200": _answer("Builds", _object({"builds": _list({"type": "object"})}))}),
        "post": _operation("Make what a start needs, or join who does", {"200": _answer("It is ready, or has failed at once", _ref("Build")), "202": _answer("It is under way", _ref("Build")), "503": _answer("The queue is full", _ref("Error"))}, body=_REBUILD),
    },
    "/api/builds/{id}": {
        "get": _operation("One build", {"200": _answer("The build", {"type": "object"})}, parameters=[_ID]),
        "delete": _operation("Leave a build, which goes on while another server or user waits for it", {"204": _answer("Left")}, parameters=[_ID, _SERVER]),
    },
    "/api/builds/{id}/events": {
        "get": _operation("A build's events: server-sent, replayed from Last-Event-ID, then live", {"200": _answer("Events named phase, step, progress, log, notice, and end; with view=page state (an Account), lines, and end", _ref("Event"), "text/event-stream")}, parameters=[_ID, _VIEW])
    },
    "/api/builds/{id}/log": {"get": _operation("The whole log as text", {"200": _answer("Lines", _TEXT, "text/plain")}, parameters=[_ID])},
    "/api/images": {"get": _operation("The images that hubdock made (administrators)", {"200": _answer("Images", _object({"images": _list(_ref("Image"))}))})},
    "/api/collection": {
        "get": _operation("What a collection would remove now (administrators)", {"200": _answer("The report", _ref("Collection"))}, parameters=[_BUDGET]),
        "post": _operation("Collect (administrators)", {"200": _answer("The report", _ref("Collection")), "503": _answer("A collection runs already", _ref("Error"))}, body=_COLLECT),
    },
    "/api/workspaces": {"get": _operation("Your workspaces, everybody's for administrators", {"200": _answer("Workspaces", _object({"workspaces": _list(_ref("Workspace"))}))})},
    "/api/workspaces/{id}": {"delete": _operation("Put a workspace into the trash", {"200": _answer("It", _ref("Workspace")), **_WORKSPACE_ERRORS}, parameters=[_VOLUME])},
    "/api/workspaces/{id}/restore": {"post": _operation("Take a workspace out of the trash", {"200": _answer("It", _ref("Workspace")), **_WORKSPACE_ERRORS}, parameters=[_VOLUME])},
    "/api/launches": {"post": _operation("Have everything made for a user's server (the hub alone)", {"200": _answer("The build, and the launch once it is ready", _ref("Launch"))}, body=_LAUNCH_BODY)},
    "/api/launches/{id}": {
        "get": _operation("How to launch what a build made (the hub alone)", {"200": _answer("The launch", _ref("Launch"))}, parameters=[_ID, *_WHO]),
        "delete": _operation("Leave a build in a user's name (the hub alone)", {"204": _answer("Left")}, parameters=[_ID, *_WHO]),
    },
    "/api/launches/{id}/address": {
        "get": _operation("Where a server is that was just launched, as soon as it asks for its start files; empty after 30 seconds (the hub alone)", {"200": _answer("The address", _object({"address": _TEXT}))}, parameters=[_ID, *_WHO])
    },
    "/api/launches/{id}/archive": {
        "get": _operation("What a server is given when it starts, as a tar (the hub, and with its own token the server)", {"200": _answer("The tar", {"type": "string", "format": "binary"}, "application/x-tar")}, parameters=[_ID, *_WHO])
    },
}  # fmt: skip


def make_openapi(prefix: str) -> dict[str, Any]:
    """Return the whole description of a service that is served below a prefix."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "hubdock", "version": __version__, "description": "From a repository and a branch to JupyterLab."},
        "servers": [{"url": prefix.rstrip("/")}],
        "security": [{"token": []}],
        "paths": PATHS,
        "components": {
            "schemas": SCHEMAS,
            "securitySchemes": {"token": {"type": "apiKey", "in": "header", "name": "Authorization", "description": "token <a JupyterHub token with access:services!service=hubdock>"}},
        },
    }
