import pytest

from bbr.models.steps import finish
from bbr.sources.objects import SourceError, SourceObject, refusing


def test_what_can_not_be_used_says_why_each_time_it_is_parsed():
    unusable = SourceObject("a", 1, refusing("it is too long"))
    for _ in range(2):
        with pytest.raises(SourceError, match=r"^it is too long$"):
            finish(unusable.parse())
    assert unusable.long is None
