"""Fuzz one target by coverage: python -m tests.fuzz.run TARGET [libFuzzer's options]. Needs `pip install atheris`.

What it finds goes to a scratch directory, which it names; put what is worth keeping into corpus/TARGET.
"""

import importlib
import sys
import tempfile
from pathlib import Path

CORPUS = Path(__file__).parent / "corpus"
TARGETS = (
    *("octets", "frames", "blocks", "scanner", "multipart", "form", "encodings", "uri", "documents", "answers"),
    *("wire", "fields"),
)


def main() -> None:
    try:
        import atheris
    except ImportError:
        raise SystemExit("atheris is not installed") from None
    program, *arguments = sys.argv
    if not arguments or arguments[0] not in TARGETS:
        raise SystemExit(f"which of {', '.join(TARGETS)}?")
    target, *options = arguments
    with atheris.instrument_imports(include=["bbr"]):
        check = importlib.import_module(f"tests.fuzz.{target}").check
    scratch = tempfile.mkdtemp(prefix=f"fuzz-{target}-")
    print("new inputs:", scratch)
    atheris.Setup([program, f"-artifact_prefix={scratch}/", *options, scratch, str(CORPUS / target)], check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
