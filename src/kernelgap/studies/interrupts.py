"""A Ctrl-C that is not lost."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def remembered() -> Iterator[Callable[[], None]]:
    """Yields a check that raises KeyboardInterrupt if Ctrl-C came before.

    Python drops an exception that is raised within a destructor or a callback of a weak reference,
    of which JAX has many; the one of Ctrl-C can fall there. Elsewhere it is raised as ever. Other
    handlers than Python's own, and threads, which no signal reaches, are left alone.
    """
    before = signal.getsignal(signal.SIGINT)
    main = threading.current_thread() is threading.main_thread()
    if not main or before is not signal.default_int_handler:
        yield lambda: None
        return
    came = threading.Event()

    def handle(*_: object) -> None:
        came.set()
        raise KeyboardInterrupt

    def check() -> None:
        if came.is_set():
            raise KeyboardInterrupt

    signal.signal(signal.SIGINT, handle)
    try:
        yield check
    finally:
        signal.signal(signal.SIGINT, before)
