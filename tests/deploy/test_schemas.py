"""Kubernetes' objects against the schemas that stand in deploy/schemas."""

import copy
import re

import pytest
import yaml

from deploy.render.cel import Rules
from deploy.render.schemas import DIRECTORY, SchemaError, Schemas

ROUTE = {
    "apiVersion": "gateway.networking.k8s.io/v1",
    "kind": "HTTPRoute",
    "metadata": {"name": "qwen", "namespace": "models", "labels": {"app": "qwen"}},
    "spec": {
        "parentRefs": [{"name": "gateway"}],
        "rules": [{"backendRefs": [{"name": "qwen", "port": 8000}]}],
    },
}
EXTENSION = {
    "apiVersion": "networking.gke.io/v1",
    "kind": "GCPRoutingExtension",
    "metadata": {"name": "bbr"},
    "spec": {
        "targetRefs": [{"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "gateway"}],
        "extensionChains": [
            {
                "name": "chain1",
                "extensions": [
                    {
                        "name": "ext1",
                        "authority": "bbr.models.svc",
                        "timeout": "1s",
                        "supportedEvents": ["RequestHeaders", "RequestBody", "RequestTrailers"],
                        "requestBodySendMode": "FullDuplexStreamed",
                        "backendRef": {"group": "", "kind": "Service", "name": "bbr", "port": 9004},
                    }
                ],
            }
        ],
    },
}
DEPLOYMENT = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "bbr"},
    "spec": {
        "selector": {"matchLabels": {"app": "bbr"}},
        "template": {
            "metadata": {"labels": {"app": "bbr", "more": "x"}},
            "spec": {"containers": [{"name": "bbr", "image": "bbr", "ports": [{"containerPort": 9004}]}]},
        },
    },
}
OBJECTS = {"a route": ROUTE, "an extension of GKE's": EXTENSION, "a Deployment": DEPLOYMENT}


@pytest.fixture(scope="module")
def schemas():
    return Schemas()


@pytest.mark.parametrize("name", OBJECTS)
def test_what_is_valid(schemas, name):
    assert list(schemas.faults(OBJECTS[name])) == []


def changed(document, path, value):
    """Return a copy in which what a path leads to is another value; None takes it away."""
    found = copy.deepcopy(document)
    *steps, last = path.split("/")
    at = found
    for step in steps:
        at = at[int(step) if step.isdecimal() else step]
    last = int(last) if last.isdecimal() else last
    if value is None:
        del at[last]
    else:
        at[last] = value
    return found


EXT = "spec/extensionChains/0/extensions/0"
TEMPLATE = "spec/template/metadata/labels"


@pytest.mark.parametrize(
    ("document", "path", "value", "said"),
    [
        (ROUTE, "spec/rules/0/backendRefs/0/port", "8000", "spec.rules[0].backendRefs[0].port: '8000' is not of type"),
        (ROUTE, "spec/rules/0/backendRefs/0/port", 65_536, "65536 is greater than the maximum of 65535"),
        (ROUTE, "spec/rules/0/backendRefs/0/prot", 1, "'prot' was unexpected"),
        # This version has a port's own rule, in CEL.
        (ROUTE, "spec/rules/0/backendRefs/0/port", None, "Must have port for Service reference"),
        (ROUTE, "spec/parentRefs", [{"name": "a"}, {"name": "a"}], "sectionName must be unique"),
        (EXTENSION, f"{EXT}/timeout", "soon", "'soon' does not match"),
        (EXTENSION, f"{EXT}/supportedEvents", ["RequestHeaders"], "must contain at least both"),
        (EXTENSION, f"{EXT}/requestBodySendMode", "Whole", "'Whole' is not one of"),
        (EXTENSION, f"{EXT}/authority", None, "authority must be set"),
        (EXTENSION, "spec", None, "'spec' is a required property"),
        (DEPLOYMENT, "spec/template/spec/containers/0/ports/0/containerPort", "9004", "is not of type 'integer'"),
        (DEPLOYMENT, "spec/template/spec/containers/0/imag", "bbr", "'imag' was unexpected"),
        (DEPLOYMENT, TEMPLATE, {"more": "x"}, "spec.selector: the template's labels have not all of {'app': 'bbr'}"),
        (ROUTE, "metadata/name", "Qwen", "metadata.name: 'Qwen' is no DNS subdomain"),
        (ROUTE, "metadata/name", None, "metadata.name: None is no DNS subdomain"),
        (ROUTE, "metadata/namespace", "a.b", "metadata.namespace: 'a.b' is no DNS label"),
        (ROUTE, "metadata/labels", {"app": "-"}, "metadata.labels.app: '-' is no value for one"),
        (ROUTE, "metadata/labels", {"a b": "x"}, "metadata.labels: 'a b' is no name for one"),
        (ROUTE, "metadata/labels", "app", "metadata.labels: must be an object"),
        (ROUTE, "metadata/annotations", {"A_/b": "x"}, "metadata.annotations: 'A_/b' is no name for one"),
        (ROUTE, "metadata/annotations", {"a": 1}, "metadata.annotations.a: 1 is no value for one"),
        (ROUTE, "metadata/lables", {}, "'lables' was unexpected"),
        (ROUTE, "metadata", "qwen", "metadata: must be an object"),
        (DEPLOYMENT, "metadata/name", "-", "metadata.name: '-' is no DNS subdomain"),
    ],
)
def test_what_is_invalid(schemas, document, path, value, said):
    found = list(schemas.faults(changed(document, path, value)))
    assert any(said in fault for fault in found), found


@pytest.mark.parametrize(
    ("version", "kind", "said"),
    [
        (
            "gateway.networking.k8s.io/v1",
            "HttpRoute",
            "there is no HttpRoute of gateway.networking.k8s.io/v1; known",
        ),
        ("gateway.networking.k8s.io/v1alpha9", "HTTPRoute", "known are"),
        ("example.com/v1", "Thing", "no schema here knows Thing of example.com/v1"),
        ("v1", "Thing", "no schema here knows Thing of v1"),
        (1, "Thing", "apiVersion and kind: both must be texts"),
        ("v1", None, "apiVersion and kind: both must be texts"),
    ],
)
def test_a_kind_that_no_schema_knows_is_refused(schemas, version, kind, said):
    (found,) = schemas.faults({"apiVersion": version, "kind": kind, "metadata": {"name": "a"}})
    assert said in found


def test_an_object_of_the_whole_cluster_has_no_namespace(tmp_path):
    write(tmp_path, scope="Cluster")
    document = {"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "a", "namespace": "b"}}
    assert list(Schemas(tmp_path).faults(document)) == ["metadata.namespace: objects of this kind are in none"]


def test_a_version_that_is_not_served_is_refused(tmp_path):
    write(tmp_path, served=False)
    document = {"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "a"}}
    assert list(Schemas(tmp_path).faults(document)) == ["apiVersion: no server offers example.com/v1"]


def write(directory, *, scope="Namespaced", served=True, name="example.com_things.yaml"):
    schema = {"type": "object", "properties": {"spec": {"type": "object"}}}
    version = {"name": "v1", "served": served, "schema": {"openAPIV3Schema": schema}}
    spec = {
        "group": "example.com",
        "names": {"kind": "Thing", "plural": "things"},
        "scope": scope,
        "versions": [version],
    }
    (directory / name).write_text(yaml.safe_dump({"kind": "CustomResourceDefinition", "spec": spec}))


@pytest.mark.parametrize("directory", ["nowhere", ""])
def test_without_schemas_nothing_is_validated(tmp_path, directory):
    (tmp_path / "README.md").write_text("")
    with pytest.raises(SchemaError, match="holds no schemas"):
        Schemas(tmp_path / directory)


@pytest.mark.parametrize("text", ["", "kind: ConfigMap", "kind: CustomResourceDefinition\n---\nkind: ConfigMap"])
def test_a_file_that_is_no_crd_is_an_error(tmp_path, text):
    (tmp_path / "example.com_things.yaml").write_text(text)
    with pytest.raises(SchemaError, match="is no CustomResourceDefinition"):
        list(Schemas(tmp_path).faults({"apiVersion": "example.com/v1", "kind": "Thing"}))


def test_a_file_of_another_kind_than_its_name_says_is_an_error(tmp_path):
    write(tmp_path, name="example.com_others.yaml")
    with pytest.raises(SchemaError, match=r"defines things of example\.com"):
        list(Schemas(tmp_path).faults({"apiVersion": "example.com/v1", "kind": "Thing"}))


FILES = sorted(path.relative_to(DIRECTORY).as_posix() for path in DIRECTORY.rglob("*.yaml"))


def rules_in(value):
    """Yield all rules and expressions of messages in a CRD."""
    if isinstance(value, dict):
        for stated in value.get("x-kubernetes-validations", []):
            yield stated["rule"]
            if "messageExpression" in stated:
                yield stated["messageExpression"]
        for each in value.values():
            yield from rules_in(each)
    elif isinstance(value, list):
        for each in value:
            yield from rules_in(each)


@pytest.mark.parametrize("file", FILES)
def test_every_rule_of_every_file_can_be_compiled(file):
    text = "\n".join(line for line in (DIRECTORY / file).read_text("utf-8").splitlines() if not line.startswith("{{"))
    found = set(rules_in(yaml.load(text, yaml.CSafeLoader)))
    rules = Rules()
    for rule in found:
        # Whatever comes of it, it is compiled first.
        list(rules.faults({"x-kubernetes-validations": [{"rule": rule, "optionalOldSelf": True}]}, {}))


def test_each_file_has_its_source_and_licence():
    text = (DIRECTORY / "README.md").read_text("utf-8")
    rows = re.findall(r"^\| (\S+\.yaml) \| (\w+) \| ([\w/-]+)[^|]*: \S+ \| [^|]*`[0-9a-f]{40}` \|$", text, re.MULTILINE)
    assert [file for file, _, _ in rows] == FILES
    assert "Apache License 2.0" in text
