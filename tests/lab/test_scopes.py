"""Tenants by host: one name that is two models, by ConfigMaps of the chart, a real gateway and real model servers."""

import httpx
import pytest

from deploy.lab import setting
from tests.lab import servers
from tests.lab.policies import released
from tests.lab.traffic import Chat, answered_model, ask

pytestmark = [pytest.mark.gateways, pytest.mark.core]

A, B = "team-a.example.com", "team-b.example.com"
SHARED = "sql-lora"
SCOPES = {
    # An adapter that nobody else may see.
    "team-a": {"hosts": [A, f"*.{A}"], "models": [{"baseModel": setting.QWEN, "adapters": [setting.SPARE]}]},
    # A name that is an adapter of another base model for everybody else.
    "team-b": {"hosts": [B], "models": [{"baseModel": setting.PHI, "adapters": [SHARED]}]},
}


@pytest.fixture(scope="module", autouse=True)
def scoped(lab, controller, router):
    """Two tenants, and what their models need at the servers."""
    servers.load(lab, "phi", SHARED)
    with released(lab, controller, scopes=SCOPES):
        router.until_named(setting.SPARE)
        lab.wait("both scopes in each table", lambda: all(map(has_scopes, router.page("/debug/models"))))
        yield
    router.until_named(setting.SPARE, there=False)
    servers.unload(lab, "phi", SHARED)


def has_scopes(answer):
    return all(f'"{name}"' in answer.raise_for_status().text for name in SCOPES)


def pool(gateway, model, **headers):
    """Return the pool whose server answers, or the status and the router's reason."""
    answer = ask(gateway, Chat(model), **headers)
    if answer.status_code != 200:
        return answer.status_code, answer.json()["error"]["code"]
    assert answered_model(answer) == model
    return answer.headers["x-inference-pod"].partition("-server-")[0]


UNKNOWN = (404, "model_not_found")


def test_one_name_is_another_model_for_each_tenant(gateway):
    for _ in range(8):
        assert pool(gateway, SHARED) == "qwen"
        assert pool(gateway, SHARED, host=A) == "qwen"
        assert pool(gateway, SHARED, host=B) == "phi"
        # What is in no scope is there for all.
        assert pool(gateway, "phi-lora", host=B) == pool(gateway, "phi-lora") == "phi"


def test_what_is_in_a_scope_exists_for_nobody_else(gateway):
    for _ in range(8):
        assert pool(gateway, setting.SPARE, host=A) == "qwen"
        assert pool(gateway, setting.SPARE, host=B) == UNKNOWN
        assert pool(gateway, setting.SPARE) == UNKNOWN


@pytest.mark.parametrize("host", ["TEAM-A.example.com", f"{A}:80", f"api.{A}", f"v1.api.{A}"])
def test_other_spellings_of_its_host_and_hosts_below_it(gateway, host):
    assert pool(gateway, setting.SPARE, host=host) == "qwen"


@pytest.mark.parametrize("host", [f"x{A}", f"{A}.example.net", "example.com"])
def test_hosts_that_look_alike_are_in_no_scope(gateway, host):
    assert pool(gateway, setting.SPARE, host=host) == UNKNOWN


def test_a_client_does_not_change_its_scope_by_other_headers(gateway):
    for name in ("x-forwarded-host", "forwarded", "x-host", "x-original-host", "x-http-host-override"):
        value = f"host={A}" if name == "forwarded" else A
        assert pool(gateway, setting.SPARE, host=B, **{name: value}) == UNKNOWN
        assert pool(gateway, SHARED, host=A, **{name: value.replace(A, B)}) == "qwen"


def test_the_list_of_models_is_the_tenant_s(gateway):
    def listed(**headers):
        answer = httpx.get(f"http://{gateway}/v1/models", headers=headers, timeout=60).raise_for_status()
        return {each["id"] for each in answer.json()["data"]}

    everybody = listed()
    assert {SHARED, "phi-lora", setting.QWEN} <= everybody
    assert setting.SPARE not in everybody
    assert listed(host=A) == everybody | {setting.SPARE}
    assert listed(host=B) == everybody
