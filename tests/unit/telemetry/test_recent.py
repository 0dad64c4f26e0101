from bbr.telemetry.recent import RecentName, RecentNames


def test_names_are_counted_and_ordered_by_how_often_they_were_asked_for():
    recent = RecentNames()
    for now, name in enumerate(["b", "a", "c", "a", "b", "a"]):
        recent.add(name, float(now))
    assert recent.since(6.0) == [RecentName("a", 3, 5.0), RecentName("b", 2, 4.0), RecentName("c", 1, 2.0)]


def test_an_hour_later_a_name_is_forgotten():
    recent = RecentNames()
    recent.add("a", 0.0)
    assert recent.since(3600.0) == [RecentName("a", 1, 0.0)]
    assert recent.since(3601.0) == []


def test_a_name_that_comes_back_after_an_hour_is_counted_anew():
    recent = RecentNames()
    recent.add("a", 0.0)
    recent.add("a", 4000.0)
    assert recent.since(4000.0) == [RecentName("a", 1, 4000.0)]


def test_a_million_names_do_not_make_it_grow_nor_drive_out_the_one_asked_for_all_the_time():
    recent = RecentNames()
    for number in range(1_000_000):
        recent.add(f"random-{number}", number / 1000)
        if number % 100 == 0:
            recent.add("real", number / 1000)
    found = recent.since(1000.0)
    assert len(found) == 200
    assert found[0] == RecentName("real", 10_000, 999.9)
