"""The spawner under test, with values that a test puts into a file."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from traitlets import Unicode

from hubdock.spawner.kubernetes import HubDockKubeSpawner


class OverridingSpawner(HubDockKubeSpawner):
    """Each start reads `overrides` anew: ``launch`` updates the launch, ``blind`` keeps what nodes say from it, the rest are traits. When it noticed
    that a server answers is in a file beside it. A new hub, which looks for servers that the last one was starting, takes ``http_timeout`` from there at once."""

    overrides = Unicode("", help="A JSON file. Default: none.").tag(config=True)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.stock: dict[str, Any] = {"http_timeout": self.http_timeout}
        self.http_timeout = json.loads(Path(self.overrides).read_text()).get("http_timeout", self.http_timeout)
        self.blind = False

    async def ensure_launch(self, lost: str = "") -> None:
        await super().ensure_launch(lost)
        given = json.loads(Path(self.overrides).read_text())
        self.blind = given.pop("blind", False)
        self.launch = {**self.launch, **given.pop("launch", {})}
        for name, value in self.stock.items():
            setattr(self, name, value)
        self.stock = {name: getattr(self, name) for name in given}
        for name, value in given.items():
            setattr(self, name, value)

    def _runs(self) -> bool:
        return not self.blind and super()._runs()

    async def _wait_for_pod(self) -> None:
        await super()._wait_for_pod()
        Path(self.overrides).with_name(f"noticed-{self.name}").write_text(str(time.time()))
