from bbr.system.supervisor import Failures
from bench.harness.vitals import vitals


def test_a_router_that_takes_requests_is_ready():
    assert vitals().why_not_ready() == ""


def test_a_router_without_its_table_says_what_it_waits_for():
    of = vitals()
    of.serving.now = False
    assert of.why_not_ready() == "no model table: every model is its own base model"


def test_a_router_that_drains_says_so():
    of = vitals()
    of.serving.stop()
    assert of.why_not_ready() == "it is shutting down: running requests may finish"


def test_troubles_tell_what_is_stale_and_what_fails(tmp_path):
    path = tmp_path / "models.yaml"
    path.write_text("models: [{name: qwen}]")
    of = vitals(path)
    assert of.troubles() == []
    assert set(of.ages()) == {"model files", "model table"}
    of.sources.ages = lambda: {"model files": 151.4, "model table": 150.0, "HTTPRoutes": 2.0}
    of.sources.failing = lambda: {"model files": "", "HTTPRoutes": "401: Unauthorized"}
    of.supervisor.failures |= {"certificates": Failures(3, "MemoryError"), "model table": Failures(1)}
    assert of.troubles() == [
        "model files: not seen for 151 s; the last known content stays in use",
        "HTTPRoutes: not seen for 2 s (401: Unauthorized); the last known content stays in use",
        "certificates: it keeps failing (MemoryError) and is restarted each time",
    ]
    assert of.why_not_ready() == ""


def test_certificates_have_an_age_too():
    of = vitals(secure_serving="true")
    assert set(of.ages()) == {"certificates"}
    assert 0 <= of.ages()["certificates"] < 60
