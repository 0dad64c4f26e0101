"""ConfigMaps of a real API server, read with the chart's ServiceAccount."""

import pytest

from deploy.lab import setting
from tests.lab.router import ACCOUNT, IN_NAMESPACE, config_map
from tests.lab.traffic import Chat, answered_model, ask

LABELS = ("inference.networking.k8s.io/bbr-managed", "inference.llm-d.ai/ipp-managed")


@pytest.mark.parametrize("label", LABELS)
def test_one_that_is_added_relabelled_and_deleted(lab, router, gateway, extra, label):
    assert ask(gateway, Chat(setting.SPARE)).status_code == 404
    lab.apply(config_map(extra, [setting.SPARE], label=label))
    router.until_named(setting.SPARE)
    answer = ask(gateway, Chat(setting.SPARE))
    assert (answer.status_code, answered_model(answer)) == (200, setting.SPARE)
    assert answer.headers["x-inference-pod"].startswith("qwen-server-")

    lab.kubectl("label", "configmap", extra, f"{label}-", IN_NAMESPACE)
    router.until_named(setting.SPARE, there=False)
    assert ask(gateway, Chat(setting.SPARE)).status_code == 404

    lab.kubectl("label", "configmap", extra, f"{label}=true", IN_NAMESPACE)
    router.until_named(setting.SPARE)
    lab.kubectl("delete", "configmap", extra, IN_NAMESPACE)
    router.until_named(setting.SPARE, there=False)
    assert ask(gateway, Chat(setting.SPARE)).status_code == 404


def test_one_that_is_edited(lab, router, extra):
    lab.apply(config_map(extra, ["one", "two"]))
    router.until_named("two")
    lab.apply(config_map(extra, ["one", "three"]))
    router.until_named("three")
    router.until_named("two", there=False)


def test_one_that_is_moved_from_one_label_to_the_other_stays(lab, router, extra):
    lab.apply(config_map(extra, ["one"], label=LABELS[0]))
    router.until_named("one")
    lab.kubectl("label", "configmap", extra, f"{LABELS[0]}-", f"{LABELS[1]}=true", IN_NAMESPACE)
    lab.apply(config_map("after", ["two"]))
    try:
        router.until_named("two")
        router.until_named("one")  # each label has a watch of its own
    finally:
        lab.kubectl("delete", "configmap", "after", IN_NAMESPACE)


def broken(page):
    return page.raise_for_status().json()["broken"]


def test_a_broken_one_costs_no_other(lab, router, gateway, extra):
    lab.apply(config_map(extra, ["one"]).replace("- one", "{"))
    lab.wait("each router tells of the broken one", lambda: all(map(broken, router.page("/debug/models"))))
    for page in router.page("/debug/models"):
        (told,) = broken(page)
        assert extra in str(told)
    assert ask(gateway, Chat(setting.QWEN)).status_code == 200


def test_the_service_account_may_read_and_nothing_else(lab):
    account = f"--as=system:serviceaccount:{setting.NAMESPACE}:{ACCOUNT}"
    for allowed in ("list configmaps", "watch configmaps", "watch httproutes.gateway.networking.k8s.io"):
        assert lab.kubectl_tries("auth", "can-i", *allowed.split(), account, IN_NAMESPACE), allowed
    forbidden = ("update configmaps", "list secrets", "list pods", "create pods")
    for refused in forbidden:
        assert not lab.kubectl_tries("auth", "can-i", *refused.split(), account, IN_NAMESPACE), refused
    assert not lab.kubectl_tries("auth", "can-i", "list", "configmaps", account, "--namespace=kube-system")


def test_the_admin_port_asks_the_cluster_about_tokens(lab, router):
    """TokenReview and SubjectAccessReview."""
    assert [answer.status_code for answer in router.page("/metrics")] == [200, 200]
    unknown = router.page("/metrics", token="made-up")  # noqa: S106 (a token that nobody gave out)
    assert [answer.status_code for answer in unknown] == [401, 401]
    assert [answer.status_code for answer in router.page("/debug/config")] == [403, 403]
    other = lab.kubectl("create", "token", "default", IN_NAMESPACE).strip()
    assert [answer.status_code for answer in router.page("/metrics", token=other)] == [403, 403]
