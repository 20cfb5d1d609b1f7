"""``python -m tests.bench [--rounds N] [GROUP ...]``: the ratios that the issues ask for, from one interleaved run."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from config.demo.server import Server
from tests.bench import builds, kube, kubequeue, launches, panel, report
from tests.kit.hub import ROOT, find_gateway

GROUPS = {
    "hits": launches.measure_hits, "queue": launches.measure_queue, "plans": builds.measure_plans, "panel": panel.measure_panel, "data": launches.measure_second_hypothesis,
    "builds": builds.measure_builds, "kube-hits": kube.measure_hits, "kube-edit": kube.measure_edit, "kube-queue": kubequeue.measure_queue, "kube-plans": kube.measure_plans,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("groups", nargs="*", choices=[*GROUPS, []], help="which figures; all unless given")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds of each (5)")
    options = parser.parse_args()
    figures: list[report.Figure] = []
    with tempfile.TemporaryDirectory(prefix="hubdock-bench-") as directory:
        server = Server(Path(directory) / "remote", find_gateway()).start()
        for name in options.groups or GROUPS:
            began = time.monotonic()
            print(f"bench: {name} …", flush=True)
            figures += GROUPS[name](Path(directory) / name, server, options.rounds)
            print(f"bench: {name} took {time.monotonic() - began:.0f} s", flush=True)
        server.shutdown()
    sys.exit(0 if report.write(figures, ROOT / "build" / "bench.json") else 1)


if __name__ == "__main__":
    main()
