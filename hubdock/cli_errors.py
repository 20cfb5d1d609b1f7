"""How the command line ends: what it prints of an error, and its exit codes."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path

from hubdock.core.errors import BackendError, CapacityError, ConfigError, HubDockError, RecipeError, RequestError, ResolveError

EXPLAINED = (
    "Exit codes: 0 done; 1 a build or a server failed; 2 wrong use, input or configuration; 3 the repository or branch can't be had; "
    "4 a file of the repository is wrong; 5 no capacity, or Docker, a registry or an index does not answer; 130 stopped by Ctrl-C."
)
_CODES = ((RequestError, 2), (ConfigError, 2), (ResolveError, 3), (RecipeError, 4), (CapacityError, 5), (BackendError, 5))
_UNKNOWN = "This should not have happened. Run it again with --verbose, and report what it prints."


class Failed(Exception):
    """A build failed: its error, the last lines of the part at fault, the build's id, where the part's whole log is, and which parts go on."""

    def __init__(self, error: HubDockError, tail: list[str], build: str, log: Path | None, going_on: list[str]) -> None:
        super().__init__(str(error))
        self.error, self.tail, self.build, self.log, self.going_on = error, tail, build, log, going_on


class Reporter:
    """Prints errors: in words on stderr, or as JSON on stdout; with ``verbose`` their details too. Each method returns the exit code."""

    def __init__(self, as_json: bool, verbose: bool) -> None:
        self.as_json, self.verbose = as_json, verbose

    def tell(self, error: HubDockError) -> int:
        """Print an error: ``file:line: message`` where the place is known."""
        if self.as_json:
            from hubdock.cli_output import print_json

            print_json({"error": error.as_dict()})
        else:
            print(error if error.place else f"hubdock: {error}", file=sys.stderr)
        if self.verbose and error.detail:
            print(error.detail, file=sys.stderr)
        return next((code for kind, code in _CODES if isinstance(error, kind)), 1)

    def tell_any(self, error: Exception) -> int:
        """Print an error of any kind: hubdock's, a failed build's with the end of its log, wrong use of the command line, or a fault."""
        if isinstance(error, HubDockError):
            return self.tell(error)
        if isinstance(error, Failed):
            self._quote(error)
            return self.tell(error.error)
        if hasattr(error, "format_message") and hasattr(error, "exit_code"):  # click's, or those of the copy that newer Typers bring
            where = getattr(getattr(error, "ctx", None), "command_path", "hubdock")
            return self.tell(RequestError(f"{error.format_message().rstrip('.')}. `{where} --help` says more."))
        from hubdock.core.text import make_plain, redact

        if self.verbose:
            traceback.print_exception(error)
        return self.tell(HubDockError(f"{type(error).__name__}: {make_plain(redact(str(error)), 300)}. {_UNKNOWN}"))

    def _quote(self, failed: Failed) -> None:
        for line in failed.tail:
            print(f"  {line}", file=sys.stderr)
        if failed.log:
            print(f"The whole log: {failed.log} (`hubdock logs {failed.build[:8]}`)", file=sys.stderr)
        if failed.going_on:
            print(f"Still under way, so that the next start finds it: {', '.join(failed.going_on)}.", file=sys.stderr)
