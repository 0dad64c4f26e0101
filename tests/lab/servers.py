"""The lab's model servers, asked and told by themselves: what they have loaded."""

import httpx

from tests.lab.router import IN_NAMESPACE

PORT = 8000


def addresses(lab, name):
    """Return where the servers of a model are: "qwen" or "phi"."""
    pods = lab.get("pods", f"--selector=app={name}-server", IN_NAMESPACE)["items"]
    found = [f"http://{pod['status']['podIP']}:{PORT}" for pod in pods if not pod["metadata"].get("deletionTimestamp")]
    assert found, name
    return found


def load(lab, name, adapter):
    """Have all servers of a model load an adapter, as vLLM does it."""
    for url in addresses(lab, name):
        body = {"lora_name": adapter, "lora_path": f"/adapters/{adapter}"}
        httpx.post(f"{url}/v1/load_lora_adapter", json=body, timeout=30).raise_for_status()


def unload(lab, name, adapter):
    """Have all servers of a model forget an adapter."""
    for url in addresses(lab, name):
        httpx.post(f"{url}/v1/unload_lora_adapter", json={"lora_name": adapter}, timeout=30).raise_for_status()
