"""What several commands share: options, JSON on stdout, completion of folders."""

import argparse
import json
from collections.abc import Callable
from typing import Any

from kernelgap.studies.journal import jsonable

Action = Callable[[argparse.Namespace], int]


def add_command(
    commands: Any, name: str, action: Action, *, summary: str, json_output: bool = True, **more: Any
) -> argparse.ArgumentParser:
    """A command that calls `action(arguments)`."""
    parser = commands.add_parser(name, help=summary, description=more.pop("text", summary), **more)
    if json_output:
        parser.add_argument("--json", action="store_true", help="print JSON on stdout")
    parser.set_defaults(action=action, prog=parser.prog, options=frozenset())
    return parser


def folder(action: argparse.Action) -> None:
    """Have the shell complete names of folders for an argument, and of files for results."""
    try:
        import shtab
    except ImportError:
        return
    setattr(action, "complete", shtab.DIRECTORY if action.dest == "out" else shtab.FILE)  # noqa: B010


def print_json(value: Any) -> None:
    """A value as JSON; NaN and infinities as null."""
    print(json.dumps(jsonable(value), indent=2))
