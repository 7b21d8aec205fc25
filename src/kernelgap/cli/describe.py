"""`kernelgap list` and `kernelgap info`: the studies there are, and the installation."""

import argparse
import dataclasses
import importlib.util
from typing import Any

from kernelgap.cli.common import add_command, print_json
from kernelgap.studies import STUDIES
from kernelgap.studies.environment import describe_environment, version

_EXTRAS = {
    "studies": ("matplotlib", "pandas", "tqdm", "sklearn", "shtab"),
    "sklearn": ("sklearn",),
    "test": ("hypothesis", "pytest", "beartype", "sklearn"),
}


def add_commands(commands: Any) -> None:
    """`list` and `info`."""
    add_command(commands, "list", _list, summary="the studies and their presets")
    add_command(commands, "info", _info, summary="versions, devices, and what is missing")


def _list(arguments: argparse.Namespace) -> int:
    if arguments.json:
        print_json(
            [
                {
                    "name": study.name,
                    "title": study.title,
                    "about": study.about,
                    "presets": study.presets,
                    "options": [
                        {"name": field.name, "default": field.default, **field.metadata}
                        for field in dataclasses.fields(study.config)
                    ],
                }
                for study in STUDIES.values()
            ]
        )
        return 0
    width = max(map(len, STUDIES))
    for study in STUDIES.values():
        print(f"{study.name:{width}}  {study.title}; presets: {', '.join(study.presets)}")
    return 0


def _info(arguments: argparse.Namespace) -> int:
    environment = describe_environment()
    missing = {
        extra: [module for module in modules if importlib.util.find_spec(module) is None]
        for extra, modules in _EXTRAS.items()
    }
    tensorflow = version("tensorflow")
    if arguments.json:
        print_json(environment | {"missing": missing, "tensorflow": tensorflow})
        return 0
    for package, found in environment["versions"].items():
        print(f"{package:16} {found or 'not installed'}")
    device = environment["device"]
    print(f"{'device':16} {device['count']} x {device['kind']} ({device['platform']}), "
          f"{device['host_cores']} host cores")  # fmt: skip
    print(f"{'default dtype':16} {environment['dtype']}")
    for extra, modules in missing.items():
        state = f"missing {', '.join(modules)}: pip install 'kernelgap[{extra}]'"
        print(f"{'extra ' + extra:16} {state if modules else 'complete'}")
    print(f"{'tensorflow':16} {tensorflow or 'not installed'} (never imported by kernelgap)")
    return 0
