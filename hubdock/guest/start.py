"""The command of every image: prepares the workspace beside the boot of Jupyter, and gives way to it.

    python -I -S start.py [Jupyter's arguments]

What to do stands in ``/hubdock/run/start.json``, which the spawner puts into the container, or which is fetched from hubdock's service while Jupyter boots where
no spawner can (Kubernetes: ``HUBDOCK_SERVICE_URL``); without either (``docker run IMAGE``) the workspace is the code of the image. The document's fields are those of
`hubdock.engine.launch.make_start`.
"""

import json
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
PYTHON = "/opt/conda/bin/python"
FULL = 28  # ENOSPC, also for a full quota and for what git says: an exit code that server.py tells once more, last
RUN, SCRATCH = "/hubdock/run", "/tmp/hubdock"
# What a home lacks comes from here: a volume hides what the image has in it, and only Docker fills an empty one.
HOME_SEEDS = ("/hubdock/home", "/etc/skel")


def read_json(path):
    """Return a file's JSON, or None if there is no such file."""
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except FileNotFoundError:
        return None


def write_git_config(document):
    """Write git's lowest configuration: the image's own, and a name for commits that anything of the user's overrides.

    The root of a volume may be root's (Kubernetes), and git refuses to work in what is somebody else's unless it is named here.
    """
    lines, author = ["[include]", "\tpath = /etc/gitconfig", "[push]", "\tautoSetupRemote = true"], document.get("author")
    if os.stat(document["workspace"]).st_uid != os.getuid():
        lines += ["[safe]", f"\tdirectory = {json.dumps(document['workspace'])}"]
    if author:
        lines += ["[user]", *(f"\t{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in author.items())]
    path = f"{SCRATCH}/gitconfig"
    with open(path, "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
    return path


def seed_home(home, seed):
    """Copy what a directory has for a home, where it is not there yet.

    What can't be copied is told and left out. A full disk, or a file where a directory is wanted, is mended in the server, which must start.
    """
    for directory, _, names in os.walk(seed):
        target = os.path.normpath(os.path.join(home, os.path.relpath(directory, seed)))
        for name in names:
            source, place = os.path.join(directory, name), os.path.join(target, name)
            if os.path.lexists(place):
                continue
            try:
                os.makedirs(target, exist_ok=True)
                with open(source, "rb") as old, open(f"{place}.hubdock", "wb") as new:
                    new.write(old.read())
                os.chmod(f"{place}.hubdock", os.stat(source).st_mode & 0o777)
                os.rename(f"{place}.hubdock", place)
            except OSError as error:
                print(f"hubdock: {place} could not be put into the home: {error}", file=sys.stderr)


def make_environment(document):
    """Set what Jupyter and the terminals in it need."""
    home = os.environ.setdefault("HOME", "/home/jovyan")
    os.makedirs(SCRATCH, mode=0o700, exist_ok=True)
    os.environ["GIT_CONFIG_SYSTEM"] = write_git_config(document)
    os.environ.setdefault("JUPYTER_RUNTIME_DIR", f"{SCRATCH}/runtime")
    os.environ.setdefault("JUPYTERLAB_WORKSPACES_DIR", f"{document['workspace']}/.git/hubdock/lab-workspaces")
    for seed in HOME_SEEDS:
        seed_home(home, seed)


def receive_document():
    """Return the document once the service has given it."""
    import receive

    receive.receive(os.environ)
    document = read_json(f"{RUN}/start.json")
    write_git_config(document)
    return document


def tell_failure(text):
    """Say why there is no workspace, and leave it for server.py, whose last words reach the user."""
    print(f"hubdock: the workspace could not be prepared: {text}", file=sys.stderr)
    try:
        with open(f"{SCRATCH}/failure", "w", encoding="utf-8", errors="replace") as file:
            file.write(text)
    except OSError:
        return


def fork_workspace(document):
    """Start preparing the workspace, and return the process that does. ``document`` is None if it has to be fetched first."""
    sys.stderr.flush()
    seed = os.fork()
    if seed:
        return seed
    code = 1
    try:
        sys.path.insert(0, HERE)
        import workspace

        code = workspace.prepare(document or receive_document())
    except BaseException as error:  # whatever it is, the server must not wait for ever
        import traceback

        traceback.print_exc()
        tell_failure(str(error))
        code = FULL if "No space left" in str(error) or "quota exceeded" in str(error) else 1
    finally:
        sys.stderr.flush()
        os._exit(code)


def become_server(document, seed, arguments):
    """Become Jupyter, or the command of ``.hubdock.yml`` once the workspace is there."""
    os.chdir(document["workspace"])
    command = json.loads(os.environ.get("HUBDOCK_COMMAND") or "[]")
    if command:
        _, status = os.waitpid(seed, 0)
        if status:
            sys.exit(1)
        os.execvp(command[0], [*command, *arguments])
    if "JUPYTERHUB_API_TOKEN" not in os.environ:
        given = " ".join(arguments)
        arguments = [*(["--ip=0.0.0.0"] if "ip=" not in given else []), "--no-browser", f"--ServerApp.root_dir={document['workspace']}", *arguments]
    os.environ["HUBDOCK_SEED_PID"] = str(seed)
    os.execv(PYTHON, [PYTHON, f"{HERE}/server.py", *arguments])


def main():
    image = read_json("/hubdock/image.json")
    document = read_json(f"{RUN}/start.json")
    known = document or {"workspace": image["workspace"]}
    os.makedirs(known["workspace"], exist_ok=True)
    make_environment(known)
    seed = fork_workspace(None if document is None and "HUBDOCK_SERVICE_URL" in os.environ else known)
    become_server(known, seed, sys.argv[1:])


if __name__ == "__main__":
    main()
