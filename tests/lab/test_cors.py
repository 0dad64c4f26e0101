"""A page of one origin that calls the models of another, in a real Chromium, by way of a real gateway."""

import contextlib

import pytest
import yaml
from playwright.sync_api import sync_playwright

from deploy.lab import lab as stand
from deploy.lab import releases, setting
from deploy.local import browser

pytestmark = pytest.mark.gateways
NAME = "web"
PORT = 8080
PAGE = "<!doctype html><title>A page of another origin</title>"
# What the page runs: asks for a model as a chat does, and tells what a script may see of the answer.
ASK = """async ([url, model, stream]) => {
    try {
        const body = JSON.stringify({model, stream, max_tokens: 4, messages: [{role: "user", content: "hello"}]});
        const headers = {"content-type": "application/json", "authorization": "Bearer of-nobody"};
        const answer = await fetch(url + "/v1/chat/completions", {method: "POST", headers, body});
        return [answer.status, await answer.text()];
    } catch (error) {
        return [0, String(error)];
    }
}"""


def web():
    """Return a web server: the page's origin, and where the catch-all sends what names no model."""
    labels = {"app": NAME}
    meta = {"name": NAME, "namespace": setting.NAMESPACE}
    container = {
        "name": "web",
        "image": "lab/web:1",
        "args": [str(PORT), "--directory", "/site"],
        "ports": [{"name": "http", "containerPort": PORT}],
        "readinessProbe": {"tcpSocket": {"port": PORT}, "periodSeconds": 1},
        "volumeMounts": [{"name": "site", "mountPath": "/site"}],
        "securityContext": setting.RESTRICTED,
    }
    pod = {"containers": [container], "volumes": [{"name": "site", "configMap": {"name": NAME}}]}
    spec = {
        "replicas": 1,
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": pod},
    }
    ports = [{"name": "http", "port": 80, "targetPort": PORT}]
    return [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"index.html": PAGE}},
        {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": {"selector": labels, "ports": ports}},
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": spec},
    ]


@pytest.fixture(scope="module")
def origins(lab):
    """Two origins that serve the page: the one that may call the models, and another."""
    lab.apply(yaml.safe_dump_all(web()))
    stand.rollout(lab, NAME)
    service = lab.get("service", NAME, f"--namespace={setting.NAMESPACE}")["spec"]["clusterIP"]
    pod = lab.get("pods", f"--selector=app={NAME}", f"--namespace={setting.NAMESPACE}")["items"][0]["status"]["podIP"]
    yield f"http://{service}", f"http://{pod}:{PORT}"
    lab.kubectl("delete", "--filename=-", text=yaml.safe_dump_all(web()))


@contextlib.contextmanager
def page_of(origin):
    """Open the page."""
    options = browser.launch_options()
    # That rule lets it reach 127.0.0.1 alone; here nothing leaves the lab's network.
    options["args"] = [flag for flag in options["args"] if not flag.startswith("--host-resolver-rules")]
    with sync_playwright() as playwright, playwright.chromium.launch(**options) as chromium:
        page = chromium.new_page()
        page.goto(f"{origin}/", timeout=60_000)
        yield page


@pytest.fixture(scope="module")
def allowed(lab, controller, origins, gateway):
    """The chart's option for browsers: the gateway's address."""
    values = setting.values(controller.provider) | controller.values()
    cors = {"allowOrigins": [origins[0]], "allowHeaders": ["authorization", "content-type"]}
    catch_all = {"backendRef": {"name": NAME, "port": 80}, "cors": cors}
    releases.install(lab, "helm", setting.RELEASE, values | {"catchAll": catch_all})
    url = f"http://{gateway}"
    with page_of(origins[0]) as page:
        lab.wait(
            "an answer that the page may see",
            lambda: page.evaluate(ASK, [url, "sql-lora", False])[0] == 200,
        )
    yield url
    releases.install(lab, "helm", setting.RELEASE, values)


def test_without_the_option_a_browser_lets_no_page_of_another_origin_see_an_answer(gateway, origins):
    with page_of(origins[0]) as page:
        status, text = page.evaluate(ASK, [f"http://{gateway}", "sql-lora", False])
    assert (status, text) == (0, "TypeError: Failed to fetch")


def test_with_it_a_page_of_that_origin_sees_the_answers_of_every_model(allowed, origins):
    with page_of(origins[0]) as page:
        for model in ("sql-lora", "phi-lora", setting.QWEN):
            status, text = page.evaluate(ASK, [allowed, model, False])
            assert status == 200
            assert f'"model":"{model}"' in text
        status, text = page.evaluate(ASK, [allowed, "phi-lora", True])
        assert status == 200
        assert text.rstrip().endswith("data: [DONE]")


def test_it_sees_the_router_s_own_errors_too(allowed, origins):
    with page_of(origins[0]) as page:
        status, text = page.evaluate(ASK, [allowed, "gpt-5", False])
    assert (status, "model_not_found" in text) == (404, True)


def test_a_page_of_another_origin_still_sees_nothing(allowed, origins):
    with page_of(origins[1]) as page:
        assert page.evaluate(ASK, [allowed, "sql-lora", False])[0] == 0


def test_what_names_no_model_goes_to_the_catch_all_s_backend(allowed, origins):
    with page_of(origins[1]) as page:
        answer = page.goto(f"{allowed}/", timeout=60_000)
        assert (answer.status, page.title()) == (200, "A page of another origin")
