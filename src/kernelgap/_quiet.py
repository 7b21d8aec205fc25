"""Warnings of other libraries that are judged here, switched off for a while, in any thread."""

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.RLock()


@contextmanager
def ignored(category: type[Warning] = Warning) -> Iterator[None]:
    """Ignore warnings of a category in what follows.

    One thread at a time: Python's filters belong to the process, and where two threads overlap, the
    second to leave would restore those that the first had set, for good.
    """
    with _lock, warnings.catch_warnings():
        warnings.simplefilter("ignore", category)
        yield
