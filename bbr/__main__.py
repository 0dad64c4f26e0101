"""`python -m bbr`."""

import sys

try:
    from bbr.cli import main
except ModuleNotFoundError as error:
    if (error.name or "bbr").partition(".")[0] == "bbr":
        raise
    # In a clone, before anything is installed.
    sys.exit(
        f"bbr: its dependencies are not installed for {sys.executable}: no module named {error.name}.\n"
        "Install bbr into a virtual environment: python3 -m venv ~/.bbr && ~/.bbr/bin/pip install '.[kubernetes]'"
    )

raise SystemExit(main())
