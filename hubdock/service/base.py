"""What every handler shares: who asks, what may be shown, and how an error is answered."""

from __future__ import annotations

import hmac
import json
import logging
from http import HTTPStatus
from typing import Any

from jupyterhub.services.auth import HubOAuthenticated, UserNotAllowed
from tornado.web import HTTPError, RequestHandler

from hubdock.core.asker import LOCAL, Asker
from hubdock.core.errors import HubDockError, InvalidOption
from hubdock.engine.build import Build
from hubdock.engine.engine import Engine
from hubdock.service.state import State

log = logging.getLogger("hubdock")
ADMIN_SCOPE = "custom:hubdock:admin"
MAX_BODY = 256 * 1024
SECURITY = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self' data:; font-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class BaseHandler(HubOAuthenticated, RequestHandler):  # type: ignore[misc]
    """A handler that knows its user.

    ``user`` is the hub's model of whoever asks, None for the hub itself (``internal``: it showed the service's own token). Who may use the service is told by a
    scope; a handler with ``any_login`` takes the hub's word for who asks, and that is all that a server's own token says.
    """

    public = False
    any_login = False
    user: dict[str, Any] | None = None
    internal = False

    @property
    def state(self) -> State:
        """What the service holds."""
        found: State = self.settings["state"]
        return found

    @property
    def engine(self) -> Engine:
        """The engine."""
        return self.state.engine

    def set_default_headers(self) -> None:
        for name, value in SECURITY.items():
            self.set_header(name, value)

    async def prepare(self) -> None:
        """Find out who asks, without blocking the event loop; whoever may not is sent to the hub's login, or refused."""
        if self.public:
            return
        token = self.hub_auth.get_token(self, in_cookie=False) or ""
        if token and hmac.compare_digest(token.encode(), self.state.api_token.encode()):
            self.internal = True
            return
        model = await self.hub_auth.get_user(self, sync=False)
        if model is None:
            self.refuse()
            return
        if self.any_login and model.get("kind") == "user":
            self.user = self.current_user = model
            return
        try:
            self.user = self.current_user = self.check_hub_user(model)
        except UserNotAllowed:
            raise HTTPError(403, "This login may not use hubdock: it lacks the scope access:services!service=hubdock.") from None

    def refuse(self) -> None:
        """Answer somebody who is not logged in."""
        raise HTTPError(403, "Log in, or send a token with the scope access:services!service=hubdock.")

    @property
    def name(self) -> str:
        """The name of the user who asks."""
        return str(self.user["name"]) if self.user else ""

    @property
    def asker(self) -> Asker:
        """Who asks, as the engine knows people."""
        return LOCAL if self.internal else Asker(self.name, frozenset(map(str, (self.user or {}).get("groups") or ())))

    @property
    def is_admin(self) -> bool:
        """True for the hub itself, and for who holds `ADMIN_SCOPE`."""
        return self.internal or (self.user is not None and ADMIN_SCOPE in self.user.get("scopes", []))

    @property
    def user_token(self) -> str:
        """The user's own token, with which the hub is asked."""
        return str(self.hub_auth.get_token(self) or "")

    def may_see(self, users: list[str] | set[str]) -> bool:
        """True if a build of these users may be shown to who asks."""
        return self.is_admin or self.name in users

    def find_build(self, identity: str) -> Build | None:
        """Return a build of this process that may be shown."""
        build = self.engine.find_build(identity)
        return build if build is not None and self.may_see(build.askers) else None

    def write_json(self, value: Any, status: int = 200) -> None:
        """Answer with JSON."""
        self.set_status(status)
        self.set_header("Content-Type", "application/json")
        self.finish(json.dumps(value))

    def read_json(self) -> dict[str, Any]:
        """Return the body's JSON object. Raises InvalidOption."""
        try:
            value = json.loads(self.request.body or b"{}")
        except (ValueError, RecursionError) as error:
            raise InvalidOption("The body is not JSON.") from error
        if not isinstance(value, dict):
            raise InvalidOption("The body must be a JSON object.")
        return value

    def describe_error(self, error: BaseException | None, status: int) -> dict[str, Any]:
        """Return what of an error may be told."""
        if isinstance(error, HubDockError):
            return error.as_dict()
        message = (error.log_message if isinstance(error, HTTPError) and status < 500 else None) or HTTPStatus(status).phrase
        return {"code": "http_error", "status": status, "message": message}

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        if isinstance(value, HubDockError):
            log.info("%s %s: %s %s", self.request.method, self.request.path, value, value.detail)
        else:
            super().log_exception(typ, value, tb)

    def _handle_request_exception(self, e: BaseException) -> None:
        """Answer a HubDockError with its own status (tornado knows HTTPError only)."""
        if isinstance(e, HubDockError) and not self._finished:
            self.log_exception(type(e), e, None)
            self.send_error(e.status, exc_info=(type(e), e, e.__traceback__))
        else:
            super()._handle_request_exception(e)


class APIHandler(BaseHandler):
    """A handler that answers in JSON."""

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        error = kwargs.get("exc_info", (None, None, None))[1]
        described = self.describe_error(error, status_code)
        if status_code == 503:
            self.set_header("Retry-After", "10")
        self.set_header("Content-Type", "application/json")
        self.finish(json.dumps({"error": described}))
