import json

import pytest

from bbr.commands.doctor.admin import AdminError
from bbr.commands.doctor.diagnose import diagnose
from bbr.config.settings import Settings
from bbr.sources.objects import SourceError
from bench.harness.in_process_router import PHI, QWEN
from tests.support.doctor import answers, bbr, demo, hcm


@pytest.fixture
def models(tmp_path):
    file = tmp_path / "models.yaml"
    file.write_text(f"models: [{{name: {QWEN}}}, {{name: {PHI}}}]")
    return file


def save(tmp_path, config):
    file = tmp_path / "dump"
    file.write_text(json.dumps(answers(config).config_dump))
    return file


def test_a_good_gateway(tmp_path, models):
    saved = save(tmp_path, demo())
    text, status = diagnose(Settings(models=models), url=None, saved=saved)
    assert (status, text.splitlines()[-1]) == (0, "1 remark.")
    text, status = diagnose(Settings(models=models, secure_serving=False), url=None, saved=saved)
    assert (status, text.splitlines()[-1]) == (0, "Nothing found.")


def test_a_broken_gateway(tmp_path):
    config = demo()
    bbr(config)["failure_mode_allow"] = True
    text, status = diagnose(Settings(), url=None, saved=save(tmp_path, config), as_json=True)
    assert (status, [each["id"] for each in json.loads(text)["findings"]]) == (1, ["fails-open", "cluster-plaintext"])


def test_the_filter_and_the_body_limit_are_the_askers(tmp_path):
    saved = save(tmp_path, demo("BUFFERED"))
    told = [diagnose(Settings(max_body_bytes=size), url=None, saved=saved)[1] for size in (64 << 20, 65 << 20)]
    assert told == [0, 1]
    text, _ = diagnose(Settings(), url=None, saved=saved, router="nobody")
    assert "router-not-found" in text


def test_what_can_not_be_read(tmp_path, models):
    with pytest.raises(AdminError):
        diagnose(Settings(), url="x", saved=None)
    with pytest.raises(AdminError):
        diagnose(Settings(), url=None, saved=tmp_path / "none")
    models.write_text("models: x")
    with pytest.raises(SourceError, match="line 1"):
        diagnose(Settings(models=models), url=None, saved=save(tmp_path, demo()))


def test_no_credential_of_the_configuration_is_told(tmp_path):
    config = demo()
    word = "very-secret"
    bbr(config)["grpc_service"]["initial_metadata"] = [{"key": "authorization", "value": word}]
    bbr(config)["http_service"] = {"http_service": {"request_headers_to_add": [{"header": {"value": word}}]}}
    bbr(config)["failure_mode_allow"] = True
    del bbr(config)["processing_mode"]
    hcm(config)["access_log"] = [{"name": word}]
    for as_json in (False, True):
        assert word not in diagnose(Settings(), url=None, saved=save(tmp_path, config), as_json=as_json)[0]
