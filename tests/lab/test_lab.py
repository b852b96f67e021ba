"""A maintenance of every type costs not one request with EvenKeel, and some without it."""

import os

import pytest

import lab


def tell(text):
    """Not captured: the numbers are worth reading when all is well, too."""
    print(f"\n{text}", end="", flush=True)


def test_not_one_request_is_lost():
    reason = lab.unavailable()
    if reason and os.environ.get("EK_MACHINE_REQUIRED"):
        pytest.fail(reason)
    if reason:
        pytest.skip(reason)
    outcomes = lab.play(lab.quick(), tell)
    tell(f"\n{lab.table(outcomes)}\n")
    assert lab.complaints(outcomes) == []
