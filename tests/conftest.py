"""Settings for the whole suite."""

from hypothesis import settings

# Machines are noisy: how long an example takes is not what a property says. print_blob: how to repeat a failure.
settings.register_profile("bbr", deadline=None, print_blob=True)
settings.load_profile("bbr")
