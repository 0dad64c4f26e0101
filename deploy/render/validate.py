"""`make validate`: the chart and the manifests, by both Helms, against the schemas of every kind and each other.

Every case of deploy/chart/ci and every file of deploy/values is rendered for every gateway. What is rendered must be
the same by both Helms, be valid by the schemas in deploy/schemas and their CEL rules, and have no findings.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from deploy.render import helm, manifests
from deploy.render.cel import RuleError
from deploy.render.findings import findings
from deploy.render.helm import Document
from deploy.render.schemas import SchemaError, Schemas

# Pickers and a pool that a case takes for being there already.
OUTSIDE: Final = frozenset({"outside-epp", "outside-pool", "outside-pool-epp"})


def sources() -> list[tuple[str, Path]]:
    """Return the files of values that are tried for every gateway, with names."""
    return helm.cases() + [(file.stem, file) for file in sorted(helm.VALUES.glob("*.yaml"))]


def rendered(name: str, values: Path, provider: str) -> tuple[list[Document], list[str]]:
    """Render by both Helms; return the objects, and what is wrong but for schemas.

    Raises:
        HelmError: Helm refused.
    """
    settings = {"provider.name": provider}
    first, second = (
        helm.documents(helm.render(program, [values], settings, apis=manifests.APIS)) for program in helm.HELMS
    )
    wrong = [f"{name} for {provider}: the two Helms differ"] if first != second else []
    return first, wrong + [f"{name} for {provider}: {finding}" for finding in findings(first, OUTSIDE)]


def kustomized(gateway: str, directory: Path = manifests.DIRECTORY) -> tuple[list[Document], list[str]]:
    """Build a gateway's kustomization; return the objects, and what is wrong but for schemas.

    Raises:
        HelmError: kubectl refused.
    """
    found = helm.documents(helm.run("kubectl", "kustomize", str(directory / gateway)))
    return found, [f"deploy/manifests/{gateway}: {finding}" for finding in findings(found)]


class Validation:
    """Holds objects against schemas, and counts them.

    Args:
        schemas: to hold them against.
    """

    def __init__(self, schemas: Schemas) -> None:
        self._schemas = schemas
        self.objects = 0
        self.renderings = 0

    def invalid(self, name: str, documents: Iterable[Document]) -> Iterator[str]:
        """Yield what is invalid in a rendering."""
        self.renderings += 1
        for document in documents:
            self.objects += 1
            where = f"{document.get('kind')}/{(document.get('metadata') or {}).get('name')}"
            yield from (f"{name}: {where}: {fault}" for fault in self._schemas.faults(document))


def problems(validation: Validation) -> Iterator[str]:
    """Do all of it; yield what is wrong.

    Raises:
        HelmError: Helm or kubectl refused.
        SchemaError, RuleError: a schema can't be used.
    """
    for program in helm.HELMS:
        helm.run(program, "lint", "--strict", str(helm.CHART))
    yield from (f"deploy/manifests/{path} is out of date: run make manifests" for path in manifests.outdated())
    for name, values in sources():
        for provider in helm.PROVIDERS:
            found, wrong = rendered(name, values, provider)
            yield from wrong
            yield from validation.invalid(f"{name} for {provider}", found)
    for gateway in manifests.GATEWAYS:
        found, wrong = kustomized(gateway)
        yield from wrong
        yield from validation.invalid(f"deploy/manifests/{gateway}", found)


def main() -> int:
    """Print what is wrong; exit with 1 if anything is."""
    try:
        validation = Validation(Schemas())
        wrong = list(problems(validation))
    except (helm.HelmError, SchemaError, RuleError) as error:
        print(error)
        return 1
    for each in wrong:
        print(each)
    print(f"{len(wrong)} problems in {validation.objects} objects of {validation.renderings} renderings")
    return 1 if wrong or not validation.objects else 0


if __name__ == "__main__":
    raise SystemExit(main())
