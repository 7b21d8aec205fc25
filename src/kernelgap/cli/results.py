"""`kernelgap show` and `kernelgap compare`: what studies wrote, read back without running them."""

import argparse
from typing import Any

from kernelgap.cli.common import add_command, folder, print_json
from kernelgap.studies import STUDIES, Result, compare
from kernelgap.studies.saved import find_results, load

_RESULT = "folder of a run, or the file NAME.json in it"


def add_commands(commands: Any) -> None:
    """`show` and `compare`."""
    parser = add_command(commands, "show", _show, summary="print the table of a finished run")
    folder(parser.add_argument("result", metavar="RESULT", help=_RESULT))
    parser = add_command(
        commands, "compare", _compare, summary="put two runs of one study side by side"
    )
    folder(parser.add_argument("first", metavar="RESULT", help=_RESULT))
    folder(parser.add_argument("second", metavar="RESULT", help="another one of the same study"))


def _load(path: str) -> dict[str, Result]:
    results = [load(file, STUDIES) for file in find_results(path, STUDIES).values()]
    return {result.study.name: result for result in results}


def _show(arguments: argparse.Namespace) -> int:
    results = _load(arguments.result)
    if arguments.json:
        documents = [result.document() for result in results.values()]
        print_json(documents if len(documents) > 1 else documents[0])
        return 0
    print("\n\n".join(described(result) for result in results.values()))
    return 0


def described(result: Result) -> str:
    """A result as `show` and `run` print it: its table, and what it took."""
    provenance = result.provenance
    versions, device = provenance.get("versions", {}), provenance.get("device", {})
    lines = [f"{result.study.name}: {result.study.title}", result.table()]
    seconds = provenance.get("seconds", {})
    lines.append(
        f"{len(result.rows)} rows; compiled {_whole(seconds.get('compile'))} s, ran "
        f"{_whole(seconds.get('run'))} s on {provenance.get('workers', '?')} threads, "
        f"{_whole(seconds.get('wall_of_this_call'))} s in all"
    )
    lines.append(
        f"kernelgap {versions.get('kernelgap', '?')}, jax {versions.get('jax', '?')}, "
        f"{provenance.get('dtype', '?')}, {device.get('count', '?')} x {device.get('kind', '?')}"
    )
    return "\n".join(lines)


def _whole(seconds: float | None) -> str:
    return "?" if seconds is None else f"{seconds:.0f}"


def _compare(arguments: argparse.Namespace) -> int:
    first, second = _load(arguments.first), _load(arguments.second)
    common = [name for name in first if name in second]
    if not common:
        raise ValueError(f"results of one study can be compared; got {', '.join(first)} and "
                         f"{', '.join(second)}")  # fmt: skip
    found = [compare(first[name], second[name]) for name in common]
    if arguments.json:
        documents = [comparison.document() for comparison in found]
        print_json(documents if len(documents) > 1 else documents[0])
        return 0
    print(f"first: {arguments.first}\nsecond: {arguments.second}")
    print("\n\n".join(comparison.table() for comparison in found))
    return 0
