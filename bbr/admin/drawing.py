"""Small curves of the last hour, as SVG within the page. They need no script and no inline style.

A curve fills the space that it has: its coordinates go from 0 to 100 in both directions and are stretched. Its title is
the tooltip, and is what a screen reader says. No text of a client gets into a curve.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from bbr.admin.forms import FORMS, level
from bbr.telemetry.metrics import DURATION_BOUNDS
from bbr.text import escape

# A column's share of errors that reaches the top, if none is higher.
_ERRORS_TOP: Final = 0.1

# Kept free above the highest value, and below the lowest, for the line's width.
_MARGIN: Final = 6

Numbers = Sequence[float]


def rates(history: dict[str, Any] | None, seconds: Numbers) -> str:
    """Draw requests per second.

    Args:
        history: a row's; None if it has none.
        seconds: how long each column is.
    """
    if not history or not seconds:
        return _empty()
    values = [number / max(long, 1e-9) for number, long in zip(history["requests"], seconds, strict=True)]
    top = max(values)
    said = f"Requests a second, at most {FORMS['rate'](top)}, in the latest column {FORMS['rate'](values[-1])}"
    ys = [_y(each / top if top else 0) for each in values]
    line = _line(ys)
    return _svg("requests", said, f'<path class="area" d="{line}V100H0Z"/><path class="line" d="{line}"/>')


def errors(history: dict[str, Any] | None, *, judged: bool = True) -> str:
    """Draw the share of errors: a bar for each column that has any.

    Args:
        history: a row's; None if it has none.
        judged: bars are in the class of their level; otherwise all are in the one of what is fine.
    """
    if not history or not history["requests"]:
        return _empty()
    shares = [
        failed / number if number else 0.0
        for failed, number in zip(history["errors"], history["requests"], strict=True)
    ]
    top = max(_ERRORS_TOP, *shares)
    width = 100 / len(shares)
    paths = {"ok": "", "warn": "", "bad": ""}
    for number, share in enumerate(shares):
        if share:
            height = max(share / top * (100 - _MARGIN), 4)
            left = f"{number * width + width * 0.1:.2f}"
            paths[level(share) if judged else "ok"] += f"M{left} 100v{-height:.1f}h{width * 0.8:.2f}v{height:.1f}z"
    bars = "".join(f'<path class="{name}" d="{path}"/>' for name, path in paths.items() if path)
    said = f"Share of errors, at most {FORMS['share'](max(shares))}, in the latest column {FORMS['share'](shares[-1])}"
    return _svg("errors", said, f'<path class="ground" d="M0 100H100"/>{bars}')


def durations(history: dict[str, Any] | None) -> str:
    """Draw the band from the median to the 99th percentile, a step of height for each bound of a bucket."""
    if not history or not any(each is not None for each in history["p99"]):
        return _empty()
    pairs = list(zip(history["p50"], history["p99"], strict=True))
    low = min(p50 for p50, _ in pairs if p50 is not None)
    high = max(p99 for _, p99 in pairs if p99 is not None)
    span = max(high - low + 1, 3)
    width = 100 / len(pairs)
    band, line = "", ""
    for begin, end, run in _runs(pairs):
        upper = [_y((p99 - low + 1) / span) for _, p99 in run]
        lower = [_y((p50 - low) / span) for p50, _ in run]
        left, right = begin * width, end * width
        band += f"M{left:.2f} {lower[0]:.1f}V{_steps(upper, begin, width)}"
        band += f"L{right:.2f} {lower[-1]:.1f}{_back(lower, begin, width)}Z"
        line += f"M{left:.2f} {_steps(lower, begin, width)}"
    said = f"Time to a decision: p50 {_bound(pairs[-1][0])}, p99 {_bound(pairs[-1][1])} in the latest column, "
    said += f"p99 {_bound(high)} at worst"
    return _svg("durations", said, f'<path class="band" d="{band}"/><path class="line" d="{line}"/>')


def _runs(pairs: Sequence[tuple[Any, Any]]) -> Iterator[tuple[int, int, list[tuple[int, int]]]]:
    """Give the stretches of columns that have values: begin, end, values."""
    begin = 0
    run: list[tuple[int, int]] = []
    for number, pair in enumerate([*pairs, (None, None)]):
        if pair[1] is not None and pair[0] is not None:
            begin = begin if run else number
            run.append(pair)
        elif run:
            yield begin, number, run
            run = []


def _steps(ys: Numbers, begin: int, width: float) -> str:
    return "".join(
        f"{'' if number == begin else 'V'}{y:.1f}H{(number + 1) * width:.2f}" for number, y in enumerate(ys, begin)
    )


def _back(ys: Numbers, begin: int, width: float) -> str:
    return "".join(f"V{y:.1f}H{(begin + number) * width:.2f}" for number, y in reversed([*enumerate(ys)]))


def _bound(bucket: int | None) -> str:
    if bucket is None:
        return FORMS["bound"](None)
    if bucket < len(DURATION_BOUNDS):
        return FORMS["bound"]({"at_most_seconds": DURATION_BOUNDS[bucket]})
    return FORMS["bound"]({"more_than_seconds": DURATION_BOUNDS[-1]})


def _y(share: float) -> float:
    return 100 - _MARGIN - share * (100 - 2 * _MARGIN)


def _line(ys: Numbers) -> str:
    """Return a line through the middle of each column, flat at its ends."""
    width = 100 / len(ys)
    inner = "".join(f"L{(number + 0.5) * width:.2f} {y:.1f}" for number, y in enumerate(ys))
    return f"M0 {ys[0]:.1f}{inner}H100"


def _svg(kind: str, said: str, inner: str) -> str:
    return (
        f'<svg class="curve {kind}" viewBox="0 0 100 100" preserveAspectRatio="none" role="img">'
        f"<title>{escape(said)}</title>{inner}</svg>"
    )


def _empty() -> str:
    return '<svg class="curve" viewBox="0 0 100 100" preserveAspectRatio="none" aria-hidden="true"></svg>'
