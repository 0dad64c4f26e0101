"""How many examples a property is given.

The gate takes the same few each time. BBR_EXAMPLES=20 gives it 20 times as many, for whoever looks for faults:

    BBR_EXAMPLES=20 make test ARGS=tests/property
"""

import os

from hypothesis import settings

TIMES = int(os.environ.get("BBR_EXAMPLES", "1"))


def examples(count: int, steps: int = 50) -> settings:
    """Return the settings for so many examples in the gate, of so many steps where an example is a history."""
    return settings(max_examples=count * TIMES, stateful_step_count=steps, deadline=None)
