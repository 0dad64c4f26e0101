"""Aliases of a ConfigMap: counted by what they stood for, and kept by sessions, over the router's replicas."""

import collections

import pytest
import yaml

from deploy.lab import setting
from tests.lab.router import IN_NAMESPACE
from tests.lab.traffic import Chat, answered_model, ask

COUNT = 60
SESSIONS = 12
ALIASES = {"by-config-map": {"sql-lora": 50, setting.PHI: 50}}
(ALIAS,) = ALIASES
NAME = "lab-aliases"


@pytest.fixture(scope="module", autouse=True)
def aliases(lab, router):
    """Give the router an alias, by a ConfigMap."""
    metadata = {"name": NAME, "namespace": setting.NAMESPACE}
    metadata["labels"] = {"inference.networking.k8s.io/bbr-managed": "true"}
    data = {"aliases": yaml.safe_dump(ALIASES)}
    lab.apply(yaml.safe_dump({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}))
    router.until_named(ALIAS)
    yield
    lab.kubectl("delete", "configmap", NAME, IN_NAMESPACE)
    router.until_named(ALIAS, there=False)


def test_the_replicas_count_what_it_stood_for(gateway, router):
    models = collections.Counter(answered_model(ask(gateway, Chat(ALIAS))) for _ in range(COUNT))
    assert set(models) == set(ALIASES[ALIAS])
    pages = [answer.raise_for_status().text for answer in router.page("/metrics")]
    for model, number in models.items():
        line = f'bbr_alias_requests_total{{alias="{ALIAS}",model="{model}"}} '
        counted = [row.removeprefix(line) for page in pages for row in page.splitlines() if row.startswith(line)]
        assert sum(map(float, counted)) == number
    pages = [answer.raise_for_status().json() for answer in router.page("/status.json")]
    rows = [row for page in pages for row in page["aliases"]["rows"] if row["alias"] == ALIAS]
    assert sum(row["requests"] for row in rows) == COUNT


def test_a_session_keeps_its_model_whichever_replica_answers(gateway):
    models = set()
    for session in map(str, range(SESSIONS)):
        (model,) = {answered_model(ask(gateway, Chat(ALIAS), **{"x-session-id": session})) for _ in range(5)}
        models.add(model)
    assert models == set(ALIASES[ALIAS])
