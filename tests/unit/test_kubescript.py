"""What a build's container runs, with programs in BuildKit's place: whose fault a failure is, and that it can be stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from hubdock.core.kubescript import INFRASTRUCTURE, SCRIPT, USER_ERROR

DAEMON = '#!/bin/sh\necho "daemon $*"\ntrap "echo stopped >>$LOG; exit 0" TERM\n[ -n "${DEAD:-}" ] && exit 1\ntouch $READY\nwhile :; do sleep 0.05; done\n'
CLIENT = """#!/bin/sh
[ "$1" = debug ] && { [ -e $READY ]; exit; }
echo "$@" >>$LOG
for word; do [ "$last" = --metadata-file ] && printf '{\\n "containerimage.config.digest": "sha256:1",\\n "containerimage.digest": "sha256:0ab"\\n}' >$word; last=$word; done
echo "$OUTPUT" >&2
exit ${CODE:-0}
"""


class Pod:
    """The container of a build."""

    def __init__(self, path: Path) -> None:
        self.path = path
        for name, text in (("rootlesskit", DAEMON), ("buildctl", CLIENT)):
            program = path / "bin" / name
            program.parent.mkdir(exist_ok=True)
            program.write_text(text)
            program.chmod(0o755)
        self.script = SCRIPT.replace("/tmp/hubdock", f"{path}/work").replace("/dev/termination-log", f"{path}/end").replace("kill -TERM -1", "kill -TERM $daemon").replace("kill -KILL -1", ":")

    def start(self, env: Mapping[str, str]) -> subprocess.Popen[str]:
        known = {
            "PATH": f"{self.path}/bin:{os.environ['PATH']}", "READY": f"{self.path}/ready", "LOG": f"{self.path}/log", "XDG_RUNTIME_DIR": str(self.path),
            "HUBDOCK_DOCKERFILE": "FROM x\n", "HUBDOCK_CONFIG": "", "HUBDOCK_ARGS": "", "OUTPUT": "{}",
        }  # fmt: skip
        return subprocess.Popen(["/bin/sh", "-c", self.script, "sh", "--opt", "a b"], env={**known, **env}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def run(self, **env: str) -> tuple[int, str]:
        process = self.start(env)
        output, _ = process.communicate(timeout=30)
        return process.returncode, output

    @property
    def log(self) -> str:
        return (self.path / "log").read_text()


@pytest.fixture
def pod(tmp_path: Path) -> Pod:
    return Pod(tmp_path)


def test_a_build_says_its_digest(pod: Pod) -> None:
    code, output = pod.run(OUTPUT='{"vertexes":[]}')
    assert (code, output) == (0, '{"vertexes":[]}\n')
    assert (pod.path / "end").read_text().strip() == "sha256:0ab"
    assert "--opt a b" in pod.log and "stopped" in pod.log, "the daemon ends in order, so that its cache is whole"
    assert (pod.path / "work" / "Dockerfile").read_text() == "FROM x\n"


def test_arguments_come_from_the_environment(pod: Pod) -> None:
    assert pod.run(HUBDOCK_ARGS="http_proxy no_proxy", http_proxy="http://a:1/$x `y`", no_proxy="")[0] == 0
    assert "--opt build-arg:http_proxy=http://a:1/$x `y` --opt build-arg:no_proxy=" in pod.log


def test_a_step_that_fails_is_the_users(pod: Pod) -> None:
    line = '{"vertexes":[{"error":"process \\"/bin/sh -c false\\" did not complete successfully: exit code: 1"}]}'
    assert pod.run(CODE="1", OUTPUT=line)[0] == USER_ERROR


def test_anything_else_is_not(pod: Pod) -> None:
    code, output = pod.run(CODE="1", OUTPUT='{"vertexes":[{"error":"failed to push: connection refused"}]}')
    assert code == INFRASTRUCTURE and "daemon buildkitd" in output, "the daemon's last words are in the log"


def test_a_daemon_that_does_not_come_up(pod: Pod) -> None:
    code, output = pod.run(DEAD="1")
    assert code == INFRASTRUCTURE and "daemon buildkitd" in output


def test_it_stops_when_it_is_told_to(pod: Pod) -> None:
    (pod.path / "bin" / "buildctl").write_text('#!/bin/sh\n[ "$1" = debug ] && { [ -e $READY ]; exit; }\ntouch $LOG\nexec sleep 3\n')
    process = pod.start({})
    while not (pod.path / "log").exists():
        time.sleep(0.02)
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=10) == 143 and time.monotonic() - began < 2.5
    assert "stopped" in pod.log
