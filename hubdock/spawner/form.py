"""The hub's own form: the same fields as the service's page, for hubs and links that use ``/hub/spawn``. It keeps its values on an error."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

from jinja2 import Environment, FileSystemLoader

from hubdock.core.options import FIELDS
from hubdock.core.repo import drop_credentials

MOST = 10_000
_environment = Environment(loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=True, trim_blocks=True, lstrip_blocks=True)


class FormMemory:
    """What users last typed, by name: the hub draws its form again from another spawner object than the one that refused."""

    def __init__(self) -> None:
        self._values: OrderedDict[str, dict[str, str]] = OrderedDict()

    def keep(self, user: str, values: Mapping[str, str]) -> None:
        """Remember the known fields, shortened, and never a password."""
        self._values[user] = {name: drop_credentials(str(values[name]))[:2048] for name in FIELDS if values.get(name)}
        self._values.move_to_end(user)
        while len(self._values) > MOST:
            self._values.popitem(last=False)

    def read(self, user: str) -> dict[str, str]:
        """Return what a user last typed."""
        return dict(self._values.get(user, {}))


def render_form(values: Mapping[str, str], offers_gpu: bool) -> str:
    """Return the form's fields as HTML, every value escaped, and without the passwords that a link may carry."""
    shown = {name: drop_credentials(values.get(name, "")) for name in FIELDS}
    return _environment.get_template("hubdock_form.html").render(values=shown, offers_gpu=offers_gpu)
