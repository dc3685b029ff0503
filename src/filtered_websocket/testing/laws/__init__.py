"""The laws that filters keep, and the search for stories in which one of them breaks a law.

    from filtered_websocket.testing import check_filter

    def test_my_filter_keeps_the_laws():
        check_filter("my_filter")

`law` says which laws there are. What happens is a `story`, drawn at random (`strategies`), played
on a pipeline (`stage`) and watched (`watch`). `pieces`, `leaks` and `growth` find what one story
alone does not show; `check` searches.
"""

try:
    import hypothesis  # noqa: F401 - an extra: nobody else needs it
except ModuleNotFoundError:
    raise ModuleNotFoundError(
        "check_filter needs hypothesis: pip install 'filtered_websocket[testing]'"
    ) from None

from .check import check_filter
from .law import LAWS, LawBroken

__all__ = ["LAWS", "LawBroken", "check_filter"]
