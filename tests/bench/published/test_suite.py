import json
import sys
from pathlib import Path

import pytest

from bench.harness.peer import Peer
from bench.published import suite
from bench.published.suite import PARTS, Part

GO = [Peer("Go v1.5.0", 9001, 11), Peer("Go v1.5.0", 9002, 12)]


def test_a_part_is_run_with_peers_and_told_as_a_person_would_give_it():
    command, said = suite.words(Part("direct", peers=None), GO, Path("found"), quick=False)
    assert command[0] == sys.executable
    peers = [each for at in (0, 1) for each in (f"--peer=127.0.0.1:{GO[at].port}", f"--peer-pid={GO[at].pid}")]
    assert [word for word in command[1:] if "name" not in word and "processors" not in word] == [
        "-m",
        "bench.published.direct",
        *peers,
        "--json=found/direct.json",
    ]
    assert command.count("--peer-name=Go v1.5.0") == 2
    assert said == "python -m bench.harness.rivals -- python -m bench.published.direct"


def test_a_part_without_peers():
    part = Part("accuracy", ("--seed=7",), folder="trials")
    command, said = suite.words(part, [], Path("found"), quick=True)
    assert command[1:] == ["-m", "bench.trials.accuracy", "--seed=7", "--quick", "--json=found/accuracy.json"]
    assert said == "python -m bench.trials.accuracy --seed=7 --quick"


def test_a_part_that_fails_is_named_and_the_others_run(tmp_path, monkeypatch, capfd):
    for name, text in {
        "good": "import os; print(os.environ['BBR_BENCH_COMMAND'])",
        "bad": "raise SystemExit(3)",
    }.items():
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.setattr(
        suite,
        "words",
        lambda part, peers, results, quick: ([sys.executable, str(tmp_path / f"{part.name}.py")], f"make {part.name}"),
    )
    results = tmp_path / "new" / "results"
    parts = [Part("bad"), Part("good")]
    assert suite.run(parts, results, quick=True) == ["bad"]
    assert results.is_dir()
    printed = capfd.readouterr().out
    assert "bad: 0 s, exit status 3" in printed
    assert printed.count("make good") == 2


def test_an_unknown_part_is_refused_by_name(capsys):
    with pytest.raises(SystemExit) as ended:
        suite.main(["direct", "indirect"])
    assert ended.value.code == 2
    assert "indirect: the parts are direct, gateway, accuracy, pattern2, memory" in capsys.readouterr().err


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)
def test_committed_figures_are_of_the_full_run(part):
    found = json.loads((suite.RESULTS / f"{part.name}.json").read_text())
    assert part.module in found["command"]
    assert "--quick" not in found["command"]
    assert not found["commit"].endswith("-dirty")
    assert len(found["workload_sha256"]) == 64
    assert found["rows"]
