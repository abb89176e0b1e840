"""Fixtures that every layer of tests shares."""

import pytest

from kullback import _kernels


@pytest.fixture(params=_kernels.USABLE_LEVELS)
def level(request):
    """Each SIMD level that this machine runs."""
    return request.param


@pytest.fixture(params=[1, 2, 3])
def n_threads(request):
    """Thread counts below, at and above the cores of a small machine."""
    return request.param
