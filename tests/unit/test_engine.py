"""Parts of the engine that need no remote: streams of events, build contexts, child processes."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest

from hubdock.core.errors import RecipeError
from hubdock.core.events import Event, Kind, Phase
from hubdock.core.naming import SHORT_KEY
from hubdock.core.tree import Tree, TreeEntry
from hubdock.drivers import process
from hubdock.drivers.context import Context, add_tree, find_copies
from hubdock.engine.build import Build
from hubdock.engine.launch import _distinct
from hubdock.engine.stream import Cursor, stream_events
from hubdock.engine.tasks import Attempt, Reporter

# --- cursors and streams ---


@pytest.mark.parametrize(("text", "positions"), [("", [0] * 5), ("1.2.3.4.5", [1, 2, 3, 4, 5]), ("0.0.0.0.0", [0] * 5), ("10.999999999999.0.0.7", [10, 999999999999, 0, 0, 7])])
def test_cursors(text: str, positions: list[int]) -> None:
    cursor = Cursor(text)
    assert (cursor.positions, cursor.fresh) == (positions, text == "")
    assert Cursor(str(cursor)).positions == positions


@pytest.mark.parametrize("text", ["1", "1.2.3.4", "1.2.3.4.5.6", "a.b.c.d.e", "-1.0.0.0.0", "1.2.3.4.", "²".join(["0."] * 5), "².0.0.0.0", "٣.0.0.0.0", "9" * 40 + ".0.0.0.0", "1.2.3.4.5\n", " 1.2.3.4.5", "0x1.0.0.0.0", "1e3.0.0.0.0"])
def test_what_a_browser_makes_up_is_a_fresh_start(text: str) -> None:
    cursor = Cursor(text)
    assert cursor.fresh and cursor.positions == [0] * 5


def make_build(path: Path, parts: dict[str, int]) -> tuple[Build, dict[str, Reporter]]:
    build, reporters = Build(None, "b" * 32), {}  # type: ignore[arg-type]
    for part, count in parts.items():
        (path / part).mkdir()
        build.attempts[part] = Attempt(part, "k", path / part)
        reporters[part] = Reporter(path / part)
        for number in range(count):
            reporters[part].write(Event(Kind.LOG, float(number), part, message=f"{part} {number}"))
    return build, reporters


async def collect(build: Build, cursor: str = "", most: int = 10**6) -> list[tuple[str, str]]:
    found = []
    async for position, event in stream_events(build, Cursor(cursor), poll=0.01):
        found.append((position, event.message))
        if len(found) >= most:
            break
    return found


async def test_a_reader_gets_everything_to_the_end(tmp_path: Path) -> None:
    build, _ = make_build(tmp_path, {"environment": 2, "image": 1})
    build.tell(Phase.BUILDING, "whole")
    build.done.set()
    assert [message for _, message in await collect(build)] == ["environment 0", "image 0", "environment 1", "whole"]


async def test_a_reader_goes_on_from_anywhere(tmp_path: Path) -> None:
    build, _ = make_build(tmp_path, {"environment": 3, "data": 2, "image": 1})
    build.tell(Phase.BUILDING, "one")
    build.tell(Phase.READY, "two")
    build.done.set()
    whole = await collect(build)
    for number, (cursor, _) in enumerate(whole):
        assert await collect(build, cursor) == whole[number + 1 :]


async def test_what_is_written_while_a_reader_waits_arrives(tmp_path: Path) -> None:
    build, reporters = make_build(tmp_path, {"image": 1})

    async def write() -> None:
        for number in range(3):
            await asyncio.sleep(0.03)
            reporters["image"].write(Event(Kind.LOG, 1.0, "image", message=f"late {number}"))
        build.tell(Phase.FAILED, "the end")
        build.done.set()

    writer = asyncio.create_task(write())
    assert [message for _, message in await asyncio.wait_for(collect(build), 5)] == ["image 0", "late 0", "late 1", "late 2", "the end"]
    await writer


async def test_a_new_reader_of_a_long_log_gets_its_end(tmp_path: Path) -> None:
    build, _ = make_build(tmp_path, {"environment": 8000})
    build.done.set()
    found = [message for _, message in await collect(build)]
    assert found[-1] == "environment 7999" and 1000 < len(found) < 8000
    assert found == [f"environment {number}" for number in range(8000 - len(found), 8000)]
    assert len(await collect(build, "0.0.0.0.0")) == 8000  # who asks from the beginning gets it


async def test_a_cursor_from_elsewhere_ends_well(tmp_path: Path) -> None:
    build, _ = make_build(tmp_path, {"image": 2})
    build.done.set()
    assert await collect(build, "99.99999.99999.99999.99999") == []
    assert [message for _, message in await collect(build, "0.0.0.0.7")] == ["image 1"]


def test_two_data_keys_are_never_mounted_at_one_place() -> None:
    one, two, three = "a" * 64, "a" * SHORT_KEY + "b" * 56, "c" * 64
    assert list(_distinct(iter([one, two, three, one]))) == [one, three]


# --- build contexts ---


class Blobs:
    """Contents by id, in the order asked for, as a mirror streams them."""

    def __init__(self, contents: dict[str, bytes]) -> None:
        self.contents = contents

    def stream_blobs(self, oids: Any) -> Any:
        for oid in oids:
            yield oid, len(self.contents[oid]), io.BytesIO(self.contents[oid])


ENTRIES = [
    TreeEntry("dir", "040000", "tree", "t"), TreeEntry("dir/tool", "100755", "blob", "b1"), TreeEntry("dir/link", "120000", "blob", "b2"),
    TreeEntry("module", "160000", "commit", "c"), TreeEntry("odd \udce9\n", "100644", "blob", "b3"), TreeEntry("README.md", "100644", "blob", "b3"),
]  # fmt: skip
CONTENTS = Blobs({"b1": b"#!", "b2": b"../x \xe9", "b3": b"text"})


def make_tar(places: dict[str, list[str]] | None = None) -> bytes:
    target = io.BytesIO()
    context = Context(target)
    context.add_directory("root/home/jovyan/x")
    assert add_tree(context, CONTENTS, ENTRIES, places, "root/code/") == 2 + 6 + 4 + 4  # type: ignore[arg-type]
    context.close()
    return target.getvalue()


def test_a_context_is_explicit_about_everything() -> None:
    with tarfile.open(fileobj=io.BytesIO(make_tar()), errors="surrogateescape") as tar:
        found = {member.name: (member.type, member.mode, member.linkname) for member in tar}
        assert all((member.mtime, member.uid, member.gid, member.uname, member.gname) == (0, 0, 0, "", "") for member in tar)
    assert found == {
        "root": (b"5", 0o755, ""), "root/home": (b"5", 0o755, ""), "root/home/jovyan": (b"5", 0o755, ""), "root/home/jovyan/x": (b"5", 0o755, ""),
        "root/code": (b"5", 0o755, ""), "root/code/dir": (b"5", 0o755, ""), "root/code/dir/tool": (b"0", 0o755, ""),
        "root/code/dir/link": (b"2", 0o777, "../x \udce9"), "root/code/module": (b"5", 0o755, ""), "root/code/odd \udce9\n": (b"0", 0o644, ""),
        "root/code/README.md": (b"0", 0o644, ""),
    }  # fmt: skip


def test_the_same_content_is_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    before = make_tar()
    old = os.umask(0o077)
    try:
        monkeypatch.setattr(time, "time", lambda: 1e9)
        assert make_tar() == before
    finally:
        os.umask(old)


def test_copies_are_whole_in_every_place() -> None:
    with tarfile.open(fileobj=io.BytesIO(make_tar({"README.md": ["root/srv/a", "root/srv/deep/b"], "dir/link": ["root/srv/l"]}))) as tar:
        files = {member.name: tar.extractfile(member).read() for member in tar if member.isfile()}  # type: ignore[union-attr]
        links = {member.name for member in tar if member.issym()}
    assert {name: files[name] for name in ("root/code/README.md", "root/srv/a", "root/srv/deep/b")} == dict.fromkeys(("root/code/README.md", "root/srv/a", "root/srv/deep/b"), b"text")
    assert links == {"root/code/dir/link", "root/srv/l"}


@pytest.mark.parametrize("path", [".wh.x", "dir/.wh.x", ".wh..wh..opq", ".wh.d/x"])
def test_whiteouts_are_refused(path: str) -> None:
    with pytest.raises(RecipeError, match=r"starts with “\.wh\.”") as caught:
        add_tree(Context(io.BytesIO()), CONTENTS, [TreeEntry(path, "100644", "blob", "b3")])  # type: ignore[arg-type]
    assert caught.value.file == path


TREE = Tree("1" * 40, b"".join(f"{mode} {kind} {'2' * 40}\t{path}\0".encode() for mode, kind, path in (
    ("100644", "blob", "README.md"), ("040000", "tree", "a"), ("100644", "blob", "a/x"), ("040000", "tree", "a/b"), ("100644", "blob", "a/b/y"), ("100644", "blob", "ab"),
)))  # fmt: skip


@pytest.mark.parametrize(
    ("copies", "places"),
    [
        ([("README.md", "/srv/r")], {"README.md": ["root/srv/r"]}),
        ([("a", "/srv/a")], {"a/x": ["root/srv/a/x"], "a/b/y": ["root/srv/a/b/y"]}),
        ([("a/x", "/srv/1"), ("a", "/srv/2")], {"a/x": ["root/srv/1", "root/srv/2/x"], "a/b/y": ["root/srv/2/b/y"]}),
        ([("", "/srv")], {"README.md": ["root/srv/README.md"], "a/x": ["root/srv/a/x"], "a/b/y": ["root/srv/a/b/y"], "ab": ["root/srv/ab"]}),
    ],
)
def test_copies(copies: list[tuple[str, str]], places: dict[str, list[str]]) -> None:
    assert find_copies(TREE, copies, "root") == places


def test_a_copy_of_nothing() -> None:
    with pytest.raises(RecipeError, match="“copy” names gone, which this branch does not have"):
        find_copies(TREE, [("gone", "/srv/x")], "root")


# --- child processes ---

ENV = {"PATH": os.environ["PATH"]}


def test_what_a_process_says() -> None:
    done = process.run(["sh", "-c", "cat; echo err >&2; exit 3"], env=ENV, timeout=10, stdin=b"in\xff")
    assert done == process.Output(3, b"in\xff", b"err\n")


def test_it_gets_only_the_given_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "x")
    monkeypatch.setenv(process.MARK, "task")
    out = process.run(["env"], env={**ENV, "A": "1"}, timeout=10).stdout.decode().split()
    assert sorted(out) == sorted([f"PATH={ENV['PATH']}", "A=1", f"{process.MARK}=task"])


def test_a_deadline_ends_the_whole_group(tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(process.DeadlineExceeded, match=r"sh took more than 0\.3 s"):
        process.run(["sh", "-c", f"sleep 300 & echo $! >{tmp_path}/pid; trap '' TERM; wait; sleep 300"], env=ENV, timeout=0.3)
    assert time.monotonic() - began < 6
    child = int((tmp_path / "pid").read_text())
    until = time.monotonic() + 2
    while is_alive(child):
        assert time.monotonic() < until
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_file_that_grows_too_large_is_cut(tmp_path: Path) -> None:
    done = process.run(["dd", "if=/dev/zero", f"of={tmp_path}/x", "bs=1M", "count=3"], env=ENV, timeout=10, max_file=1024**2)
    assert done.code != 0 and (tmp_path / "x").stat().st_size == 1024**2


def test_output_into_a_file(tmp_path: Path) -> None:
    assert process.run(["echo", "x"], env=ENV, timeout=10, stdout=tmp_path / "out").stdout == b""
    assert (tmp_path / "out").read_text() == "x\n"


def test_a_program_that_is_not_installed() -> None:
    with pytest.raises(FileNotFoundError):
        process.run(["no-such-program-here"], env=ENV, timeout=10)


def test_an_interrupt_leaves_nothing_behind() -> None:
    code = (
        "import signal, sys\nfrom hubdock.drivers import process\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(1))\n"
        "print('ready', flush=True)\nprocess.run(['sleep', '299.5'], env={'PATH': '/usr/bin:/bin'}, timeout=60)"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert child.stdout is not None and child.stdout.readline() == b"ready\n"
    until = time.monotonic() + 5
    while not (sleeping := find_children(child.pid)):
        assert time.monotonic() < until
        time.sleep(0.02)
    time.sleep(0.05)
    child.send_signal(signal.SIGTERM)
    child.wait(10)
    child.stdout.close()
    assert not any(is_alive(pid) for pid in sleeping)


def find_children(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in found if Path(f"/proc/{child}/comm").read_text() == "sleep\n"]
