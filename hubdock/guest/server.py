"""Becomes the single-user server, or JupyterLab where there is no hub.

    python server.py [Jupyter's arguments]

Two things differ from Jupyter's own commands. Its boot is trimmed (``HUBDOCK_TRIM=0`` leaves it alone): jsonschema imports ``rfc3987_syntax`` if it
can, which compiles a grammar for over a second, only to check ``iri`` formats; here it finds none. What jupyterhub imports for the hub's own part, its
database and pages, is loaded when somebody uses it, which a server does not. And garbage is collected only once it serves: a boot makes almost none, and looking
for it takes a seventh of the boot. Kernels are processes of their own and see nothing of that. And it serves its first request only when the workspace is ready,
which was prepared meanwhile by the process whose id is in ``HUBDOCK_SEED_PID``.
"""

import gc
import importlib
import importlib.machinery
import os
import sys
import types

FULL = 28  # as in start.py
HUB = ("jupyterhub.orm", "jupyterhub.roles", "jupyterhub.handlers", "jupyterhub.handlers.pages")


def trim():
    """Hide the slow optional import from jsonschema, which goes on without it, and put off what only a hub needs, and the collection of garbage."""
    gc.disable()
    sys.modules["rfc3987_syntax"] = None
    if "JUPYTERHUB_API_TOKEN" in os.environ:
        try:
            defer()
            import_utils()
        except Exception as error:  # a jupyterhub of another make boots as it does
            print(f"hubdock: the boot is not trimmed: {error}", file=sys.stderr)


class Standing(types.ModuleType):
    """Stands for a module that nobody may want. Whoever asks it for something gets the real one's, and from then on everybody has the real ones."""

    def __getattr__(self, name):
        if name.startswith("__") and not (name == "__path__" and self.__spec__.submodule_search_locations):
            raise AttributeError(name)
        for standing in [name for name, module in sys.modules.items() if isinstance(module, Standing)]:
            del sys.modules[standing]
        return getattr(importlib.import_module(self.__name__), name)


def defer():
    """Have the hub's database and pages loaded when they are used."""
    import jupyterhub

    places = {"": None, "jupyterhub": jupyterhub.__path__}
    for name in ("sqlalchemy", *HUB):
        spec = importlib.machinery.PathFinder.find_spec(name, places[name.rpartition(".")[0]])
        places[name] = spec.submodule_search_locations
        if name not in sys.modules:
            standing = sys.modules[name] = Standing(name)
            standing.__spec__ = spec
            if name == HUB[-1]:
                standing.HealthCheckHandler = type("HealthCheckHandler", (), {})  # the log asks for it, to know its requests


def import_utils():
    """Import jupyterhub's utils without the database's errors, of which it wants one, to catch it in the hub's own pages. Everybody else gets the real ones."""
    name = "sqlalchemy.exc"
    if name in sys.modules:
        return
    standing = sys.modules[name] = types.ModuleType(name)
    standing.SQLAlchemyError = type("SQLAlchemyError", (Exception,), {})
    try:
        importlib.import_module("jupyterhub.utils")
    finally:
        del sys.modules[name]


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
        gc.freeze()  # what a boot leaves stays for good, and need not be looked at again
        gc.enable()
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
