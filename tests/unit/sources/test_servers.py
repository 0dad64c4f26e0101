import pytest

from bbr.models.steps import finish
from bbr.sources.served import Served
from bbr.sources.servers import FAILING_AFTER, KEEP_SECONDS, MAX_ASKED, MAX_LISTED, MAX_NAMES, Address, Servers

ONE, TWO = Address("10.0.0.1", 80), Address("fd00::1", 80)


def lists(*adapters, base="qwen"):
    return Served({base: ""}, dict.fromkeys(adapters, base))


def servers(*addresses, jitter=0.0, bases=("qwen",)):
    found = Servers(frozenset(bases), 10.0, 256, lambda: jitter)
    found.present(addresses, 0.0)
    return found


def names(of, now):
    return {base: set(found) for base, found in finish(of.claimed(now)).items()}


def test_addresses_are_shown_as_urls_have_them():
    assert (str(ONE), str(TWO)) == ("10.0.0.1:80", "[fd00::1]:80")


def test_a_server_is_asked_at_once_and_then_once_in_an_interval():
    of = servers(ONE, jitter=1.0)
    assert (of.due(0.0), of.asked, of.count) == ([ONE], False, 1)
    assert of.answered(ONE, lists("a"), 0.0) == ""
    assert of.asked
    assert (of.due(12.4), of.pause(0.0)) == ([], 12.5)
    assert of.due(12.5) == [ONE]
    of.present([ONE, TWO], 13.0)
    assert of.due(13.0) == [ONE, TWO]


def test_without_servers_there_is_nothing_to_ask():
    of = servers()
    assert (of.due(0.0), of.pause(0.0), of.asked, names(of, 0.0)) == ([], 10.0, True, {})
    assert of.expires is None


def test_what_a_server_says_now_counts_and_not_what_it_said():
    of = servers(ONE, TWO)
    of.answered(ONE, lists("a", "b"), 0.0)
    of.answered(TWO, lists("b", "c"), 0.0)
    assert names(of, 0.0) == {"qwen": {"a", "b", "c"}}
    of.answered(ONE, lists(), 10.0)
    assert names(of, 10.0) == {"qwen": {"b", "c"}}


def test_a_server_that_fails_is_asked_less_often_and_told_in_the_end():
    of = servers(ONE)
    pauses = []
    now = 0.0
    for number in range(1, 6):
        of.failed(ONE, "no answer", now)
        assert of.failing == ({"10.0.0.1:80": "no answer"} if number >= FAILING_AFTER else {})
        pauses.append(of.pause(now))
        now += pauses[-1]
    assert pauses == [20.0, 40.0, 60.0, 60.0, 60.0]
    of.answered(ONE, lists(), now)
    assert (of.failing, of.pause(now)) == ({}, 10.0)


@pytest.mark.parametrize("how", ["fails", "is gone", "says what can't be used"])
def test_what_a_dead_server_said_counts_for_a_while(how):
    of = servers(ONE, TWO)
    of.answered(ONE, lists("a"), 0.0)
    of.answered(TWO, lists("b"), 0.0)
    if how == "fails":
        of.failed(ONE, "no answer", 10.0)
    elif how == "is gone":
        of.present([TWO], 10.0)
    else:
        why = "it does not list the base model of its pool (qwen)"
        assert of.answered(ONE, lists("evil", base="phi"), 10.0) == why
    of.answered(TWO, lists("b"), 10.0)
    assert names(of, KEEP_SECONDS - 1) == {"qwen": {"a", "b"}}
    assert of.expires == KEEP_SECONDS
    assert names(of, KEEP_SECONDS) == {"qwen": {"b"}}
    assert of.expires is None


def test_while_no_server_answers_everything_stays():
    of = servers(ONE, TWO)
    of.answered(ONE, lists("a"), 0.0)
    of.answered(TWO, lists("b"), 0.0)
    of.failed(ONE, "no answer", 1.0)
    of.present([ONE], 1.0)
    assert names(of, 100 * KEEP_SECONDS) == {"qwen": {"a", "b"}}
    assert of.expires is None
    of.answered(ONE, lists(), 100 * KEEP_SECONDS)  # it knows better now
    assert names(of, 100 * KEEP_SECONDS) == {}


def test_a_server_that_comes_back_is_asked_at_once():
    of = servers(ONE)
    of.answered(ONE, lists("a"), 0.0)
    of.present([], 1.0)
    assert (of.due(100.0), of.count) == ([], 0)
    of.present([ONE], 2.0)
    assert of.due(2.0) == [ONE]


def test_answers_of_servers_that_are_gone_meanwhile_are_nobodys():
    of = servers(ONE)
    of.present([], 1.0)
    assert of.answered(ONE, lists("a"), 1.0) == ""
    of.failed(ONE, "no answer", 1.0)
    assert names(of, 1.0) == {}


def test_other_base_models_are_asked_for_anew_and_those_that_are_gone_are_nobodys():
    of = servers(ONE, bases=("qwen", "phi"))
    of.answered(ONE, Served({"qwen": "", "phi": ""}, {"a": "qwen", "b": "phi"}), 0.0)
    assert names(of, 0.0) == {"qwen": {"a"}, "phi": {"b"}}
    of.rebase(frozenset({"phi", "gemma"}), 1.0)
    assert of.due(1.0) == [ONE]
    assert names(of, 1.0) == {"phi": {"b"}}
    of.answered(ONE, Served({"phi": "", "gemma": ""}, {"c": "gemma"}), 1.0)
    assert names(of, 1.0) == {"gemma": {"c"}}


def test_of_a_large_pool_so_many_are_asked_at_once_and_then_the_others():
    of = servers(*(Address(f"10.0.{number // 250}.{number % 250}", 80) for number in range(100)))
    first = of.due(0.0)
    assert len(first) == MAX_ASKED
    for each in first:
        of.answered(each, lists(), 0.0)
    assert of.pause(0.0) == 10.0
    rest = of.due(10.0)[: 100 - MAX_ASKED]
    assert not set(first) & set(rest)


def test_of_a_pool_so_many_names_are_taken_and_known_ones_first():
    of = servers(ONE, TWO)
    of.answered(ONE, lists("z", *(f"m{number}" for number in range(99))), 0.0)
    assert (len(names(of, 0.0)["qwen"]), of.left_out) == (100, 0)
    of.answered(TWO, lists(*(f"a{number}" for number in range(990))), 1.0)
    found = names(of, 1.0)["qwen"]
    assert (len(found), of.left_out) == (MAX_NAMES, 90)
    assert {"z", "m0", "m98"} <= found
    of.answered(TWO, lists("a"), 2.0)
    assert (names(of, 2.0)["qwen"] >= {"z", "a"}, of.left_out) == (True, 0)


def test_many_servers_that_each_list_something_else_are_bounded():
    several = [Address(f"10.0.0.{number}", 80) for number in range(20)]
    of = servers(*several)
    for number, each in enumerate(several):
        why = of.answered(each, lists(*(f"{number}-{name}" for name in range(1000))), 0.0)
        full = number >= MAX_LISTED // 1000
        assert why == ("the servers of its pool list more than 8000 adapters, each its own" if full else "")
    # What others list too takes no room.
    assert of.answered(several[-1], lists(*(f"0-{name}" for name in range(1000))), 1.0) == ""


def test_names_that_cannot_be_used_are_told_once_for_all_servers():
    of = servers(ONE, TWO)
    for each in (ONE, TWO):
        of.answered(each, lists("*"), 0.0)
    assert of.refused == ["*: it holds a *, which stands for other characters"]


def test_servers_that_are_gone_are_forgotten():
    of = servers()
    for number in range(600):
        address = Address(f"10.1.{number // 250}.{number % 250}", 80)
        of.present([address], float(number))
        of.answered(address, lists("a"), float(number))
    assert len(of._servers) <= 300


def test_what_is_said_again_is_no_change():
    of = servers(ONE)
    seen = []

    def changes():
        seen.append(of.changes)
        return len(seen) > 1 and seen[-1] != seen[-2]

    changes()
    of.answered(ONE, lists("a"), 0.0)
    assert changes()
    of.answered(ONE, lists("a"), 10.0)
    of.present([ONE], 10.0)
    assert not changes()
    of.failed(ONE, "no answer", 20.0)
    assert changes()
    of.answered(ONE, lists("a"), 40.0)
    assert changes()
    of.present([], 41.0)
    assert changes()
