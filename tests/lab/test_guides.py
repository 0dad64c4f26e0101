"""Each gateway's guide, as a reader runs it who has copied its commands.

A reader has what the lab lacks: an engine that builds images, which are names here, and what forwards a port. Such
lines and blocks are left out. Requests go to the Gateway's own address. llm-d's picker is not available, so Istio's
pools get GIE's. `deploy.lab.lab.images` has the simulator in place of vLLM.
"""

import json
import re

import httpx
import pytest
import yaml

from deploy.lab import setting
from deploy.lab.network import ROOT
from deploy.render import tools
from tests.lab.traffic import CHAT, JSON, answered_model

pytestmark = pytest.mark.gateways

NAMESPACE, GATEWAY = "llm-d", "infra-pattern2-inference-gateway"
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
# Lines, and blocks, that need what the lab lacks.
LEFT_OUT = re.compile(r"^.*(?:docker build|istioctl ).*\n", re.MULTILINE)
FORWARDED = "port-forward"
SECONDS = 900.0


def blocks(provider):
    """Return a guide's blocks of commands, with a registry of the lab's."""
    text = (ROOT / "docs" / f"{provider}.md").read_text("utf-8")
    plain = [block for language, block in BLOCK.findall(text) if not language and FORWARDED not in block]
    found = [LEFT_OUT.sub("", block) for block in plain]
    return [block.replace("registry.example.com/llm", "lab") for block in found if block.strip()]


def run(lab, *texts):
    picker = f"--set epp.image={setting.values()['epp']['image']}"
    script = "\n".join(["set -eux", f"export PATH={tools.BIN}:$PATH HF_TOKEN=token", *texts])
    return lab.call("bash", "-c", script.replace(" --wait\n", f" {picker} --wait\n"), seconds=SECONDS)


@pytest.fixture
def followed(lab, controller):
    """All of the guide but its clean-up, which comes afterwards; what the commands printed."""
    *steps, clean_up = blocks(controller.provider)
    assert "helm uninstall" in clean_up
    try:
        yield run(lab, *steps)
    finally:
        run(lab, steps[0].partition("\n")[0], clean_up)
    assert NAMESPACE not in lab.kubectl("get", "namespaces", "--output=name")


def test_from_an_empty_namespace_to_two_routed_models(lab, followed):
    assert "Phase:          Succeeded" in followed
    found = lab.get("gateway", GATEWAY, f"--namespace={NAMESPACE}")
    url = f"http://{found['status']['addresses'][0]['value']}{CHAT}"
    values = yaml.safe_load((ROOT / "deploy/values/pattern2-gpu.yaml").read_text("utf-8"))
    models = [each["baseModel"] for each in values["models"]]
    assert len(models) == 2

    def ask(model):
        chat = {"model": model, "messages": [{"role": "user", "content": "hello"}]}
        return httpx.post(url, content=json.dumps(chat), headers=JSON, timeout=60)

    for model in models:
        lab.wait(f"an answer of {model}", lambda model=model: ask(model).status_code == 200)
        assert [answered_model(ask(model)) for _ in range(5)] == [model] * 5
    assert "model_not_found" in ask("nobody").text
