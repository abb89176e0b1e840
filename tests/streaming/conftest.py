"""A small stand-in for kullback.divergence, used only while that module is absent."""

import sys
import types
from importlib.util import find_spec

import numpy as np
from scipy.special import rel_entr

if find_spec("kullback.divergence") is None:

    def kl_divergence(p, q, *, axis=-1, base=None, normalize="check", n_threads=None):
        """Return KL row by row."""
        p, q = np.asarray(p, float), np.asarray(q, float)
        if normalize == "check" and not (np.all(p >= 0) and np.all(q >= 0)):
            raise ValueError("p must not be negative or NaN")
        rows = [np.sum(row) for row in rel_entr(p, q).reshape(-1, p.shape[-1])]
        return np.array(rows).reshape(p.shape[:-1]) / (np.log(base) if base else 1)

    module = types.ModuleType("kullback.divergence")
    module.kl_divergence = kl_divergence
    sys.modules["kullback.divergence"] = module
