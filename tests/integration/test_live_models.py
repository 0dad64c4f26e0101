"""Through the whole local stack: the model table changes while requests come, and nothing is restarted."""

import time
from pathlib import Path

from deploy.local.gateway import TEMPLATE
from deploy.local.topology import POOLS
from tests.support.late import late
from tests.support.stack import DEADLINE_SECONDS, POLL_SECONDS, running
from tests.support.tools import needs_envoy

openai = late("openai")

pytestmark = needs_envoy

QWEN, PHI = (pool.base_model for pool in POOLS)
MODELS = (TEMPLATE.parent / "models.yaml").read_text(encoding="utf-8")


def until_answer(ask, wanted: str) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while (found := ask()) != wanted:
        assert time.monotonic() < deadline, f"still {found}, not {wanted}"
        time.sleep(POLL_SECONDS)


def test_adapters_come_and_go_and_a_broken_file_changes_nothing(tmp_path: Path) -> None:
    models = tmp_path / "models.yaml"
    models.write_text(MODELS, encoding="utf-8")
    with running(tmp_path, models=models) as stack:
        http = openai.DefaultHttpxClient(trust_env=False)
        url = f"{stack.url}/v1"
        with openai.OpenAI(base_url=url, api_key="none", max_retries=0, timeout=90, http_client=http) as client:

            def ask(model: str = "travel-lora") -> str:
                try:
                    raw = client.completions.with_raw_response.create(model=model, prompt="?")
                except openai.NotFoundError as error:
                    return str(error.code)
                return str(raw.headers["x-pool"])

            assert ask() == "phi-pool"
            models.write_text(MODELS.replace("travel-lora", "other-lora"), encoding="utf-8")
            until_answer(ask, "model_not_found")
            assert "other-lora" in {model.id for model in client.models.list().data}
            models.write_text("models: [", encoding="utf-8")
            until_answer(lambda: str("not YAML" in (stack.log_dir / "router.log").read_text()), "True")
            assert ask() == "model_not_found"
            assert ask("sql-lora") == "qwen-pool"
            models.write_text(MODELS, encoding="utf-8")
            until_answer(ask, "phi-pool")
