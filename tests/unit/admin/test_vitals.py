from bench.harness.vitals import vitals


def test_a_router_that_takes_requests_is_ready():
    assert vitals().why_not_ready() == ""


def test_a_router_without_its_table_says_what_it_waits_for():
    of = vitals()
    of.serving.now = False
    assert of.why_not_ready() == "no model table: every model is its own base model"


def test_a_router_that_drains_says_so():
    of = vitals()
    of.serving.stop()
    assert of.why_not_ready() == "it is shutting down: running requests are let finish"
