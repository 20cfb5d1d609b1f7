"""Tries an environment before anybody gets it: Jupyter starts, a kernel starts, and it can count. Runs inside a container of the environment, or as a step of its build.

The last line it prints says what works or what does not; the exit code is 0 or `FAILED`. A version check is not enough: tornado 6.1 with
jupyter_client 6.1.12 prints its version, and then no kernel starts.
"""

import asyncio
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request

PORT, TOKEN, DEADLINE, FAILED = 18888, "smoke", 120.0, 20
PYTHON = "/opt/conda/bin/python"
LOG, NO_SINGLEUSER = "/tmp/smoke.log", 21
# The hub starts jupyterhub-singleuser, which must at least import: in the process of the server, for they have most modules in common.
SERVER = f"""
import runpy, sys, traceback
sys.path[:] = [path for path in sys.path if path]
sys.modules["rfc3987_syntax"] = None
try:
    import jupyterhub.singleuser
except BaseException:
    traceback.print_exc()
    sys.exit({NO_SINGLEUSER})
sys.argv[:] = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def ask(path, body=None):
    """Return the JSON answer of the server."""
    request = urllib.request.Request(f"http://127.0.0.1:{PORT}{path}", data=body, headers={"Authorization": f"token {TOKEN}"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def read_log():
    """Return the lines of the server's log."""
    with open(LOG, encoding="utf-8", errors="replace") as file:
        return file.readlines()


def wait_for_server(server, until):
    while time.monotonic() < until:
        if server.poll() == NO_SINGLEUSER:
            raise RuntimeError(f"jupyterhub-singleuser can't be imported: {(read_log() or ['?'])[-1].strip()}")
        if server.poll() is not None:
            raise RuntimeError(f"Jupyter ends at once (exit code {server.returncode})")
        try:
            return ask("/api/status")
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.05)
    raise RuntimeError("Jupyter does not answer")


async def count(kernel, until):
    """Run 1+1 in a kernel through the server's own websocket."""
    from tornado.httpclient import HTTPRequest
    from tornado.websocket import websocket_connect

    socket = await websocket_connect(HTTPRequest(f"ws://127.0.0.1:{PORT}/api/kernels/{kernel}/channels?token={TOKEN}"))
    header = {"msg_id": "hubdock", "msg_type": "execute_request", "session": "hubdock", "username": "", "version": "5.3", "date": ""}
    content = {"code": "1+1", "silent": False, "store_history": False, "user_expressions": {}, "allow_stdin": False}
    message = {"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell", "buffers": []}
    await socket.write_message(json.dumps(message))
    while time.monotonic() < until:
        text = await asyncio.wait_for(socket.read_message(), until - time.monotonic())
        if text is None:
            raise RuntimeError("the kernel's connection is closed")
        answer = json.loads(text) if isinstance(text, str) else {}
        if answer.get("msg_type") == "execute_result":
            return answer["content"]["data"].get("text/plain")
        if answer.get("msg_type") == "error":
            raise RuntimeError(f"the kernel answers {answer['content'].get('ename')}")
    raise RuntimeError("the kernel does not answer")


async def watch(kernel):
    """Raise RuntimeError once Jupyter has given a kernel up, of which the websocket says nothing."""
    while True:
        await asyncio.sleep(0.3)
        try:
            await asyncio.to_thread(ask, f"/api/kernels/{kernel}")
        except urllib.error.HTTPError as error:
            if error.code == 404:
                raise RuntimeError("a kernel ends at once") from None
        except OSError:
            continue  # the server itself: `count` notices


async def try_kernel(kernel, until):
    """Return what a kernel says that 1+1 is. Raises RuntimeError as soon as it is known that it says nothing."""
    tasks = [asyncio.create_task(count(kernel, until)), asyncio.create_task(watch(kernel))]
    done, left = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in left:
        task.cancel()
    return done.pop().result()


def main():
    until = time.monotonic() + DEADLINE
    here = os.path.dirname(os.path.abspath(__file__))
    log = open(LOG, "wb")
    arguments = ["--no-browser", f"--port={PORT}", "--ip=127.0.0.1", f"--IdentityProvider.token={TOKEN}", "--ServerApp.root_dir=/tmp"]
    arguments += ["--KernelRestarter.restart_limit=1", "--KernelRestarter.time_to_dead=1"]  # one that does not start now does not start the fifth time
    server = subprocess.Popen([PYTHON, "-c", SERVER, f"{here}/server.py", *arguments], stdout=log, stderr=log, cwd="/tmp")
    try:
        wait_for_server(server, until)
        kernel = ask("/api/kernels", b"{}")["id"]
        found = asyncio.run(try_kernel(kernel, until))
        if found != "2":
            raise RuntimeError(f"the kernel says that 1+1 is {found}")
    except Exception as error:
        print("".join(read_log()[-25:]), flush=True)
        reason = "Jupyter can't start a kernel" if isinstance(error, urllib.error.HTTPError) else f"{error or type(error).__name__}"
        print(f"smoke test: {reason}", flush=True)
        return FAILED
    finally:
        server.kill()
    print("smoke test: Jupyter serves, a kernel answers", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
