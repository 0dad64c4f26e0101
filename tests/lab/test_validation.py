"""Every rendering of the chart and every directory of manifests, checked strictly by an API server with the CRDs."""

import pytest
import yaml

from deploy.render import helm, manifests, validate
from deploy.render.tools import BIN

# Namespaces that renderings name besides their own.
RELEASE_NAMESPACE = "validation"


@pytest.fixture(scope="module")
def namespace(lab):
    """A namespace for what is only checked."""
    lab.kubectl("create", "namespace", RELEASE_NAMESPACE)
    yield RELEASE_NAMESPACE
    lab.kubectl("delete", "namespace", RELEASE_NAMESPACE)


def check(lab, text):
    """Have the server check documents as it would take them: unknown and duplicate fields are errors."""
    kinds = [f"{each['kind']}/{each['metadata']['name']}" for each in helm.documents(text)]
    told = lab.apply(text, "--dry-run=server")
    assert len(told.splitlines()) == len(kinds)
    return kinds


@pytest.mark.parametrize("provider", helm.PROVIDERS)
@pytest.mark.parametrize(("name", "values"), validate.sources())
def test_values_are_taken_by_the_server(lab, namespace, monkeypatch, name, values, provider):
    monkeypatch.setenv("PATH", str(BIN), prepend=":")
    check(lab, helm.render("helm", [values], {"provider.name": provider}, namespace=namespace))


@pytest.mark.parametrize("gateway", manifests.GATEWAYS)
def test_manifests_are_taken_by_the_server(lab, namespace, monkeypatch, gateway):
    monkeypatch.setenv("PATH", str(BIN), prepend=":")
    text = helm.run("kubectl", "kustomize", str(manifests.DIRECTORY / gateway))
    found = helm.documents(text)
    for document in found:
        if document["metadata"].get("namespace"):
            document["metadata"]["namespace"] = namespace
    check(lab, yaml.safe_dump_all(found))


def test_a_field_that_there_is_not_is_refused(lab, namespace):
    """The check itself can fail."""
    document = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": namespace}, "dta": {}}
    with pytest.raises(Exception, match=r"dta|field not declared"):
        check(lab, yaml.safe_dump(document))
