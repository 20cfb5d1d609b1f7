"""What admins get wrong: the hub or the service does not come up, and says which setting, and what to do. Real processes, with such a configuration."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.kit.hub import ROOT
from tests.kit.ports import find_port

CANARY = "pa55word-canary"
HUB = """
import hubdock
c = get_config()
c.JupyterHub.bind_url = "http://127.0.0.1:{port}"
c.JupyterHub.hub_port = {hub_port}
c.JupyterHub.authenticator_class = "dummy"
{lines}
hubdock.configure(c, port={service_port})
"""


@dataclass(frozen=True)
class Mistake:
    """Settings of HubDock (SECRET stands for the path of a file with ``secret``, made with ``mode``), lines for the hub alone, and what is said."""

    words: tuple[str, ...]
    values: dict[str, Any] = field(default_factory=dict)
    lines: str = ""
    secret: str | None = CANARY
    mode: int = 0o600


GIT = {"git_credentials": [{"origin": "https://git.example.org", "username": "bot", "password_file": "SECRET"}]}
INDEX = {"index_credentials": [{"origin": "https://pypi.example.org", "username": "bot", "password_file": "SECRET"}]}
DVC = {"dvc_remotes": {"s3://team/": {"secret_access_key_file": "SECRET"}}}
START = "DockerSpawner.start_timeout (600 s) must be longer than HubDock.build_timeout (600 s)"
# Which settings are refused, tests/unit/test_config.py knows by dozens; here is that a refusal keeps the real programs from coming up.
MISTAKES = {
    "service: unknown trait": Mistake(("HubDock.allowed_hots is not a setting", "Known: allowed_hosts"), {"allowed_hots": ["github.com"]}),
    "service: open secret": Mistake(("is open to others", "chmod 600"), DVC, mode=0o666),
    "service: password in an address": Mistake(("index_url", "those go into index_credentials"), {"index_url": f"https://bot:{CANARY}@pypi.example.org/simple"}),
    "hub: any image": Mistake(("HubDock.allowed_images is not a setting",), {"allowed_images": "*"}),
    "hub: open secret": Mistake(("is open to others", "chmod 600"), GIT, mode=0o644),
    "hub: missing secret": Mistake(("can't be read",), INDEX, secret=None),
    "hub: start_timeout": Mistake((START,), {"build_timeout": 600}, "c.DockerSpawner.start_timeout = 600"),
}


def prepare(mistake: Mistake, directory: Path) -> dict[str, Any]:
    """Write the secret, and return the settings."""
    secret = directory / "secret"
    if mistake.secret is not None:
        secret.write_text(mistake.secret)
        secret.chmod(mistake.mode)
    values = json.loads(json.dumps({"state_dir": str(directory / "state"), **mistake.values}).replace("SECRET", str(secret)))
    assert isinstance(values, dict)
    return values


def run(argv: list[str], directory: Path) -> tuple[int, str]:
    """Return exit code and output of a process that should end by itself; -9 if it does not."""
    env = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "JUPYTERHUB_API_URL": "http://127.0.0.1:9/", "JUPYTERHUB_API_TOKEN": "x"}
    with (directory / "output").open("wb") as output:
        process = subprocess.Popen([sys.executable, "-m", *argv], cwd=directory, env=env, stdout=output, stderr=output)
        try:
            code = process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
    return code, (directory / "output").read_text()


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str]]:
    """How every process ended: two at a time, for each starts an interpreter and imports a lot."""
    ends: dict[str, tuple[int, str]] = {}
    jobs = list(MISTAKES.items())

    def work() -> None:
        while jobs:
            name, mistake = jobs.pop()
            directory = tmp_path_factory.mktemp("config")
            values = prepare(mistake, directory)
            if name.startswith("service"):
                (directory / "config.json").write_text(json.dumps({"HubDock": values}))
                ends[name] = run(["hubdock.service", "--config", "config.json"], directory)
                continue
            lines = "\n".join([*(f"c.HubDock.{setting} = {value!r}" for setting, value in values.items()), mistake.lines])
            (directory / "config.py").write_text(HUB.format(port=find_port(), hub_port=find_port(), service_port=find_port(), lines=lines))
            ends[name] = run(["jupyterhub", "-f", "config.py"], directory)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return ends


@pytest.mark.parametrize("name", MISTAKES)
def test_it_does_not_come_up(ended: dict[str, tuple[int, str]], name: str) -> None:
    """It ends before it listens or starts a proxy; its last words name the setting and the mend, and the service says nothing else."""
    code, text = ended[name]
    assert code not in {0, -9}, f"it came up:\n{text[-2000:]}"
    lines = text.strip().splitlines()
    for words in MISTAKES[name].words:
        assert words in lines[-1], f"not in the last line:\n{text[-2000:]}"
    assert CANARY not in text
    assert "Starting managed proxy" not in text and "JupyterHub is now running" not in text
    assert len(lines) == 1 or name.startswith("hub")
