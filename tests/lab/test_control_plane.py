"""A control plane that fails: the router keeps its table, routes on, and catches up afterwards."""

import json
import signal
import time

import pytest

from deploy.lab import setting
from tests.lab.router import ACCOUNT, IN_NAMESPACE, config_map, own_token
from tests.lab.traffic import Chat, Load, ask

ROLE = f"{ACCOUNT}-reader"


def ready(lab):
    lab.wait("the API server", lambda: lab.kubectl_tries("get", "--raw", "/readyz"))


def restart_api_server(lab):
    """End the watches of all clients."""
    lab.end("kube-apiserver", signal.SIGKILL)
    lab.restart("kube-apiserver")
    ready(lab)


def caught_up(lab, router, extra):
    lab.apply(config_map(extra, [setting.SPARE]))
    router.until_named(setting.SPARE)


def refused_by_the_router(gateway, model):
    """Tell whether each router refuses a model: of several requests each asks one of them."""
    answers = [ask(gateway, Chat(model)) for _ in range(8)]
    return all("model_not_found" in answer.text for answer in answers)


@pytest.mark.parametrize("part", ["kube-apiserver", "etcd"])
def test_one_that_is_killed_costs_no_request_and_is_followed_again(lab, router, gateway, extra, part):
    with Load(gateway) as load:
        load.until_sent(20)
        lab.end(part, signal.SIGKILL)
        load.until_sent(100)
        lab.restart(part)
        ready(lab)
        caught_up(lab, router, extra)
        load.until_sent(20)
    assert ask(gateway, Chat(setting.SPARE)).status_code == 200
    assert load.failed == 0, load.outcomes


def test_an_expired_token_keeps_the_table_and_a_fresh_one_catches_up(lab, router, gateway, extra):
    """Its admin port lets nobody in meanwhile, since it can't ask about tokens; what it routes tells its table."""
    lab.apply(config_map(extra, [setting.SPARE]))
    router.until_named(setting.SPARE)
    with own_token(lab, router, seconds=-60):
        restart_api_server(lab)
        router.until_logged(" 401: ")
        lab.apply(config_map(extra, ["meanwhile"]))
        assert refused_by_the_router(gateway, "meanwhile")
        assert ask(gateway, Chat(setting.SPARE)).status_code == 200
    router.until_named("meanwhile")
    router.until_named(setting.SPARE, there=False)


def test_a_token_that_was_rotated_is_read_anew(lab, router, extra):
    """The first one is good for the list, and has expired when the watches have to begin anew."""
    with own_token(lab, router, seconds=20):
        restart_api_server(lab)
        caught_up(lab, router, extra)
        expires_at = time.monotonic() + 20
    lab.wait("the end of the first token", lambda: time.monotonic() > expires_at)
    restart_api_server(lab)
    lab.apply(config_map(extra, ["rotated"]))
    router.until_named("rotated")


def test_a_right_that_is_taken_away_keeps_the_table_and_given_back_catches_up(lab, router, extra):
    lab.apply(config_map(extra, ["before"]))
    router.until_named("before")
    role = lab.get("role", ROLE, IN_NAMESPACE)
    for key in ("uid", "resourceVersion", "creationTimestamp", "managedFields"):
        role["metadata"].pop(key, None)
    lab.kubectl("delete", "role", ROLE, IN_NAMESPACE)
    try:
        restart_api_server(lab)
        router.until_logged(" 403: ")
        lab.apply(config_map(extra, ["meanwhile"]))
        assert all({"before"} == names & {"before", "meanwhile"} for names in router.names())
        assert all(age > 0 for age in router.ages())
        assert all(router.failing())
    finally:
        lab.kubectl("create", "--filename=-", text=json.dumps(role))
    router.until_named("meanwhile")
    router.until_named("before", there=False)
