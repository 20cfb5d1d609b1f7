"""JupyterLab in a browser, as its user waits for it."""

from __future__ import annotations

import time

from playwright.sync_api import Page, Request, TimeoutError

_CHANGED = "net::ERR_NETWORK_CHANGED"


class Lab:
    """A page that is on its way to JupyterLab. Make it before the page begins to load that."""

    def __init__(self, page: Page) -> None:
        self.page, self.dropped = page, False
        page.on("requestfailed", self._note)

    def _note(self, request: Request) -> None:
        self.dropped |= request.failure == _CHANGED

    def wait(self, seconds: float) -> None:
        """Wait until its files are listed. Raises Playwright's TimeoutError.

        Chromium gives up what it is loading when an interface of its machine gets an address, as every new container's does, and JupyterLab then stays blank: only
        such a page is loaded again, as its user would (https://issues.chromium.org/issues/41465264).
        """
        self.page.bring_to_front()
        until = time.monotonic() + seconds
        while True:
            try:
                self.page.wait_for_selector(".jp-DirListing-item", timeout=min(10, max(until - time.monotonic(), 0.1)) * 1000)
                return
            except TimeoutError:
                if time.monotonic() > until:
                    raise
            if self.dropped:
                self.dropped = False
                self.page.reload()
