"""Studies in fresh processes with empty caches: seconds, and the share of the compiler."""

import argparse
import contextlib
import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from typing import Any

import jax

from kernelgap import cli
from kernelgap.studies import STUDIES

_PREFIX = "/jax/core/compile/"


def main() -> None:
    """Print a row for each study."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("studies", nargs="*", help="names, or `all` for `run all`; each when empty")
    parser.add_argument("--preset", default="quick")
    parser.add_argument("--out", help="folder in which results are kept, a folder for each study")
    parser.add_argument("--programs", type=int, default=0, metavar="N", help="list the N slowest")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        _run(*arguments.child)
        return
    print(f"jax {jax.__version__}, {os.cpu_count()} cores, preset {arguments.preset}; s\n")
    print("| study | wall | CPU | cells | compiling | share | programs |")
    print("|---|---|---|---|---|---|---|")
    for study in arguments.studies or STUDIES:
        with tempfile.TemporaryDirectory() as folder:
            out = os.path.join(arguments.out or folder, study)
            row = _in_fresh_process(study, arguments.preset, out)
        print(
            f"| {study} | {row['wall']:.1f} | {row['cpu']:.1f} | {row['cells']:.1f} "
            f"| {row['compiling']:.1f} | {row['compiling'] / row['cells']:.0%} "
            f"| {row['programs']} |",
            flush=True,
        )
        for name, (count, seconds) in row["slowest"][: arguments.programs]:
            print(f"    {seconds:7.2f} s {count:4} {name}", flush=True)


def _in_fresh_process(study: str, preset: str, out: str) -> dict[str, Any]:
    unset = {"JAX_COMPILATION_CACHE_DIR", "JAX_ENABLE_X64"}
    environment = {key: value for key, value in os.environ.items() if key not in unset}
    command = [sys.executable, __file__, "--child", study, preset, out]
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    run = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    wall, now = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime
    return json.loads(run.stdout) | {"wall": wall, "cpu": cpu}


def _run(study: str, preset: str, out: str) -> None:
    """Run the command, and print seconds of its cells and of the compiler in all threads."""
    stages: dict[int, list[tuple[float, float]]] = defaultdict(list)
    programs: dict[str, list] = defaultdict(lambda: [0, 0.0])

    def listen(event: str, duration_secs: float, **kwargs: str | int) -> None:
        if event.startswith(_PREFIX):
            end = time.perf_counter()
            stages[threading.get_ident()].append((end - duration_secs, end))
            program = programs[str(kwargs.get("fun_name", "?"))]
            if event == _PREFIX + "backend_compile_duration":
                program[0] += 1
                program[1] += duration_secs

    jax.monitoring.register_event_duration_secs_listener(listen)
    printed = io.StringIO()
    command = ["run", study, "--preset", preset, "--out", out, "--no-progress", "--overwrite"]
    with contextlib.redirect_stdout(printed):
        failed = cli.main([*command, "--json"])
    if failed:
        raise SystemExit(printed.getvalue())
    documents = json.loads(printed.getvalue())
    documents = documents["results"] if study == "all" else [documents]
    cells = sum(document["provenance"]["seconds"]["cells"] for document in documents)
    slowest = sorted(programs.items(), key=lambda item: -item[1][1])
    compiling = sum(map(_length_of_union, stages.values()))
    count = sum(count for count, _ in programs.values())
    row = {"cells": cells, "compiling": compiling, "programs": count, "slowest": slowest}
    print(json.dumps(row))


def _length_of_union(intervals: list[tuple[float, float]]) -> float:
    """Return the time covered by stages of one thread: tracing a program traces its parts."""
    total, last = 0.0, -float("inf")
    for start, end in sorted(intervals):
        total += max(0.0, end - max(start, last))
        last = max(last, end)
    return total


if __name__ == "__main__":
    main()
