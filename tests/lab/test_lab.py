"""A maintenance of every type costs not one request with EvenKeel, and some without it."""

import lab
from required import need


def tell(text):
    """Not captured: the numbers are worth reading when all is well, too."""
    print(f"\n{text}", end="", flush=True)


def test_not_one_request_is_lost():
    need(lab.unavailable(), "EK_MACHINE_REQUIRED")
    outcomes = lab.play(lab.quick(), tell)
    tell(f"\n{lab.table(outcomes)}\n")
    assert lab.complaints(outcomes) == []
