"""What tests need and not every machine has: without it they are skipped; where it was to be there, they fail."""

import os

import pytest

__all__ = ["need"]


def need(reason, required="CI"):
    """`reason`: why the test cannot run here; None, it can. `required` is set in the environment where that is a failure."""
    if reason and os.environ.get(required):
        pytest.fail(reason)
    if reason:
        pytest.skip(reason)
