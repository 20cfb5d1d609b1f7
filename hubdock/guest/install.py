"""Installs what ``settings/install.json`` says into ``/opt/conda``, as one step of a build: install.py STEP PROJECT, under ``python -I`` as jovyan.

    dvc           DVC into /opt/dvc
    wheels        everything from wheels: no code of any package runs here, for the cache is shared
    resolve       find the versions, building what has no wheel; writes them to /tmp/hubdock-pins
    pinned        install those versions that have wheels, from the shared cache, before any package code has run in this stage
    source        install the rest, building it with a cache of this environment alone

Exit codes tell the worker what happened; the text is uv's own.
"""

import json
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import bytecode

BASE = "/tmp/hubdock"
BYTECODE = f"{BASE}/bytecode"
PROJECT = sys.argv[2] if len(sys.argv) > 2 else f"{BASE}/project"
PINS = "/tmp/hubdock-pins"
PYTHON = "/opt/conda/bin/python"
NEEDS_SOURCE, UNSATISFIABLE, INDEX_FAILED, BUILD_FAILED, REPLACES, LOCK_FAILED = 10, 11, 12, 13, 14, 15
TENSORFLOW = {"tensorflow", "tensorflow-cpu", "tensorflow-gpu", "tensorflow-rocm", "tf-nightly", "tf-nightly-cpu", "intel-tensorflow"}
PIN = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9.!+_-]+$")
NETWORK = re.compile(r"error sending request|Failed to fetch|Could not connect|status code 5\d\d|HTTP status server error|dns error|timed out|operation timed out", re.I)
BUILD = re.compile(r"Failed to build|Call to `[^`]+` failed|build backend|Build backend", re.S)
ADDED = re.compile(r"^ [+~] ([A-Za-z0-9][A-Za-z0-9._-]*)==(\S+)", re.M)


def read_settings():
    """Return install.json: main, kind, roots, overrides, replaces, index_url, extra_index_urls; or dvc."""
    with open(f"{BASE}/settings/install.json", encoding="utf-8") as file:
        return json.load(file)


def make_environment(settings):
    """Return uv's environment: the indexes, and their credentials from the build secret, for uv alone."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("UV_", "PIP_"))}
    env.update(UV_CACHE_DIR=f"{BASE}/cache", UV_LINK_MODE="copy", UV_NO_CONFIG="1", UV_PYTHON_DOWNLOADS="never", NO_COLOR="1", HOME="/tmp")
    if settings["index_url"]:
        env["UV_DEFAULT_INDEX"] = settings["index_url"]
    if settings["extra_index_urls"]:
        env.update(UV_INDEX=" ".join(settings["extra_index_urls"]), UV_INDEX_STRATEGY="unsafe-best-match")
    if os.path.exists("/run/secrets/netrc"):
        env["NETRC"] = "/run/secrets/netrc"
    return env


def uv(settings, *arguments):
    """Run uv, show what it prints, and return (exit code, text)."""
    command = [f"{BASE}/tools/uv", *arguments]
    process = subprocess.Popen(command, env=make_environment(settings), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=PROJECT)
    lines = []
    for raw in process.stdout:
        line = raw.decode("utf-8", "replace")
        lines.append(line)
        print(line, end="", flush=True)
    return process.wait(), "".join(lines)


def fail(text, wheels_only):
    """Exit with the code for uv's message."""
    if NETWORK.search(text) and not re.search("unsatisfiable", text):
        sys.exit(INDEX_FAILED)
    if wheels_only:
        sys.exit(NEEDS_SOURCE)
    sys.exit(BUILD_FAILED if BUILD.search(text) else UNSATISFIABLE)


def requirement_arguments(settings):
    """Return the arguments that name the user's requirements and Jupyter's roots."""
    if settings["kind"] == "uv":
        target = "/tmp/locked.txt"
        directory = os.path.dirname(settings["main"]) or "."
        code, _ = uv(settings, "export", "--quiet", "--frozen", "--no-emit-project", "--no-hashes", "--no-header", "--python", PYTHON,
                     "--directory", directory, "--output-file", target)  # fmt: skip
        if code:
            sys.exit(LOCK_FAILED)
        main = target
    else:
        main = settings["main"]
    arguments = ["--python", PYTHON, "--requirements", main, *settings["roots"]]
    if settings["overrides"]:  # git requirements at the commits that the plan found
        with open("/tmp/overrides.txt", "w", encoding="utf-8") as file:
            file.write("\n".join(settings["overrides"]) + "\n")
        arguments += ["--overrides", "/tmp/overrides.txt"]
    return arguments


def find_installed():
    """Return the names of the TensorFlow distributions in /opt/conda, without running its Python again."""
    site = next(path for path in sys.path if path.startswith("/opt/conda") and path.endswith("site-packages")) if not sys.flags.no_site else ""
    names = {re.sub(r"[-_.]+", "-", entry.split("-")[0]).lower() for entry in os.listdir(site) if entry.endswith(".dist-info")}
    return names & TENSORFLOW


def remove_replaced(settings, arguments, *options):
    """Uninstall a TensorFlow that another variant is about to replace: their wheels hold the same files, so it must go first."""
    present = find_installed()
    if not present:
        return
    code, text = uv(settings, "pip", "install", "--dry-run", *options, *arguments)
    if code:
        fail(text, "--no-build" in options)
    coming = {name.lower().replace("_", "-") for name, _ in ADDED.findall(text)}
    leaving = sorted(present - coming) if coming & TENSORFLOW else []
    if leaving:
        print(f"hubdock: {', '.join(sorted(coming & TENSORFLOW))} replaces {', '.join(leaving)}", flush=True)
        uv(settings, "pip", "uninstall", "--python", PYTHON, *leaving)


def install_wheels(settings):
    """Install. Whether a TensorFlow is replaced is asked first only where it is likely: resolving twice costs most starts half a second."""
    arguments = requirement_arguments(settings)
    present = find_installed()
    if settings["replaces"]:
        remove_replaced(settings, arguments, "--no-build")
    code, text = uv(settings, "pip", "install", "--no-build", *arguments)
    if code:
        fail(text, wheels_only=True)
    coming = {name.lower().replace("_", "-") for name, _ in ADDED.findall(text)} & TENSORFLOW
    if coming and present - coming and not settings["replaces"]:
        sys.exit(REPLACES)


def resolve(settings):
    arguments = requirement_arguments(settings)
    code, text = uv(settings, "pip", "install", "--dry-run", *arguments)
    if code:
        fail(text, wheels_only=False)
    os.makedirs(PINS, exist_ok=True)
    with open(f"{PINS}/pins.txt", "w", encoding="utf-8") as file:
        file.writelines(f"{name}=={version}\n" for name, version in ADDED.findall(text))


def install_pinned(settings):
    """Install the pins that have wheels. The list comes from a stage where package code ran, so each line is held to ``name==version``."""
    with open(f"{PINS}/pins.txt", encoding="utf-8") as file:
        pins = [line.strip() for line in file if PIN.match(line.strip())]
    coming = {pin.split("==")[0].lower().replace("_", "-") for pin in pins}
    leaving = sorted(find_installed() - coming) if coming & TENSORFLOW else []
    if leaving:
        uv(settings, "pip", "uninstall", "--python", PYTHON, *leaving)
    while pins:
        code, text = uv(settings, "pip", "install", "--python", PYTHON, "--no-build", "--no-deps", *pins)
        if not code:
            return
        if NETWORK.search(text):
            sys.exit(INDEX_FAILED)
        left = [pin for pin in pins if not re.search(rf"(?<![A-Za-z0-9._-]){re.escape(pin.split('==')[0])}(?![A-Za-z0-9_-])", text, re.I)]
        pins = left if len(left) < len(pins) else []


def install_source(settings):
    code, text = uv(settings, "pip", "install", *requirement_arguments(settings))
    if code:
        fail(text, wheels_only=False)


def install_dvc(settings):
    code, text = uv(settings, "venv", "--quiet", "--python", PYTHON, "--allow-existing", "/opt/dvc")
    if not code:
        code, text = uv(settings, "pip", "install", "--no-build", "--python", "/opt/dvc/bin/python", *settings["dvc"])
    if code:
        fail(text, wheels_only=True)


def main():
    step = sys.argv[1]
    settings = read_settings()
    steps = {"wheels": install_wheels, "resolve": resolve, "pinned": install_pinned, "source": install_source, "dvc": install_dvc}
    bytecode.close_imports()
    steps[step](settings)
    if step != "resolve":
        bytecode.write("/opt/dvc/lib" if step == "dvc" else "/opt/conda/lib", "" if step == "source" else BYTECODE)


if __name__ == "__main__":
    main()
