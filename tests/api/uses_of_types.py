"""Right and wrong uses of the public names, for ``test_typing.py``: type checkers read this file and nothing runs it.

A checker has to report an error in each line that ends with a comment ``# error``, and in no other line. The code in
brackets is what mypy calls the error.
"""

from typing import Any, assert_type

import numpy as np
from numpy.typing import NDArray

import kullback
from kullback import TSNE, affinities, gradient, kl_divergence, neighbors, quality, reference, streaming
from kullback.divergence import Bounds, Decomposition

FloatArray = NDArray[np.float64]

p: FloatArray = np.full((3, 4), 0.25)
row, rows, labels = [0.5, 0.5], [[0.5, 0.5], [0.25, 0.75]], [0, 1]
limits = np.log(p[:, :1])
places = np.zeros((3, 1), np.int64)


# ---- What a function of rows returns --------------------------------------------------------------

# A row in a list gives a scalar, as does every reduction.
assert_type(kullback.kl_divergence(row, row), float)
assert_type(kullback.kl_divergence(row, row, base=2, smoothing=1e-9), float)
assert_type(kl_divergence(p, p, reduction="mean"), float)
assert_type(kullback.entropy(row), float)
assert_type(kullback.entropy(p, reduction="sum", weights=[1, 2, 3]), float)
assert_type(kullback.renyi_divergence(row, row, alpha=2), float)
assert_type(kullback.log_loss(labels, p, reduction="mean"), float)
assert_type(kullback.mutual_information(rows), float)
assert_type(kullback.compare(row, row), dict[str, float])
assert_type(kullback.compare(p, p, reduction="mean"), dict[str, float])

# Rows in a list of lists give an array.
assert_type(kullback.jensen_shannon_divergence(rows, rows), FloatArray)
assert_type(kullback.perplexity(rows, keepdims=True), FloatArray)

# A NumPy array is one row or many, which its type does not say.
assert_type(kullback.kl_divergence(p, p), Any)
assert_type(kullback.kl_divergence(p, p, reduction="mean", keepdims=True), Any)
assert_type(kullback.compare(p, p, ["kl"]), dict[str, Any])


# ---- What the others return -----------------------------------------------------------------------

assert_type(kullback.decompose(p, p), Decomposition)
assert_type(kullback.pairwise_divergence(p), FloatArray)
assert_type(kullback.pairwise_divergence(p, measure="kl", k=1), tuple[FloatArray, NDArray[np.int64]])
assert_type(kullback.kl_divergence_topk(places, limits, p), Bounds)
assert_type(kullback.kl_divergence_topk(places, limits, p, tail="drop"), Any)
assert_type(kullback.kl_divergence_from_samples(p, p, k=1), float)
assert_type(kullback.evaluate(p, p), streaming.RowResult)
assert_type(kullback.__version__, str)
assert_type(gradient.tsne_loss(p, p), Decomposition)
neighbors.nearest_neighbors(p, 2)
affinities.perplexity(p, 2.0)
quality.trustworthiness(p, p)
reference.kl_divergence(p, p, base=2)
TSNE(perplexity=30).fit_transform(p)
kullback.tsne.Embedding
kullback.tsne.sweep
kullback.readers.open_source
kullback.plotting.scatter
kullback.distributed.evaluate
kullback.show_config()


# ---- Wrong uses -----------------------------------------------------------------------------------

# No such name.
kullback.no_such_function  # error [attr-defined]
kullback.tsne.no_such_class  # error [attr-defined]
kullback.divergence.no_such_function  # error [attr-defined]
kullback.neighbors.no_such_function  # error [attr-defined]

# No such keyword.
kullback.kl_divergence(p, p, bse=2)  # error [call-overload]
kullback.entropy(p, alpha=2)  # error [call-overload]
kullback.decompose(p, p, out=p)  # error [call-arg]
kullback.compare(p, p, out=p)  # error [call-overload]
kullback.mutual_information(p, axis=0)  # error [call-overload]
kullback.renyi_divergence(p, p)  # error [call-overload]
kullback.kl_divergence_from_samples(p, p, n=5)  # error [call-arg]
TSNE(perplexty=30)  # error [call-arg]
reference.kl_divergence(p, p, bse=2)  # error [call-arg]

# No such value.
kullback.kl_divergence(p, p, reduction="max")  # error [call-overload]
kullback.kl_divergence(p, p, normalize="yes")  # error [call-overload]
kullback.entropy(p, base="2")  # error [call-overload]
kullback.pairwise_divergence(p, measure="no_such_measure")  # error [call-overload]
kullback.kl_divergence_topk(places, limits, p, tail="none")  # error [call-overload]

# No such result.
number: int = kullback.kl_divergence(row, row)  # error [assignment]
kullback.kl_divergence(p, p, reduction="mean")[0]  # error [index]
