"""Time that a test moves."""


class Clock:
    """Seconds.

    Args:
        now: the time at the start.
        step: by how much each look moves it on, as if all that is done took time.

    Attributes:
        looks: how often it was asked.
    """

    def __init__(self, now: float = 1000.0, step: float = 0.0) -> None:
        self.now = now
        self.step = step
        self.looks = 0

    def __call__(self) -> float:
        """Return the time."""
        self.looks += 1
        self.now += self.step
        return self.now
