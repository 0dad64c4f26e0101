"""`make validate`, and that it sees what is wrong."""

import shutil

import pytest

from deploy.render import helm, manifests, tools, validate
from tests.support.tools import needs

pytestmark = [needs("helm"), needs("helm4"), needs("kubectl")]

schemas = pytest.mark.skipif(
    not (tools.SCHEMAS / "validate.py").exists(), reason="the schemas are not beside the project (../shared/k8s)"
)


@schemas
def test_nothing_is_wrong():
    assert list(validate.problems()) == []


@schemas
@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("portSpecification: USE_FIXED_PORT", "portSpecification: USE_PORT", "portSpecification"),
        ("portSpecification: USE_FIXED_PORT, ", "", "port and portName must be unset"),  # a rule in CEL
        ("timeoutSec: 15", "timeoutSec: 16", "cannot exceed checkIntervalSec"),
        ("targetPorts:", "targetPort:", "targetPort"),
        (
            "[RequestHeaders, RequestBody, RequestTrailers]",
            "[RequestHeaders, RequestBody]",
            "must contain at least both",
        ),
        ("authority:", "# authority:", "authority must be set"),
    ],
)
def test_a_chart_that_breaks_a_schema_is_refused(tmp_path, old, new, why):
    shutil.copytree(helm.CHART, chart := tmp_path / "chart")
    changed = 0
    for file in (chart / "templates").rglob("*.yaml"):
        text = file.read_text("utf-8")
        changed += old in text
        file.write_text(text.replace(old, new), "utf-8")
    assert changed
    (into := tmp_path / "rendered").mkdir()
    values = [dict(helm.cases())["two-models"]]
    (into / "gke.yaml").write_text(helm.render("helm", values, {"provider.name": "gke"}, chart=chart), "utf-8")
    wrong = list(validate.validated(tools.validator(), into))
    assert any("INVALID" in line and why in line for line in wrong)


def test_a_kustomization_that_lacks_something_is_refused(tmp_path):
    shutil.copytree(manifests.DIRECTORY, directory := tmp_path / "manifests")
    (kustomization := directory / "models/kustomization.yaml").write_text(
        kustomization.read_text("utf-8").replace("  - epps.yaml\n", "")
    )
    wrong = list(validate.kustomized("gke", tmp_path, directory))
    assert any("picker-missing: InferencePool/qwen-pool" in line for line in wrong)


def test_values_that_lead_to_findings_are_refused(tmp_path):
    (values := tmp_path / "values.yaml").write_text("bbr: {flags: {no-such-flag: 1}}")
    assert list(validate.rendered("bad", values, "gke", tmp_path)) == [
        "bad for gke: flag-unknown: Deployment/body-based-router: --no-such-flag is not a flag of bbr serve"
    ]


def test_without_helm_it_says_so(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert validate.main() == 1
    assert "helm is not installed" in capsys.readouterr().out
