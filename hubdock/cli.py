"""The command ``hubdock``: plan, build and run from a terminal with the engine of the service, and look after what they stand on. No hub is needed.

Only what every command needs is imported at the top: ``--help`` and shell completion answer at once.
"""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hubdock.cli_errors import EXPLAINED, Reporter
from hubdock.core.errors import BuildCancelled, DataGone, ImageGone
from hubdock.interrupt import CODE, Interrupted, install

if TYPE_CHECKING:
    from hubdock.core.options import Options
    from hubdock.engine.config import HubDock

HELP = "From a repository and a branch to JupyterLab. The options below, but for --version, may stand before or after the name of a command."

app = typer.Typer(
    name="hubdock", help=HELP, epilog=EXPLAINED, invoke_without_command=True, rich_markup_mode=None,
    pretty_exceptions_enable=False, context_settings={"help_option_names": ["-h", "--help"]},
)  # fmt: skip

Config = Annotated[Path | None, typer.Option("--config", metavar="FILE", help="Settings: a .json or .py file. Default: HUBDOCK_CONFIG.")]
StateDir = Annotated[Path | None, typer.Option("--state-dir", metavar="DIR", help="Directory of database, logs and copies; overrides the settings.")]
AsJSON = Annotated[bool, typer.Option("--json", help="Print one JSON document, errors too.")]
Verbose = Annotated[bool, typer.Option("--verbose", help="Print all output of builds, and details of errors.")]
Repo = Annotated[str, typer.Argument(metavar="REPO", help="Address of the repository: https://… or ssh://…")]
Ref = Annotated[str, typer.Argument(metavar="REF", help="Branch or tag.")]
NewBranch = Annotated[str, typer.Option("--new-branch", metavar="NAME", help="Start a new branch of this name from REF.")]
GPU = Annotated[int, typer.Option("--gpu", metavar="N", min=0, help="How many GPUs: chooses the base image for them.")]
Rebuild = Annotated[bool, typer.Option("--rebuild", help="Take the newest base image, and renew the packages that are not pinned to one version.")]


@dataclass
class Shared:
    """What was given of the options that every command takes, before its name or after it."""

    config: Path | None = None
    state_dir: Path | None = None
    as_json: bool = False
    verbose: bool = False

    def take(self, config: Path | None, state_dir: Path | None, as_json: bool, verbose: bool) -> None:
        """Add what was given in one of the two places."""
        self.config, self.state_dir = config or self.config, state_dir or self.state_dir
        self.as_json, self.verbose = as_json or self.as_json, verbose or self.verbose


shared = Shared()


def print_version(wanted: bool) -> None:
    """Print the version, and end."""
    if wanted:
        from hubdock import __version__

        typer.echo(f"hubdock {__version__}")
        raise typer.Exit


@app.callback()
def start(
    ctx: typer.Context,
    config: Annotated[Path | None, typer.Option("--config", envvar="HUBDOCK_CONFIG", metavar="FILE", help="Settings: a .json or .py file.")] = None,
    state_dir: StateDir = None, as_json: AsJSON = False, verbose: Verbose = False,
    version: Annotated[bool, typer.Option("--version", callback=print_version, is_eager=True, help="Print the version and exit.")] = False,
) -> None:  # fmt: skip
    """Take the shared options that stand before the name of a command."""
    shared.take(config, state_dir, as_json, verbose)
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())


@app.command()
def plan(
    repo: Repo, ref: Ref, new_branch: NewBranch = "", gpu: GPU = 0, rebuild: Rebuild = False,
    config: Config = None, state_dir: StateDir = None, as_json: AsJSON = False, verbose: Verbose = False,
) -> None:  # fmt: skip
    """Show what a start would do, before anything is done."""
    shared.take(config, state_dir, as_json, verbose)
    options = parse({"repo": repo, "ref": ref, "new_branch": new_branch, "gpu": gpu})
    from hubdock.cli_output import make_console, print_json, print_plan
    from hubdock.cli_plan import make_plan, quiet_logs
    from hubdock.engine.assembly import describe_source

    quiet_logs(shared.verbose)
    assembly = make_plan(load(), options, rebuild)
    source = describe_source(assembly.source)
    if shared.as_json:
        print_json({**assembly.plan.as_dict(), "source": source})
    else:
        print_plan(make_console(), assembly.plan, source)


@app.command()
def build(
    repo: Repo, ref: Ref, new_branch: NewBranch = "", gpu: GPU = 0, rebuild: Rebuild = False,
    config: Config = None, state_dir: StateDir = None, as_json: AsJSON = False, verbose: Verbose = False,
) -> None:  # fmt: skip
    """Build the image of a branch, and fetch its data. Ctrl-C stops it."""
    shared.take(config, state_dir, as_json, verbose)
    options = parse({"repo": repo, "ref": ref, "new_branch": new_branch, "gpu": gpu})
    from hubdock.cli_build import build_here
    from hubdock.cli_output import make_console, print_json
    from hubdock.cli_plan import make_plan
    from hubdock.core.text import format_seconds

    settings, console = load(), make_console(stderr=shared.as_json)
    built = build_here(settings, make_plan(settings, options, rebuild), console, shared.verbose)
    if shared.as_json:
        print_json(built.as_dict())
        return
    for notice in built.assembly.plan.notices:
        console.print(f"- {notice}", soft_wrap=True)
    console.print(f"Ready in {format_seconds(built.seconds)}.")
    console.print(f"{built.tag}\n{built.image_id}", soft_wrap=True)


@app.command()
def run(
    repo: Repo, ref: Ref, new_branch: NewBranch = "", rebuild: Rebuild = False,
    port: Annotated[int, typer.Option(min=0, max=65535, metavar="N", help="Port of this machine; 0: a free one.")] = 0,
    cpu: Annotated[str, typer.Option(metavar="CORES", help="Limit of CPU cores, such as 2 or 0.5.")] = "",
    memory: Annotated[str, typer.Option(metavar="SIZE", help="Limit of memory, such as 4G.")] = "",
    shm: Annotated[str, typer.Option(metavar="SIZE", help="Size of /dev/shm, such as 1G.")] = "",
    gpu: GPU = 0,
    gpu_device: Annotated[
        list[str] | None, typer.Option("--gpu-device", metavar="NAME", help="A GPU to use: a CDI name (nvidia.com/gpu=0) or an id (0). Repeatable.")
    ] = None,
    config: Config = None, state_dir: StateDir = None, as_json: AsJSON = False, verbose: Verbose = False,
) -> None:  # fmt: skip
    """Build a branch's image, start it here, and print the address of its Jupyter. Ctrl-C stops it; the work is kept."""
    shared.take(config, state_dir, as_json, verbose)
    devices = tuple(gpu_device or ())
    given = {"repo": repo, "ref": ref, "new_branch": new_branch, "cpu": cpu, "memory": memory, "shm": shm, "gpu": gpu or len(devices)}
    options = parse(given)
    from hubdock.cli_build import build_here
    from hubdock.cli_output import make_console, print_json
    from hubdock.cli_plan import make_plan
    from hubdock.cli_run import Running, serve

    settings, console = load(), make_console(stderr=shared.as_json)

    def announce(running: Running) -> None:
        if shared.as_json:
            print_json(running.as_dict())
            return
        for notice in built.assembly.plan.notices:
            console.print(f"- {notice}", soft_wrap=True)
        console.print(f"JupyterLab is at {running.url}\nCtrl-C stops it. The work is kept in the Docker volume {running.volume}.", soft_wrap=True)

    for last in (False, True):
        built = build_here(settings, make_plan(settings, options, rebuild), console, shared.verbose)
        try:
            serve(settings, built.assembly, port, devices, announce)
            break
        except (ImageGone, DataGone) as error:
            if last:
                raise
            console.print(f"{error.message.partition('. ')[0]}: once more.", soft_wrap=True)
    console.print("Stopped. The next `hubdock run` of this branch opens the same work again.", soft_wrap=True)


@app.command()
def images(config: Config = None, state_dir: StateDir = None, as_json: AsJSON = False, verbose: Verbose = False) -> None:
    """List the images that hubdock made here."""
    shared.take(config, state_dir, as_json, verbose)
    from hubdock.cli_output import make_console, print_images, print_json
    from hubdock.cli_records import describe_images

    found = describe_images(load())
    if shared.as_json:
        print_json(found)
    else:
        print_images(make_console(), found)


@app.command()
def logs(
    build: Annotated[str, typer.Argument(metavar="BUILD", help="A build, or the start of its id. Without it, recent builds are listed.")] = "",
    config: Config = None, state_dir: StateDir = None, as_json: AsJSON = False, verbose: Verbose = False,
) -> None:  # fmt: skip
    """List recent builds, or print the whole log of one."""
    shared.take(config, state_dir, as_json, verbose)
    from hubdock.cli_output import format_event, make_console, print_builds, print_json
    from hubdock.cli_records import find_build, list_builds, read_log
    from hubdock.core.events import Kind

    settings = load()
    if not build:
        builds = list_builds(settings)
        print_json(builds) if shared.as_json else print_builds(make_console(), builds)
        return
    events = read_log(settings, find_build(settings, build))
    if shared.as_json:
        print_json([event.as_dict() for event in events])
        return
    for event in events:
        if event.kind not in {Kind.PROGRESS, Kind.STEP}:
            typer.echo(format_event(event))


@app.command()
def gc(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Remove nothing; say what would go, and why.")] = False,
    budget: Annotated[str, typer.Option(metavar="SIZE", help="What may stay, such as 50G. Default: HubDock.disk_budget.")] = "",
    config: Config = None, state_dir: StateDir = None, as_json: AsJSON = False, verbose: Verbose = False,
) -> None:  # fmt: skip
    """Free disk space: remove what nothing needs, least recently used first. Never what is in use or pinned."""
    shared.take(config, state_dir, as_json, verbose)
    from hubdock.cli_disk import collect
    from hubdock.cli_output import make_console
    from hubdock.cli_plan import quiet_logs

    quiet_logs(shared.verbose)
    collect(load(), make_console(), budget or None, dry_run, shared.as_json)


@app.command()
def workspaces(
    action: Annotated[str, typer.Argument(metavar="ACTION", help="list, delete or restore.")] = "list",
    volume: Annotated[list[str] | None, typer.Argument(metavar="WORKSPACE...", help="What to delete or restore, as listed.")] = None,
    config: Config = None, state_dir: StateDir = None, as_json: AsJSON = False, verbose: Verbose = False,
) -> None:  # fmt: skip
    """List the workspaces of everybody here, delete some (into a trash first), or restore them."""
    shared.take(config, state_dir, as_json, verbose)
    from hubdock.cli_disk import manage_workspaces
    from hubdock.cli_output import make_console

    manage_workspaces(load(), make_console(), action, volume or [], shared.as_json)


@app.command()
def doctor(
    base: Annotated[str, typer.Option("--base", metavar="IMAGE", help="Check whether this image can be a base, instead of the machine.")] = "",
    config: Config = None, state_dir: StateDir = None, as_json: AsJSON = False, verbose: Verbose = False,
) -> None:  # fmt: skip
    """Check what hubdock stands on, and say how to mend it."""
    shared.take(config, state_dir, as_json, verbose)
    from hubdock.cli_output import make_console, print_checks, print_json
    from hubdock.doctor import diagnose
    from hubdock.doctor_base import check_base

    made = []
    checks = check_base(base) if base else diagnose(shared.config, shared.state_dir)
    console = make_console()
    for check in checks:
        made.append(check)
        if not shared.as_json:
            print_checks(console, [check])
    fine = all(check.status != "fail" for check in made)
    if shared.as_json:
        print_json({"ok": fine, "checks": [check.as_dict() for check in made]})
    raise typer.Exit(0 if fine else 1)


# --- input and the end ---


def load() -> "HubDock":
    """Return the settings. Raises ConfigError."""
    from hubdock.cli_plan import load_settings

    return load_settings(shared.config, shared.state_dir)


def parse(given: Mapping[str, Any]) -> "Options":
    """Return the choice. Raises RequestError."""
    from hubdock.core.options import parse_options

    return parse_options({name: value for name, value in given.items() if value not in ("", 0, None)} | {"repo": given["repo"], "ref": given["ref"]})


def main() -> None:
    """Run the command line, and exit."""
    install()
    shared.as_json = "--json" in sys.argv  # known even where the command line can't be read
    try:
        code = app(standalone_mode=False) or 0
        sys.stdout.flush()
    except Interrupted:
        Reporter(shared.as_json, shared.verbose).tell(BuildCancelled("Stopped."))
        code = CODE
    except BrokenPipeError:  # `hubdock logs … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except Exception as error:
        code = Reporter(shared.as_json, shared.verbose).tell_any(error)
    sys.exit(code)
