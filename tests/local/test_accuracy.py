import functools

import pytest

from bench import accuracy
from deploy.local.gateway import TEMPLATE
from deploy.local.stack import StackOptions
from tests.support.envoy import needs_envoy

SEED = 20


def test_same_seed_same_requests():
    mixes = [list(accuracy.Mix(SEED, http2_share=0.5).requests(40)) for _ in range(2)]
    assert [(one.body, one.path, http2) for one, http2 in mixes[0]] == [
        (one.body, one.path, http2) for one, http2 in mixes[1]
    ]
    assert mixes[0] != list(accuracy.Mix(SEED + 1, http2_share=0.5).requests(40))


class TestWithEnvoy:
    pytestmark = needs_envoy

    @pytest.mark.parametrize("mode", accuracy.BODY_MODES)
    def test_600_requests(self, mode, tmp_path, capsys):
        command = ["--requests", "600", "--seed", str(SEED), "--mode", mode, "--log-dir", str(tmp_path)]
        status = accuracy.main(command)
        said = capsys.readouterr().out
        assert status == 0, said
        assert all(name in said for name in ("GET", "broken JSON", "streamed answer", "HTTP/2", "1 - 3 MB"))

    def test_wrong_answers_are_found(self, tmp_path, monkeypatch, capsys):
        models = tmp_path / "models.yaml"
        models.write_text((TEMPLATE.parent / "models.yaml").read_text().replace("travel-lora", "another-lora"))
        monkeypatch.setattr(accuracy, "StackOptions", functools.partial(StackOptions, models=models))
        command = ["--requests", "60", "--seed", str(SEED), "--mode", "full-duplex", "--log-dir", str(tmp_path)]
        assert accuracy.main(command) == 1
        assert "WRONG all" in capsys.readouterr().out
