"""`make demo` in a clean clone, used as the tutorial says: log in, start two branches, work in JupyterLab's terminal, Ctrl-C."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, TimeoutError

from tests.kit.lab import Lab
from tests.kit.ports import find_port

ROOT = Path(__file__).parents[2]
MINUTES = 60_000

pytestmark = [pytest.mark.hub, pytest.mark.slow]


class Demo:
    """One running `make demo`, started as a terminal does: in a process group of its own."""

    def __init__(self, clone: Path) -> None:
        self.clone, self.log = clone, clone.parent / "demo.log"
        with self.log.open("wb") as log:
            ports = [f"HUBDOCK_DEMO_{name}={find_port('')}" for name in ("PORT", "FILES_PORT", "HUB_PORT", "PROXY_PORT", "SERVICE_PORT")]
            self.process = subprocess.Popen(
                ["make", "demo", *ports], cwd=clone, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, preexec_fn=heed_ctrl_c
            )

    @property
    def told(self) -> str:
        return self.log.read_text()

    @property
    def hub_log(self) -> str:
        return (self.clone / ".demo" / "hub.log").read_text(errors="replace")

    def wait_ready(self, timeout: float) -> Demo:
        until = time.monotonic() + timeout
        while "demo is ready" not in self.told or "Ctrl-C stops" not in self.told:
            assert self.process.poll() is None, f"it ended:\n{self.told}"
            assert time.monotonic() < until, f"it is not ready:\n{self.told}"
            time.sleep(0.2)
        return self

    def find(self, label: str) -> str:
        """Return what it tells people to open or to type."""
        match = re.search(rf"^  {label} +(\S+)", self.told, re.M)
        assert match, self.told
        return match[1]

    def press_ctrl_c(self) -> int:
        os.killpg(self.process.pid, signal.SIGINT)
        return self.process.wait(90)


def heed_ctrl_c() -> None:
    """Undo what a shell does to whatever it runs in the background: these tests, say."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def find_containers(demo: Demo) -> list[str]:
    return [container.name for container in docker.from_env().containers.list(all=True) if container.name.startswith(find_name(demo))]


def find_name(demo: Demo) -> str:
    """Return how the names of a clone's containers and volumes start."""
    return f"hubdock-demo-{hashlib.sha256(str(demo.clone / '.demo').encode()).hexdigest()[:6]}"


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone of what is committed; what is not is no part of the demo that others get."""
    if shutil.which("make") is None or not (ROOT / ".git").exists():
        pytest.skip("needs make and a git checkout")
    try:
        docker.from_env().ping()
    except docker.errors.DockerException as error:
        pytest.skip(f"no Docker Engine answers: {error}")
    path = tmp_path_factory.mktemp("demo").resolve() / "hubdock"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(path)], check=True)
    return path


@pytest.fixture(scope="module")
def demo(clone: Path) -> Iterator[Demo]:
    running = Demo(clone)
    try:
        yield running.wait_ready(900)
    finally:
        if running.process.poll() is None:
            running.press_ctrl_c()
        subprocess.run(["make", "clean"], cwd=clone, check=False, capture_output=True)


@pytest.fixture(scope="module")
def alice(demo: Demo, chromium: Browser) -> Iterator[BrowserContext]:
    """A browser in which alice has logged in, with what the demo printed."""
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.goto(demo.find("Open"))
    page.fill("input[name=username]", demo.find("Log in as").rstrip(","))
    page.fill("input[name=password]", demo.told.split("password ")[1].split()[0])
    page.click("#login_submit")
    page.wait_for_selector("#repo")
    yield context
    context.close()


@pytest.fixture(scope="module")
def labs(demo: Demo, alice: BrowserContext) -> dict[str, Page]:
    """JupyterLab of both branches, at once."""
    pages = {}
    for branch in ("main", "vgg19"):
        page = alice.new_page()
        pages[branch] = Lab(page)
        page.goto(f"{demo.find('Open')}/services/hubdock/")
        page.fill("#repo", demo.find("Repository"))
        page.fill("#ref", branch)
        page.click("#start")
    for lab in pages.values():
        page = lab.page
        page.wait_for_url(re.compile(r"^http://[^/]+/user/alice/.*/lab"), timeout=10 * MINUTES)
        try:
            lab.wait(120)
        except TimeoutError as error:
            raise AssertionError(f"no files are shown on {page.url}: {page.inner_text('body')[:2000]}\n{demo.hub_log[-3000:]}") from error
    return {branch: lab.page for branch, lab in pages.items()}


def type_in_terminal(page: Page, script: str, timeout: float = 180) -> str:
    """Type into a new terminal of JupyterLab, and return what the commands print. It is read from a file, for the screen is drawn on a canvas."""
    page.bring_to_front()
    page.click("text=File >> visible=true")
    page.hover("li.lm-Menu-item:has-text('New') >> visible=true")
    page.click("li.lm-Menu-item[data-command='terminal:create-new'] >> visible=true")
    page.wait_for_selector(".jp-Terminal .xterm-helper-textarea", state="attached")
    page.wait_for_timeout(1500)  # the shell's prompt
    page.keyboard.type(f'({script}) >/tmp/told 2>&1; echo "exit code $?" >>/tmp/told; mv /tmp/told told.txt\n')
    url = page.url.split("/lab")[0] + "/api/contents/told.txt"
    until = time.monotonic() + timeout
    while (answer := page.request.get(url)).status != 200:
        assert time.monotonic() < until, f"no end of: {script}"
        page.wait_for_timeout(300)
    told = str(answer.json()["content"])
    page.keyboard.type("rm told.txt; exit\n")
    page.wait_for_timeout(500)
    assert told.rstrip().endswith("exit code 0"), told
    return told


def test_lab_shows_the_code_and_the_data_of_each_branch(labs: dict[str, Page]) -> None:
    files = {branch: set(page.locator(".jp-DirListing-itemName").all_inner_texts()) for branch, page in labs.items()}
    assert {"data", "baseline.ipynb", "train.py", "requirements.txt"} <= files["main"]
    assert files["vgg19"] - files["main"] == {"vgg.py", "vgg.ipynb"}
    url = labs["main"].url.split("/lab")[0]
    assert len(labs["main"].request.get(f"{url}/api/contents/data/train/3").json()["content"]) > 100


@pytest.mark.parametrize(("branch", "packages", "notebook"), [("main", "sklearn, PIL", "baseline"), ("vgg19", "sklearn, seaborn", "vgg")])
def test_everything_is_clean_and_works(labs: dict[str, Page], branch: str, packages: str, notebook: str) -> None:
    script = (
        f"git status --short --branch && dvc status && python -c 'import tensorflow, {packages}; print(\"imported\", tensorflow.__version__)'"
        f" && jupyter nbconvert --log-level=ERROR --execute --to notebook --output-dir /tmp {notebook}.ipynb && dvc repro"
    )
    told = type_in_terminal(labs[branch], script)
    assert told.startswith(f"## {branch}...origin/{branch}\nData and pipelines are up to date.\n")
    assert "imported 2." in told
    assert "Stage 'train' didn't change, skipping" in told


def test_seaborn_is_only_where_its_branch_wants_it(labs: dict[str, Page]) -> None:
    assert "no seaborn" in type_in_terminal(labs["main"], "python -c 'import seaborn' || echo no seaborn")


def test_commit_and_push_reach_the_remotes(labs: dict[str, Page], demo: Demo) -> None:
    script = (
        "echo more >>README.md && seq 1000 >numbers.txt && dvc add -q numbers.txt && git add . && git commit -qm 'From the terminal'"
        " && git push && dvc push && git status --short --branch"
    )
    told = type_in_terminal(labs["vgg19"], script)
    assert "1 file pushed" in told
    assert "## vgg19...origin/vgg19\n" in told
    root = next((demo.clone / ".demo").glob("files-*"))
    log = subprocess.run(
        ["git", "-C", str(root / "git" / "digits.git"), "log", "-1", "--format=%an: %s", "vgg19"],
        check=True,
        capture_output=True,
        text=True,
    )
    assert log.stdout == "alice: From the terminal\n"
    digest = hashlib.md5("".join(f"{n}\n" for n in range(1, 1001)).encode()).hexdigest()
    assert (root / "dvc" / "digits" / "files" / "md5" / digest[:2] / digest[2:]).is_file()


def test_ctrl_c_stops_everything_and_keeps_the_work(labs: dict[str, Page], demo: Demo) -> None:
    assert len(find_containers(demo)) == 2
    demo.press_ctrl_c()
    assert "everything that it started is stopped" in demo.told
    assert find_containers(demo) == []
    left = subprocess.run(["pgrep", "-af", str(demo.clone)], capture_output=True, text=True, check=False).stdout
    assert left == ""
    kept = [volume.name for volume in docker.from_env().volumes.list() if volume.name.startswith(find_name(demo))]
    assert len([name for name in kept if "-work-alice-digits-" in name]) == 2
