"""What the pages share. Server-rendered; everything works without JavaScript, which only saves reloading."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from tornado.web import HTTPError

from hubdock.core.board import format_value
from hubdock.core.metrics import format_delta, format_scalar
from hubdock.core.resources import format_bytes
from hubdock.core.text import MAX_LINE, format_passed, format_seconds, make_plain
from hubdock.service.base import BaseHandler

TEMPLATES = Path(__file__).parent / "templates"
_environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
_environment.filters["plain"] = lambda text, limit=MAX_LINE: make_plain(str(text), limit)
_environment.filters["seconds"] = format_seconds
_environment.filters["bytes"] = format_bytes
_environment.filters["age"] = lambda seconds: format_passed(time.time() - seconds)
_environment.filters["value"] = format_value
_environment.filters["delta"] = format_delta
_environment.filters["scalar"] = format_scalar
_environment.filters["when"] = lambda seconds: time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


class PageHandler(BaseHandler):
    """A handler that answers in HTML."""

    def refuse(self) -> None:
        """Send who is not logged in to the hub. A form sent by another site carries no proof, and is refused instead."""
        if self.request.method not in {"GET", "HEAD"}:
            raise HTTPError(403, "This form was not sent from this page, or your login is over. Load the page again.")
        self.redirect(self.get_login_url())

    def render_page(self, template: str, status: int = 200, **values: Any) -> None:
        """Answer with a page."""
        self.finish_page(self.draw(template, **self.common, **values), status)

    async def render_large_page(self, template: str, status: int = 200, **values: Any) -> None:
        """Answer with a page that takes its time to draw: in a thread of its own."""
        self.finish_page(await asyncio.to_thread(self.draw, template, **self.common, **values), status)

    def draw(self, template: str, **values: Any) -> str:
        """Return the HTML of a page."""
        return _environment.get_template(template).render(**values)

    @property
    def common(self) -> dict[str, Any]:
        """What every page shows of where it is, and for whom."""
        state = self.state
        return {
            "prefix": state.prefix, "hub_prefix": state.hub_prefix, "base_url": state.base_url, "user": self.name, "path": self.request.path,
            "admin": self.is_admin, "hub_admin": bool(self.user and self.user.get("admin")),
            "xsrf": self.xsrf_token.decode("ascii", "replace") if isinstance(self.xsrf_token, bytes) else str(self.xsrf_token),
        }  # fmt: skip

    def finish_page(self, html: str, status: int) -> None:
        """Answer with drawn HTML."""
        self.set_status(status)
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.finish(html)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        error = self.describe_error(kwargs.get("exc_info", (None, None, None))[1], status_code)
        self.render_page("error.html", status_code, error=error)
