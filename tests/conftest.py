"""Settings for the whole suite."""

import os

from hypothesis import settings

# Machines are noisy: how long an example takes is not what a property says. print_blob: how to repeat a failure.
# The gate must not depend on luck: in CI examples are the same every time, on a developer's machine they are new ones.
settings.register_profile("bbr", deadline=None, print_blob=True, derandomize="CI" in os.environ)
settings.load_profile("bbr")

# As `bbr serve` does: grpcio's C core tells of refused binds and resets on stderr, in a format of its own.
os.environ["GRPC_VERBOSITY"] = "NONE"
