"""Writes the output of a command to stdout."""

import logging
import os
import sys

from bbr.text import printable_json_lines, printable_lines


def answer_only() -> None:
    """Keep logs off stderr: what is wrong stands in the answer of a command that looks, and need not be said twice."""
    logging.getLogger("bbr").addHandler(logging.NullHandler())


def write(text: str, *, as_json: bool = False) -> None:
    """Write to stdout. What a terminal would obey, nobody could see, or its encoding lacks, is escaped.

    Args:
        text: lines.
        as_json: they are JSON, and so are the escapes.

    Raises:
        SystemExit: stdout can't be written to; a reader that has closed it is no error.
    """
    text = printable_json_lines(text) if as_json else printable_lines(text)
    encoding = sys.stdout.encoding or "utf-8"
    try:
        sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
        sys.stdout.flush()
    except OSError as error:
        # What is left in the buffer would be tried again, and fail again, when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):  # whoever reads has seen enough
            raise SystemExit(f"bbr: stdout can't be written to: {error.strerror}.") from None
