"""`kernelgap run STUDY` or `run MODULE:NAME`, and `run all` with its page for all of them."""

import argparse
import dataclasses
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from kernelgap.cli.compile_cache import kept_programs
from kernelgap.cli.results import add_command, add_path, described, print_json
from kernelgap.studies import STUDIES, Result, Study
from kernelgap.studies.execution import checked_workers
from kernelgap.studies.options import about_options, annotations, choices
from kernelgap.studies.report import write_report
from kernelgap.studies.store import prepare_folder


def add_run_commands(commands: Any, studies: Mapping[str, Study]) -> None:
    """Add `run`, with a command for each study and one for all."""
    summary = "run a study, or MODULE:NAME of your own, and write its figure, CSV and JSON"
    run = commands.add_parser("run", help=summary, description=summary)
    names = run.add_subparsers(required=True, metavar="STUDY")
    for name, study in studies.items():
        _add_study(names, name, study)
    parser = add_command(
        names,
        "all",
        _run_all,
        summary="run every study, and write a page report.html with all figures",
        text="Run every study, each into a folder of its own, and write report.html: one page "
        "with all figures, tables and texts, which opens offline.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    first, *others = STUDIES.values()
    common = [preset for preset in first.presets if all(preset in s.presets for s in others)]
    _add_how(parser, common, "kernelgap-report")


def _add_how(parser: argparse.ArgumentParser, presets: Sequence[str], out: str) -> None:
    parser.add_argument(
        "--preset", choices=presets, default="default", help="a ready configuration"
    )
    add_path(parser, "--out", folder=True, default=out, metavar="DIR", help="folder for all files")
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted run")
    parser.add_argument("--overwrite", action="store_true", help="start anew over a run in --out")
    parser.add_argument("--workers", type=int, metavar="N", help="cells at a time; default: 2")
    parser.add_argument("--no-progress", action="store_true", help="show no progress bar")


def _add_study(names: Any, name: str, study: Study) -> None:
    parser = add_command(
        names,
        name,
        partial(_run, study),
        summary=study.title,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    _add_how(parser, list(study.presets), f"{study.name}-results")
    options = parser.add_argument_group("configuration, on top of the preset")
    kinds = annotations(study.config)
    for field in dataclasses.fields(study.config):
        value: Any = field.default
        many = isinstance(value, tuple)
        default = " ".join(map(str, value)) if many else str(value)
        options.add_argument(
            "--" + field.name.replace("_", "-"),
            dest=field.name,
            type=str if choices(kinds[field.name]) else kinds[field.name],
            nargs="+" if many else None,
            default=argparse.SUPPRESS,
            metavar="X" if many else field.name.upper(),
            help=f"{field.metadata['help']}; preset default: {default}".replace("%", "%%"),
        )


def _run(study: Study, arguments: argparse.Namespace) -> int:
    fields = {field.name for field in dataclasses.fields(study.config)}
    given = {k: tuple(v) if isinstance(v, list) else v for k, v in vars(arguments).items()}
    chosen = {k: v for k, v in given.items() if k in fields}
    try:
        result = _execute(study, chosen, arguments, arguments.out)
    except KeyboardInterrupt:
        return _interrupted(arguments.out)
    files = [f"{study.name}.{end}" for end in ("png", "csv", "json")]
    if arguments.json:
        print_json(result.document() | {"files": [str(Path(arguments.out, f)) for f in files]})
        return 0
    print(described(result))
    print(f"wrote {', '.join(files)} into {arguments.out}")
    return 0


def _execute(
    study: Study, chosen: dict[str, Any], arguments: argparse.Namespace, out: str | Path
) -> Result:
    with kept_programs():
        return study.run(
            study.config(**{**study.presets[arguments.preset], **chosen}),
            out=out,
            resume=arguments.resume,
            overwrite=arguments.overwrite,
            progress=not arguments.no_progress,
            workers=arguments.workers,
        )


def _interrupted(out: str) -> int:
    print(
        f"\ninterrupted; finished cells are safe in {out}. "
        "Go on with the same command and --resume",
        file=sys.stderr,
    )
    return 130


def _run_all(arguments: argparse.Namespace) -> int:
    """Run every study in turn; one that fails does not keep the others from running."""
    how = {name: getattr(arguments, name) for name in ("resume", "overwrite", "workers")}
    checked_workers(arguments.out, **how)
    out = prepare_folder(arguments.out)
    begun = [name for name in STUDIES if (out / name / f"{name}.journal.jsonl").exists()]
    if begun and not (arguments.resume or arguments.overwrite):
        error = FileExistsError(
            f"`out` {str(out)!r} holds runs already ({', '.join(begun)}): `resume` them, "
            "`overwrite` them, or choose another folder"
        )
        raise about_options(error, "out", "resume", "overwrite")
    results: list[Result] = []
    missing = dict.fromkeys(STUDIES, "not run yet")
    title = f"kernelgap: every study, preset {arguments.preset}"

    def report() -> Path:
        return write_report(out, results, missing=missing, title=title)

    page = report()
    for name, study in STUDIES.items():
        try:
            results.append(_execute(study, {}, arguments, out / name))
            del missing[name]
        except KeyboardInterrupt:
            missing[name] = "interrupted"
            report()
            return _interrupted(arguments.out)
        except Exception as error:
            missing[name] = f"failed: {type(error).__name__}: {error}"
            print(f"{name} {missing[name]}", file=sys.stderr)
        page = report()
        if name not in missing and not arguments.json:
            print(f"{described(results[-1])}\n")
    if arguments.json:
        documents = [result.document() for result in results]
        print_json({"results": documents, "failed": missing, "report": str(page)})
    else:
        print(f"wrote {page}")
    return 1 if missing else 0
