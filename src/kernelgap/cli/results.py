"""`kernelgap list`, `info`, `show` and `compare`: everything that runs no study."""

import argparse
import dataclasses
import importlib.util
import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from kernelgap.cli.compile_cache import cache_folder
from kernelgap.studies import Result, Study, compare
from kernelgap.studies.execution import describe_environment, version
from kernelgap.studies.options import annotations, choices
from kernelgap.studies.store import encode, find_results
from kernelgap.studies.study import load

Action = Callable[[argparse.Namespace], int]
Studies = Mapping[str, Study]

_EXTRAS = {
    "studies": ("matplotlib", "pandas", "tqdm", "sklearn", "shtab"),
    "sklearn": ("sklearn",),
    "test": ("hypothesis", "pytest", "beartype", "sklearn"),
}


def add_command(
    commands: Any, name: str, action: Action, *, summary: str, json_output: bool = True, **more: Any
) -> argparse.ArgumentParser:
    """Add a command that calls `action(arguments)`."""
    parser = commands.add_parser(name, help=summary, description=more.pop("text", summary), **more)
    if json_output:
        parser.add_argument("--json", action="store_true", help="print JSON on stdout")
    parser.set_defaults(action=action, prog=parser.prog)
    return parser


def add_path(parser: argparse.ArgumentParser, *names: str, folder: bool, **more: Any) -> None:
    """Add an argument that the shell completes with names of folders, or of all files."""
    action: Any = parser.add_argument(*names, **more)
    try:
        import shtab
    except ImportError:
        return
    action.complete = shtab.DIRECTORY if folder else shtab.FILE


def print_json(value: Any) -> None:
    """Print a value as JSON; NaN is null."""
    print(json.dumps(encode(value), indent=2))


def add_result_commands(commands: Any, studies: Studies) -> None:
    """Add `list`, `info`, `show` and `compare`."""
    summary = "list the studies and their presets"
    add_command(commands, "list", partial(_list, studies), summary=summary)
    add_command(commands, "info", _info, summary="show versions, devices, and what is missing")
    show = add_command(
        commands, "show", partial(_show, studies), summary="print the table of a finished run"
    )
    text = "folder of a run, or the file NAME.json in it"
    add_path(show, "result", folder=False, metavar="RESULT", help=text)
    summary = "put two runs of one study side by side"
    pair = add_command(commands, "compare", partial(_compare, studies), summary=summary)
    add_path(pair, "first", folder=False, metavar="RESULT", help=text)
    add_path(pair, "second", folder=False, metavar="RESULT", help="another run of the same study")
    for parser in (show, pair):
        parser.add_argument("--study", metavar="MODULE:NAME", help="your own study that was run")


def _list(studies: Studies, arguments: argparse.Namespace) -> int:
    if arguments.json:
        print_json([_describe(study) for study in studies.values()])
        return 0
    width = max(map(len, studies))
    for study in studies.values():
        print(f"{study.name:{width}}  {study.title}; presets: {', '.join(study.presets)}")
    return 0


def _describe(study: Study) -> dict[str, Any]:
    options = []
    for field in dataclasses.fields(study.config):
        strings = choices(annotations(study.config)[field.name])
        allowed = {"choices": strings} if strings else {}
        options.append({"name": field.name, "default": field.default, **field.metadata, **allowed})
    described = {name: getattr(study, name) for name in ("name", "title", "about", "presets")}
    return described | {"options": options}


def _info(arguments: argparse.Namespace) -> int:
    environment = describe_environment()
    missing = {
        extra: [module for module in modules if importlib.util.find_spec(module) is None]
        for extra, modules in _EXTRAS.items()
    }
    tensorflow = version("tensorflow")
    folder = cache_folder()
    cache = None if folder is None else str(folder)
    if arguments.json:
        more = {"missing": missing, "tensorflow": tensorflow, "compile_cache": cache}
        print_json(environment | more)
        return 0
    for package, installed in environment["versions"].items():
        print(f"{package:16} {installed or 'not installed'}")
    device = environment["device"]
    devices = f"{device['count']} x {device['kind']} ({device['platform']})"
    print(f"{'device':16} {devices}, {device['host_cores']} host cores")
    print(f"{'default dtype':16} {environment['dtype']}")
    print(f"{'compile cache':16} {cache or 'off, or JAX has its own'}")
    for extra, modules in missing.items():
        state = f"missing {', '.join(modules)}: pip install 'kernelgap[{extra}]'"
        print(f"{'extra ' + extra:16} {state if modules else 'complete'}")
    print(f"{'tensorflow':16} {tensorflow or 'not installed'} (never imported by kernelgap)")
    return 0


def _load(path: str, studies: Studies) -> dict[str, Result]:
    results = [load(file, studies) for file in find_results(path, studies).values()]
    return {result.study.name: result for result in results}


def _print(documents: list[dict[str, Any]]) -> int:
    print_json(documents if len(documents) > 1 else documents[0])
    return 0


def _show(studies: Studies, arguments: argparse.Namespace) -> int:
    results = _load(arguments.result, studies).values()
    if arguments.json:
        return _print([result.document() for result in results])
    print("\n\n".join(described(result) for result in results))
    return 0


def described(result: Result) -> str:
    """Return a result as `show` and `run` print it: its table, and what it took."""
    provenance = result.provenance
    versions, device = provenance.get("versions", {}), provenance.get("device", {})
    seconds, workers = provenance.get("seconds", {}), provenance.get("workers", "?")
    cells, wall = (_whole(seconds.get(name)) for name in ("cells", "wall_of_this_call"))
    where = f"{device.get('count', '?')} x {device.get('kind', '?')}"
    packages = (f"{name} {versions.get(name, '?')}" for name in ("kernelgap", "jax"))
    return "\n".join(
        [
            f"{result.study.name}: {result.study.title}",
            result.table(),
            f"{len(result.rows)} rows; cells took {cells} s on {workers} threads, {wall} s in all",
            f"{', '.join(packages)}, {provenance.get('dtype', '?')}, {where}",
        ]
    )


def _whole(seconds: float | None) -> str:
    return "?" if seconds is None else f"{seconds:.0f}"


def _compare(studies: Studies, arguments: argparse.Namespace) -> int:
    first, second = _load(arguments.first, studies), _load(arguments.second, studies)
    common = [name for name in first if name in second]
    if not common:
        names = f"{', '.join(first)} and {', '.join(second)}"
        raise ValueError(f"results of one study can be compared; got {names}")
    comparisons = [compare(first[name], second[name]) for name in common]
    if arguments.json:
        return _print([comparison.document() for comparison in comparisons])
    print(f"first: {arguments.first}\nsecond: {arguments.second}")
    print("\n\n".join(comparison.table() for comparison in comparisons))
    return 0
