"""The example model servers fit the values that name them; objects in examples and guides are valid."""

import re

import pytest
import yaml

from deploy.render import helm
from deploy.render.schemas import Schemas

EXAMPLES = helm.ROOT / "deploy" / "examples"


@pytest.mark.parametrize("kind", ["pattern2-tpu", "pattern2-gpu", "kind"])
def test_each_pool_selects_the_server_of_its_model(kind):
    values = yaml.safe_load((helm.VALUES / f"{kind}.yaml").read_text("utf-8"))
    servers = helm.documents((EXAMPLES / f"{kind}-model-servers.yaml").read_text("utf-8"))
    found = {}
    for model in values["models"]:
        labels = model["pool"]["selector"].items()
        (server,) = (each for each in servers if labels <= each["spec"]["template"]["metadata"]["labels"].items())
        (container,) = server["spec"]["template"]["spec"]["containers"]
        assert container["ports"] == [{"name": "http", "containerPort": 8000}]  # the chart's pool.targetPort
        assert container["readinessProbe"]["httpGet"]["path"] == "/health"
        (found[model["baseModel"]],) = (each for each in container["args"] if each.startswith("--model="))
    assert found == {name: f"--model={name}" for name in found}
    assert len(found) == len(servers) == 2


GUIDES = sorted((helm.ROOT / "docs").glob("*.md"))


def applied(text):
    """Return the objects that a guide's commands apply, whatever their variables are."""
    found = re.findall(r"(?:apply|create) -f - <<EOF\n(.*?)^EOF$", text, re.DOTALL | re.MULTILINE)
    return [document for each in found for document in helm.documents(re.sub(r"\$\w+|\$\{\w+\}", "x", each))]


def test_the_objects_of_examples_and_guides_are_valid():
    schemas = Schemas()
    documents = [document for file in EXAMPLES.glob("*.yaml") for document in helm.documents(file.read_text("utf-8"))]
    in_guides = [document for guide in GUIDES for document in applied(guide.read_text("utf-8"))]
    assert {each["kind"] for each in documents + in_guides} >= {"Deployment", "Gateway", "GatewayClass"}
    assert [(each["metadata"], found) for each in documents + in_guides if (found := list(schemas.faults(each)))] == []


@pytest.mark.parametrize(
    ("text", "said"),
    [("a: 1\nb: 2\na: 3\n", "a key comes twice"), ("a: {b: 1, b: 1}", "a key comes twice"), ("a: [", "no YAML")],
)
def test_a_text_that_cannot_be_used_is_an_error(text, said):
    with pytest.raises(helm.HelmError, match=said):
        helm.documents(text)


def test_a_key_over_a_merged_one_is_none_that_comes_twice():
    assert helm.documents("base: &b {a: 1}\nover: {<<: *b, a: 2}") == [{"base": {"a": 1}, "over": {"a": 2}}]
