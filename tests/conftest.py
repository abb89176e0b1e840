"""Fixtures that every layer of tests shares."""

import ctypes
import os
import signal
import struct

import numpy as np
import pytest

from kullback import _kernels

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in the background of a shell, where Ctrl-C would do nothing
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(params=_kernels.USABLE_LEVELS)
def level(request):
    """Return each SIMD level that this machine runs."""
    return request.param


@pytest.fixture(params=[1, 2, 3])
def n_threads(request):
    """Return thread counts below, at and above the cores of a small machine."""
    return request.param


@pytest.fixture
def memory_limits():
    """Skip a test that limits its memory or measures it where a sanitizer needs much of its own."""
    process = ctypes.CDLL(None) if os.name == "posix" else None
    if any(hasattr(process, name) for name in ("__asan_init", "__tsan_init")):
        pytest.skip("a sanitizer needs memory of its own")


@pytest.fixture
def write_llama():
    """Return a function that writes base logits as llama.cpp does."""

    def quantise(logits):
        """Return one record: scale and minimum, then codes over the upper 16 nats."""
        top, bottom = logits.max(), max(logits.min(), logits.max() - np.float32(16))
        log_sum = np.float32(np.log(np.exp(logits - top, dtype=np.float32).sum(dtype=np.float64)))
        scale = np.float32((top - bottom) / np.float32(65535))
        codes = np.zeros(len(logits) + len(logits) % 2, np.uint16)
        if scale:
            steps = np.rint(np.float32(1 / scale) * (logits - bottom))
            codes[: len(logits)] = np.where(logits > bottom, steps, 0)
        return struct.pack("<ff", scale, bottom - top - log_sum) + codes.tobytes()

    def write(path, logits, tokens, magic=b"_logits_"):
        """Write logits of scored positions, and tokens of shape (n_chunk, n_ctx)."""
        n_chunk, n_ctx = tokens.shape
        header = magic + struct.pack("<iii", n_ctx, logits.shape[1], n_chunk)
        path.write_bytes(header + tokens.astype("<i4").tobytes() + b"".join(map(quantise, logits)))

    return write
