"""Benchmarks run once at tiny sizes as part of the tests. ``--full`` gives the sizes that are reported."""

import pytest


def pytest_addoption(parser):
    """Add ``--full``."""
    parser.addoption("--full", action="store_true", help="run benchmarks at the sizes that are reported")


@pytest.fixture(scope="session")
def full(request):
    """Whether to use full sizes."""
    return request.config.getoption("--full")
