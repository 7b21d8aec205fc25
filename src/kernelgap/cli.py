"""The command `kernelgap`: run studies, list them, describe the installation."""

import argparse
import dataclasses
import importlib.util
import re
import sys
from collections.abc import Sequence
from typing import Any

from kernelgap import __version__
from kernelgap.studies import STUDIES, Study
from kernelgap.studies.study import describe_environment, execute, version

_EXTRAS = {
    "studies": ("matplotlib", "pandas", "tqdm", "sklearn"),
    "sklearn": ("sklearn",),
    "test": ("hypothesis", "pytest", "beartype", "sklearn"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    arguments = _parser().parse_args(argv)
    return arguments.action(arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="kernelgap",
        description="What a neural network learns that its tangent kernel cannot, measured.",
    )
    parser.add_argument("--version", action="version", version=f"kernelgap {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    listing = commands.add_parser("list", help="the studies and their presets")
    listing.set_defaults(action=_list)
    info = commands.add_parser("info", help="versions, devices, and what is missing")
    info.set_defaults(action=_info)
    run = commands.add_parser("run", help="run a study and write its figure, CSV and JSON")
    studies = run.add_subparsers(required=True, metavar="STUDY")
    for study in STUDIES.values():
        _add_study(studies, study)
    return parser


def _add_study(studies: Any, study: Study) -> None:
    parser = studies.add_parser(
        study.name,
        help=study.title,
        description=study.title,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--preset", choices=list(study.presets), default="default", help="a ready configuration"
    )
    parser.add_argument(
        "--out", default=f"{study.name}-results", metavar="DIR", help="folder for all files"
    )
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted run")
    parser.add_argument("--overwrite", action="store_true", help="start anew over a run in --out")
    parser.add_argument("--workers", type=int, metavar="N", help="cells at a time; default: 2")
    parser.add_argument("--no-progress", action="store_true", help="show no progress bar")
    options = parser.add_argument_group("configuration, on top of the preset")
    for field in dataclasses.fields(study.config):
        default = field.default
        many = isinstance(default, tuple)
        kind = float if many and any(isinstance(v, float) for v in default) else None
        options.add_argument(
            _option(field.name),
            dest=field.name,
            type=kind or type(default[0] if many else default),
            nargs="+" if many else None,
            default=argparse.SUPPRESS,
            metavar=field.name.upper() if not many else "X",
            help=f"{field.metadata['help']}; preset default: "
            + (" ".join(map(str, default)) if many else str(default)).replace("%", "%%"),
        )
    parser.set_defaults(action=lambda arguments: _run(parser, study, arguments))


def _option(field: str) -> str:
    return "--" + field.replace("_", "-")


def _run(parser: argparse.ArgumentParser, study: Study, arguments: argparse.Namespace) -> int:
    fields = {field.name for field in dataclasses.fields(study.config)}
    given = {k: tuple(v) if isinstance(v, list) else v for k, v in vars(arguments).items()}
    chosen = study.presets[arguments.preset] | {k: v for k, v in given.items() if k in fields}
    try:
        result = execute(
            study,
            study.config(**chosen),
            out=arguments.out,
            resume=arguments.resume,
            overwrite=arguments.overwrite,
            progress=not arguments.no_progress,
            workers=arguments.workers,
        )
    except KeyboardInterrupt:
        print(
            f"\ninterrupted; finished cells are safe in {arguments.out}. "
            "Go on with the same command and --resume",
            file=sys.stderr,
        )
        return 130
    except (ValueError, TypeError, OSError, ImportError) as error:
        options = fields | {"out", "resume", "overwrite", "workers"}
        message = re.sub(
            r"`(\w+)`", lambda m: _option(m[1]) if m[1] in options else m[0], str(error)
        )
        parser.exit(2, f"{parser.prog}: error: {message}\n")
    print(result.table())
    seconds = result.provenance["seconds"]
    print(
        f"{len(result.rows)} rows; compiled {seconds['compile']:.0f} s, ran {seconds['run']:.0f} s "
        f"on {result.provenance['workers']} threads, {seconds['wall_of_this_call']:.0f} s in all"
    )
    print(f"wrote {arguments.out}/{study.name}.png, .csv, .json")
    return 0


def _list(arguments: argparse.Namespace) -> int:
    del arguments
    for study in STUDIES.values():
        print(f"{study.name:12} {study.title}; presets: {', '.join(study.presets)}")
    return 0


def _info(arguments: argparse.Namespace) -> int:
    del arguments
    environment = describe_environment()
    print(f"{'python':16} {environment['versions'].pop('python')}")
    for package, found in environment["versions"].items():
        print(f"{package:16} {found or 'not installed'}")
    device = environment["device"]
    print(f"{'device':16} {device['count']} x {device['kind']} ({device['platform']}), "
          f"{device['host_cores']} host cores")  # fmt: skip
    print(f"{'default dtype':16} {environment['dtype']}")
    for extra, modules in _EXTRAS.items():
        missing = [m for m in modules if importlib.util.find_spec(m) is None]
        state = f"missing {', '.join(missing)}: pip install 'kernelgap[{extra}]'"
        print(f"{'extra ' + extra:16} {state if missing else 'complete'}")
    tensorflow = version("tensorflow")
    print(f"{'tensorflow':16} {tensorflow or 'not installed'} (never imported by kernelgap)")
    return 0
