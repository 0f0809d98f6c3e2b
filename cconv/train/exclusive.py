"""What is used by one thread at a time, and says so to a second one."""

from __future__ import annotations

import threading

from cconv.errors import TrainingError, explain


class Exclusive:
    """Entered by one thread at a time, which may enter again within; another gets a TrainingError at once.

    A class and no generator: it is entered at every step, where a generator takes 9 microseconds more of a small
    network's 700.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        if not self._lock.acquire(blocking=False):
            raise TrainingError(
                explain(
                    "trainer",
                    "is used by one thread at a time",
                    "another thread in it",
                    "Give each thread a Trainer of its own.",
                )
            )

    def __exit__(self, *error: object) -> None:
        self._lock.release()
