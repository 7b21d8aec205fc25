"""`kernelgap completion SHELL`: a script with which the shell completes commands and options.

The script is made by shtab from the parser, so that it is complete and takes no time to answer.
"""

import argparse
from collections.abc import Callable
from typing import Any

from kernelgap._extras import missing_extra
from kernelgap.cli.common import add_command

SHELLS = ("bash", "zsh", "fish")


def add_commands(commands: Any, make_parser: Callable[[], argparse.ArgumentParser]) -> None:
    """`completion`."""

    def complete(arguments: argparse.Namespace) -> int:
        try:
            import shtab
        except ImportError as error:
            raise missing_extra("completions need", "shtab") from error
        print(shtab.complete(make_parser(), arguments.shell))
        return 0

    parser = add_command(
        commands,
        "completion",
        complete,
        summary="a completion script for bash, zsh or fish",
        json_output=False,
    )
    parser.add_argument("shell", choices=SHELLS, metavar="SHELL", help=", ".join(SHELLS))
