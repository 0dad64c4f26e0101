"""Generate bbr/pb from protos/ with grpcio-tools; with --check, only report whether the files there are up to date."""

import argparse
import importlib.resources
import sys
import tempfile
from pathlib import Path

PROTOS = Path(__file__).resolve().parent
ROOT = PROTOS.parent


def generate(out: Path) -> list[Path]:
    """Compile every .proto below protos/ into `out` and return the paths made, relative to `out`."""
    from grpc_tools import protoc  # a development dependency, not needed to import this file

    sources = sorted(str(path.relative_to(PROTOS)) for path in PROTOS.rglob("*.proto"))
    include = importlib.resources.files("grpc_tools") / "_proto"
    code = protoc.main(["protoc", f"-I{PROTOS}", f"-I{include}", f"--python_out={out}", f"--pyi_out={out}", *sources])
    if code:
        raise SystemExit(code)
    return sorted(path.relative_to(out) for path in out.rglob("*_pb2.py*"))


def main() -> int:
    """Write the generated files, or compare them with those in the tree and return 1 if any differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if a file is out of date")
    check = parser.parse_args().check
    with tempfile.TemporaryDirectory() as scratch:
        fresh = generate(Path(scratch))
        present = sorted(path.relative_to(ROOT) for path in (ROOT / "bbr" / "pb").glob("*_pb2.py*"))
        stale = [path for path in sorted({*fresh, *present}) if not same(Path(scratch) / path, ROOT / path)]
        if check:
            for path in stale:
                print(f"{path} is not what protos/ generates: run `make protos`", file=sys.stderr)
            return 1 if stale else 0
        for path in stale:
            if path in fresh:
                (ROOT / path).write_bytes((Path(scratch) / path).read_bytes())
            else:
                (ROOT / path).unlink()
    return 0


def same(left: Path, right: Path) -> bool:
    """Tell whether both files exist and are equal."""
    return left.is_file() and right.is_file() and left.read_bytes() == right.read_bytes()


if __name__ == "__main__":
    raise SystemExit(main())
