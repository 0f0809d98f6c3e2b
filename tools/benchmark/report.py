"""Tables of scores, for a terminal or for docs/performance.md, and the scores as JSON."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from itertools import groupby

from benchmark.contest import Score
from cconv.versions import versions

Table = tuple[str, list[tuple[str, ...]]]  # a title, and rows of which the first is the header


def aligned(table: Table, markdown: bool) -> str:
    """The table as text: first column to the left, others to the right."""
    title, rows = table
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = []
    for first, *others in rows:
        cells = [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(others, widths[1:]))]
        lines.append(f"| {' | '.join(cells)} |" if markdown else "  ".join(cells).rstrip())
    rule = "|" + "|".join(["-" * (widths[0] + 2), *("-" * (n + 1) + ":" for n in widths[1:])]) + "|"
    lines.insert(1, rule if markdown else "-" * max(map(len, lines)))
    return "\n".join([f"### {title}" if markdown else title, "", *lines, ""])


def machine(scores: Sequence[Score], threads: int) -> list[str]:
    """What a reader must know beside the numbers."""
    found = versions()
    peers = {score.side.engine: score.version for score in scores if score.version}
    engines = [f"cconv {found['cconv']} ({found['build'].split(' ')[0]})", *(f"{k} {v}" for k, v in peers.items())]
    lines = [
        f"{found['processor']}, {threads} {'thread' if threads == 1 else 'threads'}; {', '.join(engines)}; "
        f"{datetime.date.today()}",
    ]
    peaks = sorted(score.peak / 1e9 for score in scores if not score.failure)
    if peaks:
        lines.append(f"FMA peak measured beside each pair of runs: {peaks[0]:.0f} to {peaks[-1]:.0f} GFLOP/s")
    return lines


def tables(scores: Sequence[Score]) -> list[Table]:
    """One of all scores for each mode and batch size, and for several opponents one of the fastest."""
    result: list[Table] = []
    what = {"train": "Training step", "infer": "Inference", "frozen": "Training step, all but the head frozen"}
    ordered = sorted(scores, key=_mode_and_batch)
    for (mode, batch), group in groupby(ordered, key=_mode_and_batch):
        mine = list(group)
        title = f"{what[mode]}, batch {batch}"
        result.append((title, [ROW_HEADER, *map(row, mine)]))
        best = [cells for net in dict.fromkeys(score.task.net for score in mine) for cells in fastest(net, mine)]
        if 0 < len(best) < len(mine):
            result.append((f"{title}: the fastest", [("network", "against", "ratio", "memory"), *best]))
    return result


ROW_HEADER = ("network", "against", "cconv", "peer", "ratio", "quartiles", "cconv MB", "peer MB", "memory")


def row(score: Score) -> tuple[str, ...]:
    if score.failure:
        return (score.task.net, str(score.side), "–", "–", "failed", *("–",) * 4)
    low, high = score.spread
    return (
        score.task.net,
        str(score.side),
        duration(score.ours),
        duration(score.theirs),
        f"{score.ratio:.2f}x",
        f"{low:.2f}–{high:.2f}",
        megabytes(score.our_bytes),
        megabytes(score.their_bytes),
        memory_ratio(score),
    )


def fastest(net: str, scores: Sequence[Score]) -> list[tuple[str, ...]]:
    """Rows for the opponents that leave cconv the smallest ratio: in training one as installed and one tuned."""
    good = [score for score in scores if score.task.net == net and not score.failure]
    if good and good[0].task.mode == "infer":
        groups = [good]
    else:
        groups = [[score for score in good if score.side.tuned == tuned] for tuned in (False, True)]
    best = [min(group, key=lambda score: score.ratio) for group in groups if group]
    return [(net, str(score.side), f"{score.ratio:.2f}x", memory_ratio(score)) for score in best]


def memory_ratio(score: Score) -> str:
    if not score.our_bytes or not score.their_bytes:
        return "–"
    return f"{score.our_bytes / score.their_bytes:.2f}x"


def megabytes(count: int | None) -> str:
    return "–" if count is None else f"{count / 1e6:.0f}"


def duration(seconds: float) -> str:
    return f"{1e6 * seconds:.0f} µs" if seconds < 0.01 else f"{1e3 * seconds:.0f} ms"


def _mode_and_batch(score: Score) -> tuple[str, int]:
    return score.task.mode, score.task.batch
