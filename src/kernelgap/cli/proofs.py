"""`kernelgap verify`: derive the claims of proof files again."""

import argparse
from typing import Any

from kernelgap.cli.results import add_command, add_path, print_json
from kernelgap.proofs import verify
from kernelgap.proofs.checker import Unproved


def add_verify_command(commands: Any) -> None:
    """Add `verify`."""
    summary = "check proof files, in exact arithmetic and from the files alone"
    text = (
        "Check proof files, in exact arithmetic and from the files alone. The exit status is 0 if "
        "every claim is proved, 1 if the numbers of a file do not prove its claim, 2 if a file is "
        "not a proof file."
    )
    parser = add_command(commands, "verify", _verify, summary=summary, text=text)
    add_path(parser, "files", folder=False, nargs="+", metavar="FILE", help="a proof file")


def _verify(arguments: argparse.Namespace) -> int:
    outcomes, worst = [], 0
    for path in arguments.files:
        outcome = {"file": path, "proved": False, "lower": None, "upper": None}
        try:
            verdict = verify(path)
            outcome |= {"proved": True} | verdict._asdict()
            line = f"{path}: proved: {verdict.statement}"
        except (ValueError, OSError) as error:
            line = outcome["error"] = str(error)
            worst = max(worst, 1 if isinstance(error, Unproved) else 2)
        outcomes.append(outcome)
        if not arguments.json:
            print(line)
    if arguments.json:
        print_json(outcomes)
    return worst
