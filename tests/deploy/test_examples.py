"""The example model servers fit the values that name them."""

import pytest
import yaml

from deploy.render import helm

EXAMPLES = helm.ROOT / "deploy" / "examples"


@pytest.mark.parametrize("kind", ["tpu", "gpu"])
def test_each_pool_selects_the_server_of_its_model(kind):
    values = yaml.safe_load((helm.VALUES / f"pattern2-{kind}.yaml").read_text("utf-8"))
    servers = helm.documents((EXAMPLES / f"pattern2-{kind}-model-servers.yaml").read_text("utf-8"))
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
