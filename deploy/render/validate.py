"""`make validate`: the chart and the manifests, by both Helms, against the schemas of every kind and each other.

Every case of deploy/chart/ci and every file of deploy/values is rendered for every gateway. What is rendered must be
the same by both Helms, pass the validator (schemas and CEL rules, where they are beside the project), and have no
findings.
"""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from deploy.render import helm, manifests, tools
from deploy.render.findings import findings

# Pickers and a pool that a case takes for being there already.
OUTSIDE: Final = frozenset({"outside-epp", "outside-pool", "outside-pool-epp"})


def sources() -> list[tuple[str, Path]]:
    """Return the files of values that are tried for every gateway, with names."""
    return helm.cases() + [(file.stem, file) for file in sorted(helm.VALUES.glob("*.yaml"))]


def rendered(name: str, values: Path, provider: str, into: Path) -> Iterator[str]:
    """Render by both Helms into a file; yield what is wrong.

    Raises:
        HelmError: Helm refused.
    """
    settings = {"provider.name": provider}
    first, second = (helm.documents(helm.render(program, [values], settings)) for program in helm.HELMS)
    if first != second:
        yield f"{name} for {provider}: the two Helms differ"
    (into / f"{name}-{provider}.yaml").write_text(manifests.dump(first), "utf-8")
    yield from (f"{name} for {provider}: {finding}" for finding in findings(first, OUTSIDE))


def kustomized(gateway: str, into: Path, directory: Path = manifests.DIRECTORY) -> Iterator[str]:
    """Build a gateway's kustomization into a file; yield what is wrong.

    Raises:
        HelmError: kubectl refused.
    """
    text = helm.run("kubectl", "kustomize", str(directory / gateway))
    (into / f"kustomize-{gateway}.yaml").write_text(text, "utf-8")
    yield from (f"deploy/manifests/{gateway}: {finding}" for finding in findings(helm.documents(text)))


def validated(python: Path, directory: Path) -> Iterator[str]:
    """Yield what the validator says of the files of a directory: nothing if all are valid."""
    command = [str(python), str(tools.SCHEMAS / "validate.py"), "--quiet", str(directory)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    if done.returncode:
        yield from (done.stdout + done.stderr).strip().splitlines()


def problems() -> Iterator[str]:
    """Do all of it; yield what is wrong.

    Raises:
        HelmError: Helm or kubectl refused.
    """
    for program in helm.HELMS:
        helm.run(program, "lint", "--strict", str(helm.CHART))
    yield from (f"deploy/manifests/{path} is out of date: run make manifests" for path in manifests.outdated())
    with tempfile.TemporaryDirectory() as temporary:
        into = Path(temporary)
        for name, values in sources():
            for provider in helm.PROVIDERS:
                yield from rendered(name, values, provider, into)
        for gateway in manifests.GATEWAYS:
            yield from kustomized(gateway, into)
        python = tools.validator()
        if python is None:
            print(f"No schemas in {tools.SCHEMAS}: nothing is held against them.", file=sys.stderr)
        else:
            yield from validated(python, into)


def main() -> int:
    """Print what is wrong; exit with 1 if anything is."""
    try:
        wrong = list(problems())
    except helm.HelmError as error:
        wrong = [str(error)]
    for each in wrong:
        print(each)
    renderings = len(sources()) * len(helm.PROVIDERS) + len(manifests.GATEWAYS)
    print(f"{len(wrong)} problems in {renderings} renderings")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
