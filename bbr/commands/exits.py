"""How a command ends: its exit status, and the one sentence of a command that fails."""

from typing import Final

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1  # it could not do its work, or what it looked at is not as it should be
EXIT_USAGE: Final = 2  # an argument, a variable or a file that an argument names is unusable


class CommandError(Exception):
    """A command can't go on. The message is one sentence for stderr, without its full stop."""

    def __init__(self, status: int, why: object) -> None:
        super().__init__(str(why))
        self.status = status
