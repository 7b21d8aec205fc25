"""Suppress the warnings of other libraries, safely across threads."""

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.RLock()


@contextmanager
def ignore_warnings(category: type[Warning] = Warning) -> Iterator[None]:
    """Ignore warnings of a category within the context, one thread at a time.

    Python's filters belong to the process: if two threads overlapped, the second to leave would
    restore the filters of the first for good.
    """
    with _lock, warnings.catch_warnings():
        warnings.simplefilter("ignore", category)
        yield
