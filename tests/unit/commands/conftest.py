import pytest

from tests.support.commands import write


@pytest.fixture
def models(tmp_path):
    """Give a model file with one of each kind of name."""
    return write(tmp_path / "a.yaml", "models:\n- name: org/qwen\n  adapters: [sql]\naliases:\n  gpt: sql\n")
