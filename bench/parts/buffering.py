"""bbr, but that it reads JSON bodies of up to 64 MiB whole: what bench.parts.bodies compares it with."""

from bbr.cli import main
from bbr.config import policies

vars(policies)["STREAM_THRESHOLD_BYTES"] = 64 << 20

if __name__ == "__main__":
    raise SystemExit(main())
