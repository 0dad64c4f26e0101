from bbr.headers import PRIORITY_HEADERS, STEERING_HEADERS, listed


def test_names_are_told_once_and_in_small_letters() -> None:
    names = [*STEERING_HEADERS, *PRIORITY_HEADERS]
    assert names == [name.lower() for name in dict.fromkeys(names)]


def test_headers_that_steer_count_as_one() -> None:
    assert listed(["x-a", *STEERING_HEADERS[:2], "x-b"]) == ["x-a", "x-b", "2 headers that steer pickers and sidecars"]
    assert listed(["x-a"]) == ["x-a"]
