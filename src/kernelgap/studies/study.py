"""A study and its result: independent cells, a journal on disk, estimates with their provenance.

A cell is a pure function of the configuration and its own identity, so that cells can run in any
order, on several threads, or be loaded from the journal of an interrupted run, and no number
changes.
"""

import dataclasses
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from kernelgap._support.display import Html, escape, table as html_table
from kernelgap._support.extras import missing_extra, progress_bar
from kernelgap._support.files import write_atomically
from kernelgap.studies import execution, panels, store, tables
from kernelgap.studies.estimates import Estimate, Row, select
from kernelgap.studies.execution import Cell
from kernelgap.studies.options import from_json
from kernelgap.studies.panels import Panel
from kernelgap.studies.store import CellResult, Journal
from kernelgap.studies.tables import Table

Settings = TypeVar("Settings")


class Study(NamedTuple, Generic[Settings]):
    """An experiment that can be interrupted, resumed, read back and compared.

    All functions must be deterministic. Define them in a module to send them to other processes.

    Attributes:
        name: Name on the command line and of the files.
        title: One line for listings.
        config: A subclass of `Config`.
        cells: Maps a configuration to its cells, in the order of their rows.
        run_cell: Maps a configuration and the identity of a cell to its rows, which are dicts of
            strings and numbers with the same columns in all cells.
        summarize: Maps a configuration and all rows to the estimates.
        tables: Maps a configuration to the text tables.
        panels: Maps a result to the panels of its figure.
        presets: The options that each preset changes, by its name.
        about: Description of the study, in paragraphs.
        caption: Line above the figure, with options in braces, as in "{seeds} seeds"; or a function
            of the configuration that returns it.
        check: Raises, before any work, for a configuration that the available data do not allow.
    """

    name: str
    title: str
    config: type[Settings]
    cells: Callable[[Any], Sequence[Cell]]
    run_cell: Callable[[Any, tuple], list[Row]]
    summarize: Callable[[Any, list[Row]], list[Estimate]]
    tables: Callable[[Any], Sequence[Table]]
    panels: Callable[["Result"], Sequence[Panel]]
    presets: Mapping[str, Mapping[str, Any]] = {"default": {}}
    about: str = ""
    caption: str | Callable[[Any], str] = ""
    check: Callable[[Any], None] | None = None

    def __repr__(self) -> str:
        return f"Study({self.name}: {self.title})"

    def run(
        self,
        config: Settings | None = None,
        *,
        out: str | os.PathLike | None = None,
        resume: bool = False,
        overwrite: bool = False,
        progress: bool = False,
        workers: int | None = None,
    ) -> "Result":
        """Run all cells that are not on disk, and summarise all.

        Args:
            config: The configuration; the default one when None.
                `STUDY.config(**STUDY.presets["quick"])` makes a quick run.
            out: Folder for NAME.csv, NAME.json, NAME.png and the journal; nothing is written when
                None.
            resume: Continue an interrupted run of the same configuration from its journal.
            overwrite: Replace a run in the folder.
            progress: Show a bar on stderr.
            workers: Number of threads that compile and run cells; when None, the number of cores
                but at most 2, because linear algebra within a cell uses all cores by itself.
                Settings by JAX's context managers hold in the calling thread, so that they reach
                the cells for workers=1 only.

        Raises:
            FileExistsError: If `out` holds a run and neither `resume` nor `overwrite` is set.
            NotADirectoryError, PermissionError: If `out` cannot be written.
            ImportError: If matplotlib or tqdm is needed and missing (extra `studies`).

        Example:
            >>> from kernelgap.studies import noisy_gd
            >>> tiny = noisy_gd.NoisyGDConfig(
            ...     d=3, n=10, widths=(4,), steps=10, records=2, seeds=2)
            >>> result = noisy_gd.STUDY.run(tiny)
            >>> len(result.rows)  # 3 methods, 2 starts, 2 seeds, 3 steps; 2 references
            38
        """
        config = self.config() if config is None else config
        if not isinstance(config, self.config):
            expected, given = self.config.__name__, type(config).__name__
            raise TypeError(f"`config` must be a {expected}; got {given}")
        workers = execution.checked_workers(
            out, resume=resume, overwrite=overwrite, workers=workers
        )
        if self.check is not None:
            self.check(config)
        started = time.perf_counter()
        done = _run(self, config, out, resume, overwrite, progress, workers)
        cells = {cell.identity: done[cell.identity] for cell in self.cells(config)}
        provenance = execution.describe_environment() | {
            "seconds": {
                "wall_of_this_call": time.perf_counter() - started,
                "cells": sum(cell.seconds for cell in cells.values()),
            },
            "workers": workers,
        }
        rows = [row for cell in cells.values() for row in cell.rows]
        result = Result(self, config, cells, self.summarize(config, rows), provenance)
        if out is not None:
            result.save(out)
        return result


class Result(NamedTuple):
    """Rows and estimates of a study.

    Attributes:
        study: The study that was run.
        config: Its configuration.
        cells: The rows of each cell, and the seconds that it took, by its identity.
        estimates: The summary, one estimate per metric and grid point.
        provenance: Versions, device, dtype, timings.
    """

    study: Study
    config: Any
    cells: dict[tuple, CellResult]
    estimates: list[Estimate]
    provenance: dict[str, Any]

    @property
    def rows(self) -> list[Row]:
        """One dict per learner, grid point and seed."""
        return [row for cell in self.cells.values() for row in cell.rows]

    def select(self, metric: str, keys: Mapping[str, Any] | None = None) -> list[Estimate]:
        """Return the estimates of one metric that have the given keys."""
        return select(self.estimates, metric, keys)

    def table(self) -> str:
        """Return the main estimates as short text tables."""
        specifications = self.study.tables(self.config)
        texts = (tables.text(self.estimates, table) for table in specifications)
        return "\n\n".join(text for text in texts if text)

    def plot(self) -> Any:
        """Return the figure, of several panels, as a matplotlib Figure (extra `studies`).

        Its panels are `plot().axes`. It takes no `ax`: the panels have a common layout and legend.
        """
        return panels.figure(self, shown=True)

    def to_pandas(self) -> Any:
        """Return the rows as a pandas DataFrame (extra `studies`)."""
        try:
            import pandas
        except ImportError as error:
            raise missing_extra("data frames need", "pandas") from error
        return pandas.DataFrame(self.rows)

    def document(self) -> dict[str, Any]:
        """Return everything but the rows, as stored in NAME.json."""
        header = store.journal_header(self.study.name, dataclasses.asdict(self.config), False)
        return {k: header[k] for k in ("format", "study", "config")} | store.encode(
            {
                "estimates": [estimate._asdict() for estimate in self.estimates],
                "provenance": self.provenance,
                "rows": len(self.rows),
            }
        )

    def save(self, out: str | os.PathLike) -> list[Path]:
        """Write NAME.journal.jsonl, .csv, .json and .png into a folder, each atomically."""
        folder, name = store.prepare_folder(out), self.study.name
        x64 = bool(self.provenance.get("x64"))
        header = store.journal_header(name, dataclasses.asdict(self.config), x64)
        contents = {
            f"{name}.journal.jsonl": store.journal_text(header, self.cells.items()),
            f"{name}.csv": store.csv_text(self.rows),
            f"{name}.json": store.document_text(self.document()),
            f"{name}.png": panels.png(panels.figure(self), dpi=160),
        }
        for file, content in contents.items():
            write_atomically(folder / file, content)
        return [folder / file for file in contents]

    def __repr__(self) -> str:
        return f"{self.study.name} study, {len(self.rows)} rows\n{self.table()}"

    def _repr_html_(self) -> str:
        config = html_table(dataclasses.asdict(self.config).items(), caption="configuration")
        return Html(
            f"<p><b>{escape(self.study.name)}</b>: {escape(self.study.title)}; "
            f"{len(self.rows)} rows</p><pre>{escape(self.table())}</pre>"
            f"<details><summary>configuration</summary>{config}</details>"
        )


def _run(
    study: Study,
    config: Any,
    out: str | os.PathLike | None,
    resume: bool,
    overwrite: bool,
    progress: bool,
    workers: int,
) -> dict[tuple, CellResult]:
    """Run the cells that are missing in the journal of `out`, and return all cells."""
    cells, lock = study.cells(config), threading.Lock()
    header = store.journal_header(study.name, dataclasses.asdict(config), execution.x64())
    with Journal(out, header, resume=resume, overwrite=overwrite) as journal:
        missing = [cell for cell in cells if cell.identity not in journal.done]
        done = len(cells) - len(missing)
        shown = progress_bar(len(cells), study.name, unit="cell", done=done, enabled=progress)
        with shown, execution.interrupt_check() as check:

            def work(cell: Cell) -> None:
                check()
                started = time.perf_counter()
                rows = study.run_cell(config, cell.identity)
                with lock:
                    journal.add(cell.identity, CellResult(rows, time.perf_counter() - started))
                    shown.update()

            try:
                execution.run_cells(work, missing, workers)
                check()
            except KeyboardInterrupt as stop:
                finished = f"{len(journal.done)} of {len(cells)} cells"
                if out is None:
                    stop.add_note(f"{finished} were finished and are lost: runs with `out` keep "
                                  "them")  # fmt: skip
                else:
                    stop.add_note(f"{finished} are safe in {os.fspath(out)!r}: run again with "
                                  "resume=True")  # fmt: skip
                raise
        return journal.done


def load(path: str | os.PathLike, studies: Mapping[str, Study]) -> Result:
    """Return the one result at a path; see `kernelgap.load`."""
    files = store.find_results(path, studies)
    if len(files) > 1:
        raise ValueError(f"{os.fspath(path)!r} holds results of several studies, "
                         f"{', '.join(files)}: name the JSON file of one")  # fmt: skip
    (file,) = files.values()
    document = store.read_document(file)
    name = document["study"]
    if name not in studies:
        raise ValueError(f"{str(file)!r} is of a study {name!r}, which this version does not know; "
                         f"it has {', '.join(studies)}")  # fmt: skip
    study = studies[name]
    _, done, _ = store.read_journal(file.with_suffix(".journal.jsonl"))
    try:
        config = from_json(study.config, document["config"])
        cells = {cell.identity: done[cell.identity] for cell in study.cells(config)}
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"the configuration in {str(file)!r} does not fit this version: {error}"
        ) from error
    except KeyError as error:
        raise ValueError(
            f"{str(file)!r} and the journal beside it are not of the same run: the cell "
            f"{error} is missing"
        ) from None
    estimates = [Estimate(**estimate) for estimate in document["estimates"]]
    return Result(study, config, cells, estimates, document["provenance"])
