"""Becomes the single-user server, or JupyterLab where there is no hub.

    python server.py [Jupyter's arguments]

Two things differ from Jupyter's own commands. Its boot is trimmed (``HUBDOCK_TRIM=0`` leaves it alone): jsonschema imports ``rfc3987_syntax`` if it
can, which compiles a grammar for over a second, only to check ``iri`` formats; here it finds none. Kernels are processes of their own and see
nothing of that. And it serves its first request only when the workspace is ready, which was prepared meanwhile by the process whose id is in
``HUBDOCK_SEED_PID``.
"""

import os
import sys

FULL = 28  # as in start.py


def trim():
    """Hide the slow optional import from jsonschema, which goes on without it."""
    sys.modules["rfc3987_syntax"] = None


def wait_for_workspace():
    """Wait for the process that prepares the workspace; without a workspace there is nothing to serve."""
    seed = os.environ.pop("HUBDOCK_SEED_PID", "")
    if not seed:
        return
    _, status = os.waitpid(int(seed), 0)
    code = os.waitstatus_to_exitcode(status)
    if code:
        why = "No space left on device" if code == FULL else read_failure() or f"exit code {code}"
        print(f"hubdock: the workspace could not be prepared ({why})", file=sys.stderr, flush=True)
        os._exit(code if code > 0 else 1)


def read_failure():
    """Return what start.py says of the failure, empty if it could not say anything."""
    try:
        with open("/tmp/hubdock/failure", encoding="utf-8") as file:
            return " ".join(file.read().split())[:1000]
    except OSError:
        return ""


def serve_when_ready():
    """Make the server wait just before its first request. Its port is open by then, so nothing is lost."""
    from jupyter_server.serverapp import ServerApp

    start = ServerApp.start

    def start_when_ready(self):
        wait_for_workspace()
        start(self)

    ServerApp.start = start_when_ready


def main():
    sys.path[:] = [path for path in sys.path if path != os.path.dirname(os.path.abspath(__file__))]
    if os.environ.pop("HUBDOCK_TRIM", "1") != "0":
        trim()
    serve_when_ready()
    if "JUPYTERHUB_API_TOKEN" in os.environ:
        from jupyterhub.singleuser import main as serve
    else:
        from jupyterlab.labapp import main as serve
    sys.exit(serve())


if __name__ == "__main__":
    main()
