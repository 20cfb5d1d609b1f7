"""Becomes the single-user server, or JupyterLab where there is no hub.

    python server.py [Jupyter's arguments]

Two things differ from Jupyter's own commands. Its boot is trimmed (``HUBDOCK_TRIM=0`` leaves it alone): jsonschema imports ``rfc3987_syntax`` if it
can, which compiles a grammar for over a second, only to check ``iri`` formats; here it finds none. And what jupyterhub imports for the hub's own part, its
database and pages, is loaded when somebody uses it, which a server does not. Kernels are processes of their own and see nothing of that. And it serves its first request only when the workspace is ready, which was prepared meanwhile by the process whose id is in
``HUBDOCK_SEED_PID``.
"""

import importlib
import importlib.util
import os
import sys
import types

FULL = 28  # as in start.py
DATABASE = ("sqlalchemy", "jupyterhub.orm", "jupyterhub.roles")
PAGES = ("jupyterhub.handlers", "jupyterhub.handlers.pages")


def trim():
    """Hide the slow optional import from jsonschema, which goes on without it, and put off what only a hub needs."""
    sys.modules["rfc3987_syntax"] = None
    if "JUPYTERHUB_API_TOKEN" in os.environ:
        try:
            defer_database()
            defer_pages()
        except Exception as error:  # a jupyterhub of another make boots as it does
            print(f"hubdock: the boot is not trimmed: {error}", file=sys.stderr)


def defer_database():
    """Have the modules of the hub's database load at their first use."""
    for name in DATABASE:
        spec = importlib.util.find_spec(name)
        if spec is None or name in sys.modules:
            continue
        spec.loader = importlib.util.LazyLoader(spec.loader)
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        parent, _, attribute = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], attribute, module)


class Pages(types.ModuleType):
    """Stands for the hub's pages, of which the log asks for one class, to know its requests. Whoever wants more gets the real ones."""

    class HealthCheckHandler:
        pass

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        for standing in PAGES:
            if isinstance(sys.modules.get(standing), Pages):
                del sys.modules[standing]
        return getattr(importlib.import_module(self.__name__), name)


def defer_pages():
    """Have the hub's pages load when more than their names is asked for."""
    place = importlib.util.find_spec(PAGES[0])
    for name in PAGES:
        sys.modules[name] = Pages(name)
    sys.modules[PAGES[0]].__path__ = list(place.submodule_search_locations)


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
