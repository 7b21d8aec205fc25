"""The command `kernelgap`: run studies, read, compare and report what they wrote."""

import argparse
import os
import re
import sys
from collections.abc import Sequence

from kernelgap import __version__
from kernelgap.cli import completion, describe, results, run


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    parser = make_parser()
    arguments = parser.parse_args(argv)
    try:
        return arguments.action(arguments)
    except BrokenPipeError:  # the reader, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # not again at exit
        return 141
    except (ValueError, TypeError, OSError, ImportError) as error:
        # Functions speak of their arguments; here these are options.
        message = re.sub(
            r"`(\w+)`",
            lambda m: "--" + m[1].replace("_", "-") if m[1] in arguments.options else m[0],
            str(error),
        )
        parser.exit(2, f"{arguments.prog}: error: {message}\n")


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands; each sets `action`, `prog`, and the `options` errors may name."""
    parser = argparse.ArgumentParser(
        prog="kernelgap",
        description="What a neural network learns that its tangent kernel cannot, measured.",
    )
    parser.add_argument("--version", action="version", version=f"kernelgap {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for room in (describe, run, results):
        room.add_commands(commands)
    completion.add_commands(commands, make_parser)
    return parser
