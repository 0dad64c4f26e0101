import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_a_key_with_the_hash_of_model_is_no_model_where_orjson_takes_it_for_one() -> None:
    # In a process of its own: for as long as it runs, orjson's cache may take one key for the other.
    command = [sys.executable, "-m", "pytest", "--quiet", "-p", "no:cacheprovider", "tests/corpus/twins.py"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
