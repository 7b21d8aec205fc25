"""The command `kernelgap`: run studies, read, compare and report what they wrote, verify proofs."""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from itertools import pairwise

from kernelgap._support.extras import missing_extra
from kernelgap._support.version import __version__
from kernelgap.cli.proofs import add_verify_command
from kernelgap.cli.results import add_command, add_result_commands
from kernelgap.cli.run import add_run_commands
from kernelgap.studies import STUDIES, Study

_SHELLS = ("bash", "zsh", "fish")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    parser = make_parser({})
    try:
        if own := own_study(words):
            parser = make_parser(own)
    except (ValueError, TypeError, ImportError) as error:
        parser.exit(2, f"kernelgap {words[0]}: error: {error}\n")
    arguments = parser.parse_args(words)
    try:
        return arguments.action(arguments)
    except BrokenPipeError:  # the reader, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # not again at exit
        return 141
    except (ValueError, TypeError, OSError, ImportError) as error:
        message = str(error)
        for name in getattr(error, "options", ()):
            message = message.replace(f"`{name}`", "--" + name.replace("_", "-"))
        parser.exit(2, f"{arguments.prog}: error: {message}\n")


def make_parser(own: dict[str, Study]) -> argparse.ArgumentParser:
    """Return the parser of all commands; each sets its `action` and `prog`."""
    parser = argparse.ArgumentParser(
        prog="kernelgap",
        description="What a neural network learns that its tangent kernel cannot, measured.",
    )
    parser.add_argument("--version", action="version", version=f"kernelgap {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    add_run_commands(commands, STUDIES | own)
    add_result_commands(commands, STUDIES | {study.name: study for study in own.values()})
    add_verify_command(commands)

    def complete(arguments: argparse.Namespace) -> int:
        try:
            import shtab
        except ImportError as error:
            raise missing_extra("completions need", "shtab") from error
        print(shtab.complete(parser, arguments.shell))
        return 0

    summary = "print a completion script for bash, zsh or fish"
    command = add_command(commands, "completion", complete, summary=summary, json_output=False)
    command.add_argument("shell", choices=_SHELLS, metavar="SHELL", help=", ".join(_SHELLS))
    return parser


def own_study(words: Sequence[str]) -> dict[str, Study]:
    """Return the study that the command line names as MODULE:NAME, by that name, if it does."""
    if words[:1] == ["run"]:
        names = [word for word in words[1:2] if ":" in word]
    else:
        names = [word for before, word in pairwise(words) if before == "--study"]
    studies = {}
    for name in names:
        module, _, attribute = name.partition(":")
        if "" not in sys.path:
            sys.path.insert(0, "")  # the folder of the user, as with `python -m`
        study = getattr(importlib.import_module(module), attribute, None)
        if not isinstance(study, Study):
            raise TypeError(f"{name!r} must name a kernelgap.studies.Study; got {study!r:.60}")
        studies[name] = study
    return studies
