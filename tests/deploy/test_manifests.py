"""The plain manifests: as the chart has them, whole, and built by kubectl."""

import pytest

from deploy.render import helm, manifests
from deploy.render.findings import findings
from tests.support.tools import needs

pytestmark = [needs("helm"), needs("kubectl")]


def names(path):
    found = helm.documents((manifests.DIRECTORY / path).read_text("utf-8"))
    return {each["metadata"]["name"] for each in found}


@pytest.fixture(scope="module")
def rendered():
    return manifests.manifests()


@pytest.fixture
def once(monkeypatch, rendered):
    """Compare with what was rendered already, which takes a second."""
    monkeypatch.setattr(manifests, "manifests", lambda _program: rendered)


def test_are_up_to_date(once):
    assert manifests.outdated() == []


@pytest.mark.parametrize("change", ["changed", "missing", "more"])
def test_a_file_that_is_out_of_date_is_named(tmp_path, once, rendered, change):
    for path, content in rendered.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(content, "utf-8")
    assert manifests.outdated(directory=tmp_path) == []
    if change == "changed":
        (tmp_path / "gke/router.yaml").write_text("# by hand\n")
    elif change == "missing":
        (tmp_path / "gke/router.yaml").unlink()
    else:
        (tmp_path / "gke/other.yaml").write_text("")
    wrong = "gke/other.yaml" if change == "more" else "gke/router.yaml"
    assert manifests.outdated(directory=tmp_path) == [wrong]


def test_have_the_names_that_their_users_know():
    assert names("models/inferencepools-bbr.yaml") == {"qwen-pool", "phi-pool"}
    assert names("models/allowlists.yaml") == {"qwen-allowlist", "phi-allowlist"}
    for gateway in manifests.GATEWAYS:
        assert names(f"{gateway}/httproutes-bbr.yaml") == {"qwen-model-route", "phi-model-route"}
    assert names("gke/healthcheck-policy-fixed.yaml") == {"qwen-pool", "phi-pool", "body-based-router"}


@pytest.mark.parametrize("gateway", manifests.GATEWAYS)
def test_kubectl_builds_what_the_chart_renders(gateway):
    built = helm.documents(helm.run("kubectl", "kustomize", str(manifests.DIRECTORY / gateway)))
    text = helm.render(
        "helm", [manifests.VALUES], {"provider.name": gateway}, namespace=manifests.NAMESPACE, apis=manifests.APIS
    )
    rendered = {(each["kind"], each["metadata"]["name"]) for each in helm.documents(text) if each["kind"] != "Pod"}
    assert {(each["kind"], each["metadata"]["name"]) for each in built} == rendered
    assert findings(built) == []


@pytest.mark.parametrize("gateway", manifests.GATEWAYS)
def test_nothing_says_that_helm_manages_it(gateway):
    assert "Helm" not in "".join(file.read_text("utf-8") for file in (manifests.DIRECTORY / gateway).iterdir())
