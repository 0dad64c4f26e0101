"""`python -m bbr`."""

from bbr.cli import main

raise SystemExit(main())
