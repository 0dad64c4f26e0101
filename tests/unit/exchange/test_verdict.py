from bbr.exchange.verdict import Outcome, Verdict


def test_nothing_is_decided_at_first() -> None:
    verdict = Verdict()
    assert verdict.outcome is Outcome.PENDING
    assert (verdict.reason, verdict.model, verdict.base_model, verdict.route) == ("", None, None, None)
    assert (verdict.body_bytes, verdict.early, verdict.status, verdict.late_bodies) == (0, False, 0, 0)


def test_outcomes_are_names_in_kebab_case() -> None:
    assert all(outcome == outcome.name.lower().replace("_", "-") for outcome in Outcome)
