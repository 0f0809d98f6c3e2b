"""Progress bars and notes on stderr; none where there is no terminal, or no stderr."""

from __future__ import annotations

import sys
from typing import Any

from cconv.train.history import Row, cell


def bar(total: int, title: str, unit: str, shown: bool) -> Any:
    """A tqdm bar; its methods do nothing if it is not shown.

    tqdm is imported here, so that `import cconv` does not load it.
    """
    from tqdm import tqdm

    disable = True if not shown or sys.stderr is None else None  # None: only if stderr is no terminal
    return tqdm(total=total, desc=title, unit=unit, disable=disable, dynamic_ncols=True)


def note(line: str, shown: bool) -> None:
    """A line above the bars, unless it is empty."""
    if line and shown and sys.stderr is not None:
        from tqdm import tqdm

        tqdm.write(line, file=sys.stderr)


class EpochBar:
    """One epoch's bar: examples done, examples per second, mean loss. A context manager."""

    def __init__(self, examples: int, title: str, shown: bool) -> None:
        self._bar = bar(examples, title, "img", shown)

    def __enter__(self) -> EpochBar:
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()

    def advance(self, examples: int, loss: float) -> None:
        if not self._bar.disable:
            self._bar.set_postfix_str(f"loss={loss:.4f}", refresh=False)
            self._bar.update(examples)

    def finish(self, row: Row) -> None:
        """Show the whole epoch's numbers."""
        if not self._bar.disable:
            left_out = ("epoch", "seconds", "learning_rate")
            self._bar.set_postfix({name: cell(name, value) for name, value in row.items() if name not in left_out})
