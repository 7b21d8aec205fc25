"""The harness of all studies: independent cells, a journal on disk, a result with its provenance.

A study is a list of cells. A cell is a pure function of the configuration and its own identity, so
that cells can run in any order, on several threads, and be taken from the journal of an
interrupted run without changing a number.
"""

import contextlib
import csv
import dataclasses
import importlib.metadata
import importlib.util
import io
import json
import os
import platform
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import lru_cache
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import jax
import jax.monitoring
import jax.numpy as jnp

from kernelgap import _checks
from kernelgap.studies.journal import (
    CellResult,
    Journal,
    Row,
    jsonable,
    prepare_folder,
    write_atomically,
)


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
        """The figure of the study, as a matplotlib Figure (extra `studies`)."""
        return self.study.figure(self.config, self.rows, self.summary)

    def to_pandas(self) -> Any:
        """The rows as a pandas DataFrame (extra `studies`)."""
        import pandas

        return pandas.DataFrame(self.rows)

    def save(self, out: str | os.PathLike) -> list[Path]:
        """Write NAME.csv, NAME.json and NAME.png into the folder `out`, each atomically."""
        folder, name = prepare_folder(out), self.study.name
        document = {
            "study": name,
            "config": dataclasses.asdict(self.config),
            "summary": self.summary,
            "provenance": self.provenance,
        }
        image = io.BytesIO()
        self.plot().savefig(image, format="png", dpi=160)
        contents = {
            f"{name}.csv": _csv(self.rows).encode(),
            f"{name}.json": (json.dumps(jsonable(document), indent=2) + "\n").encode(),
            f"{name}.png": image.getvalue(),
        }
        for file, content in contents.items():
            write_atomically(folder / file, content)
        return [folder / file for file in contents]

    def __repr__(self) -> str:
        return f"{self.study.name} study, {len(self.rows)} rows\n{self.table()}"


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
    if resume and overwrite:
        raise ValueError("`resume` and `overwrite` exclude each other; got both")
    if out is None and (resume or overwrite):
        raise ValueError("`resume` and `overwrite` need `out`, the folder of the run; got None")
    workers = _checks.integer(
        workers if workers is not None else min(2, os.cpu_count() or 1), "workers", minimum=1
    )
    cells = study.cells(config)
    started = time.perf_counter()
    if out is not None:
        _require_matplotlib()  # before the work whose figure it draws
    header = {
        "study": study.name,
        "x64": _x64(),
        "config": jsonable(dataclasses.asdict(config)),
    }
    with Journal(out, header, resume=resume, overwrite=overwrite) as journal:
        missing = [cell for cell in cells if cell.identity not in journal.done]
        bar = _progress_bar(len(cells), len(cells) - len(missing), progress, study.name)
        with bar:
            lock = threading.Lock()

            def work(cell: Cell) -> None:
                result = _timed(study, config, cell)
                with lock:
                    journal.add(cell.identity, result)
                    bar.update()

            _run_cells(work, missing, workers)
        results = [journal.done[cell.identity] for cell in cells]
    rows = [row for result in results for row in result.rows]
    provenance = describe_environment() | {
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


def _progress_bar(total: int, done: int, progress: bool, name: str) -> Any:
    """A bar on stderr, or something that looks like one and prints nothing."""
    if not progress:
        return _Silent()
    try:
        from tqdm import tqdm
    except ImportError as error:
        raise missing_extra("progress bars", "tqdm") from error
    return tqdm(total=total, initial=done, desc=name, unit="cell", file=sys.stderr)


class _Silent(contextlib.AbstractContextManager):
    def update(self) -> None:
        """Nothing to show."""

    def __exit__(self, *exception: object) -> None:
        """Nothing to close."""


def _require_matplotlib() -> None:
    if importlib.util.find_spec("matplotlib") is None:
        raise missing_extra("figures", "matplotlib")


def missing_extra(what: str, package: str) -> ImportError:
    """The error for an optional dependency that is not there."""
    return ImportError(f"{what} need {package}: pip install 'kernelgap[studies]'")


def describe_environment() -> dict[str, Any]:
    """Versions, device and dtype: what a number depends on besides its configuration."""
    device = jax.devices()[0]
    packages = ("kernelgap", "jax", "jaxlib", "numpy", "scipy", "optax", "neural-tangents")
    return {
        "versions": {"python": platform.python_version()} | {p: version(p) for p in packages},
        "device": {
            "platform": device.platform,
            "kind": device.device_kind,
            "count": jax.device_count(),
            "host_cores": os.cpu_count(),
        },
        "dtype": str(jnp.zeros(()).dtype),
        "x64": _x64(),
    }


def version(package: str) -> str | None:
    """The installed version of a distribution, or None."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _x64() -> bool:
    return jnp.zeros(()).dtype == jnp.float64


def _csv(rows: Sequence[Row]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({k: "" if v != v else v for k, v in row.items()})  # NaN != NaN
    return text.getvalue()
