"""The trial of hostile objects: its objects are as large as a cluster takes them, and a turn of it measures."""

import pytest

from bench.trials import sources


@pytest.mark.parametrize("name", sources.ATTACKS)
def test_an_attack_is_one_that_a_cluster_takes_and_never_the_same_twice(name):
    first, second = (sources.ATTACKS[name].data(number) for number in (1, 2))
    assert first != second
    # A ConfigMap may have a MiB; an attack of less than half of that would prove little.
    size = sum(len(key.encode()) + len(value.encode()) for key, value in first.items())
    assert sources.BYTES / 2 < size <= 1 << 20


def test_a_turn_gives_every_figure(capsys):
    status = sources.main(["--rounds", "1", "--seconds", "0.5", "--attack", "%TAG directives"])
    heading, row = capsys.readouterr().out.splitlines()
    assert heading.startswith("an object that is written")
    figures = row.removeprefix("%TAG directives").removesuffix("OVER").split()
    assert len(list(map(float, figures))) == 5
    assert status == row.endswith("OVER")
