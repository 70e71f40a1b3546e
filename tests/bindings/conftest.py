"""Fixtures of the bindings' tests."""

from __future__ import annotations

import pytest

import bunflare
from tests.bindings.r2_tools import SMALL, bucket_with


@pytest.fixture
def bucket(state: bunflare.State) -> bunflare.R2Bucket:
    return state.r2("bucket")


@pytest.fixture
def small(state: bunflare.State) -> bunflare.R2Bucket:
    """The same bucket, with limits that a test can reach."""
    return bucket_with(state, "bucket", SMALL)
