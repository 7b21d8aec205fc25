"""The harness of all studies: independent cells, a journal on disk, a result with its provenance.

A study is a list of cells. A cell is a pure function of the configuration and its own identity, so
that cells can run in any order, on several threads, and be taken from the journal of an
interrupted run without changing a number.
"""

import csv
import dataclasses
import importlib.util
import inspect
import io
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import jax
import jax.monitoring

from kernelgap import _checks
from kernelgap._display import Html, escape, table
from kernelgap._extras import missing_extra, progress_bar
from kernelgap._files import write_atomically
from kernelgap.studies import environment, figures
from kernelgap.studies.interrupts import remembered
from kernelgap.studies.journal import (
    CellResult,
    Journal,
    Row,
    jsonable,
    prepare_folder,
)

FORMAT = 1  # of NAME.json with NAME.csv; raised when a reader of the last one would misread it


class Cell(NamedTuple):
    """One unit of work.

    Attributes:
        identity: what makes it this cell; of strings and numbers.
        alone: needs the machine for itself, for its memory.
    """

    identity: tuple
    alone: bool = False


Config = TypeVar("Config")


class Study(NamedTuple, Generic[Config]):
    """What the harness needs to know of a study.

    Attributes:
        name: as on the command line.
        title: one line for listings.
        config: frozen dataclass type, which checks itself and whose fields have a `help` metadata.
        presets: name -> the fields it changes.
        cells: config -> cells, in the order of their rows.
        run_cell: (config, identity) -> rows.
        summarize: (config, rows) -> JSON-able summary.
        table: (config, summary) -> a short text table.
        figure: (config, rows, summary) -> matplotlib Figure.
    """

    name: str
    title: str
    config: type[Config]
    presets: dict[str, dict[str, Any]]
    cells: Callable[[Any], list[Cell]]
    run_cell: Callable[[Any, tuple], list[Row]]
    summarize: Callable[[Any, list[Row]], dict[str, Any]]
    table: Callable[[Any, dict[str, Any]], str]
    figure: Callable[[Any, list[Row], dict[str, Any]], Any]

    def __repr__(self) -> str:
        return f"Study({self.name}: {self.title})"

    @property
    def about(self) -> str:
        """What the study shows, in words. The docstring of its package, without the example."""
        module = self.config.__module__
        package = sys.modules[module.rpartition(".")[0] or module]
        paragraphs = (inspect.getdoc(package) or self.title).split("\n\n")
        unwanted = ("Example:", "`run` returns")
        return "\n\n".join(p for p in paragraphs if not p.startswith(unwanted))

    def run(
        self,
        config: Config | None = None,
        *,
        out: str | os.PathLike | None = None,
        resume: bool = False,
        overwrite: bool = False,
        progress: bool = False,
        workers: int | None = None,
    ) -> "Result":
        """Run the study: all cells that are not on disk, then the summary.

        Args:
            config: what to run; the study's default when None. `Config(**PRESETS["quick"])`, with
                the study's own configuration, is quick.
            out: folder for NAME.csv, NAME.json, NAME.png and the journal; nothing is written when
                None.
            resume: go on from the journal of an interrupted run of the same configuration.
            overwrite: start anew in a folder that holds a run.
            progress: show a bar on stderr.
            workers: threads that compile and run cells; as many as cores, at most 2, when None:
                linear algebra within a cell uses all cores by itself. What JAX's context managers
                set belongs to the calling thread, and reaches the cells for workers=1 only.

        Returns:
            A `Result`, with `rows`, `summary`, `table()`, `plot()`, `to_pandas()` and `save(out)`.

        Raises:
            TypeError, ValueError: if the configuration or an option is wrong.
            FileExistsError: if `out` holds a run and neither `resume` nor `overwrite` is set.
            NotADirectoryError, PermissionError: if `out` cannot be written.
            ImportError: if matplotlib or tqdm is needed and missing (extra `studies`).
        """
        return execute(
            self,
            self.config() if config is None else config,
            out=out,
            resume=resume,
            overwrite=overwrite,
            progress=progress,
            workers=workers,
        )


class Result(NamedTuple):
    """What a study returns.

    Attributes:
        study: the study it comes from.
        config: its configuration.
        rows: one dict per learner, grid point and seed.
        summary: estimates with intervals.
        provenance: versions, device, dtype, timings.
    """

    study: Study
    config: Any
    rows: list[Row]
    summary: dict[str, Any]
    provenance: dict[str, Any]

    def table(self) -> str:
        """The summary as a short text table."""
        return self.study.table(self.config, self.summary)

    def plot(self) -> Any:
        """The figure of the study, of several panels, as a matplotlib Figure (extra `studies`).

        Its panels are `plot().axes`. It takes no `ax`: the panels have a common layout and legend.
        """
        figure = self.study.figure(self.config, self.rows, self.summary)
        # Notebooks know how to display figures of pyplot only, which keeps them all in memory.
        figure._repr_png_ = partial(figures.png, figure)
        return figure

    def to_pandas(self) -> Any:
        """The rows as a pandas DataFrame (extra `studies`)."""
        try:
            import pandas
        except ImportError as error:
            raise missing_extra("data frames need", "pandas") from error
        return pandas.DataFrame(self.rows)

    def document(self) -> dict[str, Any]:
        """All but the rows, as NAME.json has it."""
        return jsonable(
            {
                "format": FORMAT,
                "study": self.study.name,
                "config": dataclasses.asdict(self.config),
                "summary": self.summary,
                "provenance": self.provenance,
                "rows": len(self.rows),
            }
        )

    def save(self, out: str | os.PathLike) -> list[Path]:
        """Write NAME.csv, NAME.json and NAME.png into the folder `out`, each atomically."""
        folder, name = prepare_folder(out), self.study.name
        contents = {
            f"{name}.csv": _csv(self.rows).encode(),
            f"{name}.json": (json.dumps(self.document(), indent=2) + "\n").encode(),
            f"{name}.png": figures.png(self.plot(), dpi=160),
        }
        for file, content in contents.items():
            write_atomically(folder / file, content)
        return [folder / file for file in contents]

    def __repr__(self) -> str:
        return f"{self.study.name} study, {len(self.rows)} rows\n{self.table()}"

    def _repr_html_(self) -> str:
        config = table(dataclasses.asdict(self.config).items(), caption="configuration")
        return Html(
            f"<p><b>{escape(self.study.name)}</b>: {escape(self.study.title)}; "
            f"{len(self.rows)} rows</p><pre>{escape(self.table())}</pre>"
            f"<details><summary>configuration</summary>{config}</details>"
        )


def execute(
    study: Study,
    config: Any,
    *,
    out: str | os.PathLike | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = False,
    workers: int | None = None,
) -> Result:
    """Run all cells of a study and summarise them; see `Study.run` for the arguments."""
    if not isinstance(config, study.config):
        raise TypeError(f"`config` must be a {study.config.__name__}; got {type(config).__name__}")
    workers = checked_options(out, resume=resume, overwrite=overwrite, workers=workers)
    cells = study.cells(config)
    started = time.perf_counter()
    header = {
        "study": study.name,
        "x64": environment.x64(),
        "config": jsonable(dataclasses.asdict(config)),
    }
    with Journal(out, header, resume=resume, overwrite=overwrite) as journal:
        missing = [cell for cell in cells if cell.identity not in journal.done]
        shown = progress_bar(
            len(cells), study.name, unit="cell", done=len(cells) - len(missing), enabled=progress
        )
        with shown, remembered() as check:
            lock = threading.Lock()

            def work(cell: Cell) -> None:
                check()
                result = _timed(study, config, cell)
                with lock:
                    journal.add(cell.identity, result)
                    shown.update()

            try:
                _run_cells(work, missing, workers)
                check()
            except KeyboardInterrupt as stop:
                stop.add_note(_what_is_kept(len(journal.done), len(cells), out))
                raise
        results = [journal.done[cell.identity] for cell in cells]
    rows = [row for result in results for row in result.rows]
    provenance = environment.describe_environment() | {
        "seconds": {
            "wall_of_this_call": time.perf_counter() - started,
            "compile": sum(r.compile_s for r in results),
            "run": sum(r.run_s for r in results),
        },
        "workers": workers,
    }
    result = Result(study, config, rows, study.summarize(config, rows), provenance)
    if out is not None:
        result.save(out)
    return result


def checked_options(
    out: str | os.PathLike | None, *, resume: bool, overwrite: bool, workers: int | None
) -> int:
    """Refuse what no run can work with, before any work; the number of workers."""
    if resume and overwrite:
        raise ValueError("`resume` and `overwrite` exclude each other; got both")
    if out is None and (resume or overwrite):
        raise ValueError("`resume` and `overwrite` need `out`, the folder of the run; got None")
    if out is not None and importlib.util.find_spec("matplotlib") is None:
        raise missing_extra("figures need", "matplotlib")
    default = min(2, os.cpu_count() or 1)
    return _checks.integer(default if workers is None else workers, "workers", minimum=1)


def _what_is_kept(done: int, cells: int, out: str | os.PathLike | None) -> str:
    if out is None:
        return f"{done} of {cells} cells were finished and are lost: runs with `out` keep them"
    return f"{done} of {cells} cells are safe in {os.fspath(out)!r}: run again with resume=True"


def _run_cells(work: Callable[[Cell], None], cells: Sequence[Cell], workers: int) -> None:
    """Run cells on threads, then those that need the machine alone, one by one.

    Threads, because compiling and running release the interpreter lock. When a cell fails or the
    user interrupts, cells under way on threads are finished and kept, and no further one starts.
    """
    shared = [] if workers == 1 else [cell for cell in cells if not cell.alone]
    with ThreadPoolExecutor(workers) as pool:
        futures = [pool.submit(work, cell) for cell in shared]
        try:
            for future in as_completed(futures):
                future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    for cell in cells:
        if workers == 1 or cell.alone:
            work(cell)


class _CompileClock(threading.local):
    seconds = 0.0


_compile_clock = _CompileClock()


@lru_cache(maxsize=1)
def _start_compile_clock() -> None:
    """Have JAX report what it spends on tracing and compiling, to the thread that does it."""

    def listen(event: str, duration_secs: float, **_: Any) -> None:
        if event.startswith("/jax/core/compile/"):
            _compile_clock.seconds += duration_secs

    jax.monitoring.register_event_duration_secs_listener(listen)


def _timed(study: Study, config: Any, cell: Cell) -> CellResult:
    _start_compile_clock()
    started, compiled = time.perf_counter(), _compile_clock.seconds
    rows = study.run_cell(config, cell.identity)
    compile_s = _compile_clock.seconds - compiled
    return CellResult(rows, compile_s, time.perf_counter() - started - compile_s)


def _csv(rows: Sequence[Row]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({k: "" if v != v else v for k, v in row.items()})  # NaN != NaN
    return text.getvalue()
