"""`make validate`, and that it sees what is wrong."""

import re
import shutil

import pytest

from deploy.render import helm, manifests, validate
from deploy.render.schemas import Schemas
from tests.support.tools import needs

pytestmark = [needs("helm"), needs("helm4"), needs("kubectl")]


def test_nothing_is_wrong(capsys):
    assert validate.main() == 0, capsys.readouterr().out
    told = re.fullmatch(r"0 problems in (\d+) objects of (\d+) renderings\n", capsys.readouterr().out)
    assert int(told[1]) > 1_000
    assert int(told[2]) > 50


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
    values = [dict(helm.cases())["two-models"]]
    documents = helm.documents(helm.render("helm", values, {"provider.name": "gke"}, chart=chart))
    wrong = list(validate.Validation(Schemas()).invalid("gke", documents))
    assert any(why in line for line in wrong), wrong


def test_a_kustomization_that_lacks_something_is_refused(tmp_path):
    shutil.copytree(manifests.DIRECTORY, directory := tmp_path / "manifests")
    (kustomization := directory / "models/kustomization.yaml").write_text(
        kustomization.read_text("utf-8").replace("  - epps.yaml\n", "")
    )
    _, wrong = validate.kustomized("gke", directory)
    assert any("picker-missing: InferencePool/qwen-pool" in line for line in wrong)


def test_values_that_lead_to_findings_are_refused(tmp_path):
    (values := tmp_path / "values.yaml").write_text("bbr: {flags: {max-body-bytes: much}}")
    (said,) = validate.rendered("bad", values, "gke")[1]
    assert said.startswith("bad for gke: flag-unusable: Deployment/body-based-router: ")
    assert "'much' is not a size in bytes" in said


def test_without_helm_it_says_so(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert validate.main() == 1
    assert "helm is not installed" in capsys.readouterr().out


def test_without_schemas_it_says_so(monkeypatch, tmp_path, capsys):
    def missing():
        return Schemas(tmp_path)

    monkeypatch.setattr(validate, "Schemas", missing)
    assert validate.main() == 1
    assert "holds no schemas" in capsys.readouterr().out


def test_without_objects_it_fails(monkeypatch, capsys):
    """What validated nothing has not shown that anything is valid."""
    monkeypatch.setattr(validate, "sources", list)
    monkeypatch.setattr(manifests, "GATEWAYS", {})
    monkeypatch.setattr(manifests, "outdated", list)
    assert validate.main() == 1
    assert capsys.readouterr().out == "0 problems in 0 objects of 0 renderings\n"
