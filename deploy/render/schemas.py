"""Holds objects of Kubernetes against schemas, as an API server would that is asked to be strict, without one.

Custom kinds: the CRDs in deploy/schemas, by structural schema, defaults and rules in CEL. All other kinds: the schemas
that kubernetes-validate has. A kind that neither knows is refused.
"""

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

import kubernetes_validate
import yaml
from jsonschema.exceptions import ValidationError
from jsonschema.validators import Draft202012Validator
from kubernetes_validate.utils import schema_contents
from referencing import Registry, Resource

from deploy.render.cel import Rules
from deploy.render.helm import ROOT, Document
from deploy.render.structural import Structural, with_defaults

DIRECTORY: Final = ROOT / "deploy" / "schemas"

_SUBDOMAIN: Final = re.compile(r"(?=.{1,253}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LABEL: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_LABEL_VALUE: Final = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
_OBJECT_FIELDS: Final = ("apiVersion", "kind", "metadata")
# Kinds of workloads that must select the pods that they make.
_WITH_SELECTORS: Final = frozenset({"DaemonSet", "Deployment", "StatefulSet"})
_ANYTHING: Final = {"x-kubernetes-preserve-unknown-fields": True}


class SchemaError(Exception):
    """There are no schemas, or one of them can't be used; the message says which."""


class Kind(NamedTuple):
    """A version of a custom kind.

    Attributes:
        namespaced: whether its objects are in a namespace.
        served: whether a server offers this version.
        schema: its openAPIV3Schema.
        structural: the same, ready to be asked.
    """

    namespaced: bool
    served: bool
    schema: dict[str, Any]
    structural: Structural


class Schemas:
    """The schemas of a directory; files are read when an object of their group comes.

    Args:
        directory: files of CRDs, named GROUP_PLURAL.yaml in any folder of it.

    Raises:
        SchemaError: there is no such file in it.
    """

    def __init__(self, directory: Path = DIRECTORY) -> None:
        self._files: dict[str, list[Path]] = {}
        for file in sorted(directory.rglob("*_*.yaml")):
            self._files.setdefault(file.name.partition("_")[0], []).append(file)
        if not self._files:
            raise SchemaError(f"{directory} holds no schemas (GROUP_PLURAL.yaml): nothing can be validated")
        self._kinds: dict[str, dict[tuple[str, str], Kind]] = {}
        self._rules = Rules()

    def faults(self, document: Document) -> Iterator[str]:
        """Yield what is wrong with an object, each as path and sentence.

        Raises:
            SchemaError: a CRD's file can't be used.
            RuleError: a rule of a CRD can't be compiled.
        """
        version, kind = document.get("apiVersion"), document.get("kind")
        if not isinstance(version, str) or not isinstance(kind, str):
            yield "apiVersion and kind: both must be texts"
            return
        group = version.rpartition("/")[0]
        if group not in self._files:
            yield from core_faults(document)
            return
        kinds = self._group(group)
        found = kinds.get((version, kind))
        if found is None:
            known = ", ".join(sorted(f"{kind} of {version}" for version, kind in kinds))
            yield f"kind: there is no {kind} of {version}; known are {known}"
            return
        if not found.served:
            yield f"apiVersion: no server offers {version}"
        yield from metadata_faults(document.get("metadata"), namespaced=found.namespaced)
        yield from self._custom(document, found)

    def _custom(self, document: Document, kind: Kind) -> Iterator[str]:
        named = {name: each for name, each in kind.schema.get("properties", {}).items() if name not in _OBJECT_FIELDS}
        whole = with_defaults({**kind.schema, "properties": named}, document)
        faults = list(kind.structural.faults(whole))
        yield from faults
        if not faults:  # as a server does it: rules may count on what the schema says
            yield from self._rules.faults(kind.schema, whole)

    def _group(self, group: str) -> dict[tuple[str, str], Kind]:
        if group not in self._kinds:
            self._kinds[group] = {key: kind for file in self._files[group] for key, kind in _read(file)}
        return self._kinds[group]


def _read(file: Path) -> Iterator[tuple[tuple[str, str], Kind]]:
    """Yield the versions that a file defines.

    Raises:
        SchemaError: it is no CRD, or not of the group that its name says.
    """
    # Some come out of a chart, and have a line of its template before and behind them.
    text = "\n".join(line for line in file.read_text("utf-8").splitlines() if not line.startswith("{{"))
    found = [document for document in yaml.load_all(text, yaml.CSafeLoader) if document]
    if [document.get("kind") for document in found] != ["CustomResourceDefinition"]:
        raise SchemaError(f"{file} is no CustomResourceDefinition")
    spec = found[0]["spec"]
    if f"{spec['group']}_{spec['names']['plural']}.yaml" != file.name:
        raise SchemaError(f"{file} defines {spec['names']['plural']} of {spec['group']}, which is not its name")
    for version in spec["versions"]:
        schema = version["schema"]["openAPIV3Schema"]
        fields = schema.get("properties", {}) | dict.fromkeys(_OBJECT_FIELDS, _ANYTHING)
        yield (
            (f"{spec['group']}/{version['name']}", spec["names"]["kind"]),
            Kind(
                spec["scope"] == "Namespaced",
                version.get("served", True),
                schema,
                Structural({**schema, "properties": fields}),
            ),
        )


def core_faults(document: Document) -> Iterator[str]:
    """Yield what is wrong with an object of a kind of Kubernetes' own: of its schema, the first thing."""
    yield from metadata_faults(document.get("metadata"), namespaced=None)
    if said := _core(json.dumps(document, sort_keys=True)):
        yield said
    elif document["kind"] in _WITH_SELECTORS:
        wanted = document["spec"]["selector"].get("matchLabels", {})
        labels = document["spec"]["template"]["metadata"].get("labels", {})
        if not wanted.items() <= labels.items():
            yield f"spec.selector: the template's labels have not all of {wanted}"


@cache
def _core(text: str) -> str:
    document = json.loads(text)
    try:
        _core_validator(document["apiVersion"], document["kind"]).validate(document)
    except FileNotFoundError:
        return f"kind: no schema here knows {document['kind']} of {document['apiVersion']}"
    except ValidationError as error:
        return f"{'.'.join(map(str, error.path)) or 'the object'}: {error.message}"
    return ""


@cache
def _core_validator(version: str, kind: str) -> Any:
    """Return what `kubernetes_validate.validate` asks, strictly, of an object; it would read 2 MB for each object.

    Raises:
        FileNotFoundError: it has no schema of that kind.
    """
    group, _, number = version.rpartition("/")
    named = f"{group.partition('.')[0]}-{number}" if group else number
    schema = schema_contents(f"{_core_folder()}/{kind.lower()}-{named}.json", kubernetes_validate.latest_version())
    registry = _core_definitions() @ (Resource.from_contents(schema) @ Registry())
    return Draft202012Validator(schema, registry=registry)


def _core_folder() -> str:
    return f"kubernetes-json-schema/v{kubernetes_validate.latest_version()}-local-strict"


@cache
def _core_definitions() -> Any:
    """Return what all schemas of Kubernetes' own kinds refer to."""
    return Resource.from_contents(
        schema_contents(f"{_core_folder()}/_definitions.json", kubernetes_validate.latest_version())
    )


def metadata_faults(metadata: object, *, namespaced: bool | None) -> Iterator[str]:
    """Yield what a server would say of an object's metadata that schemas don't.

    Args:
        metadata: of the object.
        namespaced: whether its kind is; None if that is not known.
    """
    if not isinstance(metadata, dict):
        yield "metadata: must be an object"
        return
    name, namespace = metadata.get("name"), metadata.get("namespace")
    if not isinstance(name, str) or not _SUBDOMAIN.fullmatch(name):
        yield f"metadata.name: {name!r} is no DNS subdomain"
    if namespaced is False and namespace is not None:
        yield "metadata.namespace: objects of this kind are in none"
    elif namespace is not None and not (isinstance(namespace, str) and _LABEL.fullmatch(namespace)):
        yield f"metadata.namespace: {namespace!r} is no DNS label"
    for field in ("labels", "annotations"):
        if not isinstance(pairs := metadata.get(field) or {}, dict):
            yield f"metadata.{field}: must be an object"
            continue
        for key, value in pairs.items():
            prefix, _, last = str(key).rpartition("/")
            if not last or not _LABEL_VALUE.fullmatch(last) or (prefix and not _SUBDOMAIN.fullmatch(prefix)):
                yield f"metadata.{field}: {key!r} is no name for one"
            if not isinstance(value, str) or (field == "labels" and not _LABEL_VALUE.fullmatch(value)):
                yield f"metadata.{field}.{key}: {value!r} is no value for one"
    if namespaced is not None:
        # The fields themselves: a kind of Kubernetes' own has the same.
        probe = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}
        if said := _core(json.dumps(probe, sort_keys=True, default=str)):
            yield said
