"""TSNE's choice of affinities: by a perplexity, by several, uniform, by a function, and with classes."""

import re

import numpy as np
import pytest
from scipy import sparse
from sklearn.base import clone

from kullback import TSNE, affinities
from kullback.neighbors import NeighborIndex

rng = np.random.default_rng(0)
CLASSES = np.repeat([0, 1, 2], 50)
X = (rng.normal(size=(150, 6)) + 4 * np.eye(6)[CLASSES]).astype(np.float32)
OPTIONS = {"random_state": 0, "max_iter": 50, "n_jobs": 1}


def index_of(rows):
    """Return the index in which a fit of these rows searches."""
    return NeighborIndex(rows, random_state=np.random.RandomState(0))


CHOICES = [
    ({"perplexity": 12}, lambda index: affinities.perplexity(index, 12)),
    ({"perplexity": [5, 20]}, lambda index: affinities.multiscale(index, [5, 20])),
    ({"perplexity": np.array([5.0, 20.0]), "n_neighbors": 40, "affinity": "multiscale"},
     lambda index: affinities.multiscale(index, [5, 20], n_neighbors=40)),
    ({"perplexity": 8, "affinity": "multiscale"}, lambda index: affinities.perplexity(index, 8)),
    ({"n_neighbors": 7}, lambda index: affinities.uniform(index, 7)),
    ({"affinity": "uniform"}, lambda index: affinities.uniform(index, 15)),
    ({"affinity": "perplexity", "n_neighbors": 50}, lambda index: affinities.perplexity(index, 30, n_neighbors=50)),
    ({"affinity": lambda index: affinities.fixed_sigma(index, 2.0)},
     lambda index: affinities.fixed_sigma(index, 2.0)),
    ({"affinity": lambda index: affinities.perplexity(index, 9).P}, lambda index: affinities.perplexity(index, 9)),
]  # fmt: skip


@pytest.mark.parametrize(("options", "expected"), CHOICES, ids=str)
@pytest.mark.parametrize("supervision", [0, 0.5, 1])
def test_p_is_that_of_the_function_of_this_name(options, expected, supervision):
    """With classes and without; rows can be placed in the map of any affinities, and it can be cloned."""
    joint = expected(index_of(X))
    model = clone(TSNE(**options, supervision=supervision, **OPTIONS)).fit(X, CLASSES)
    if supervision:
        joint = affinities.supervise(joint, CLASSES, supervision)
    np.testing.assert_allclose(model.affinities_.P.toarray(), joint.P.toarray(), rtol=1e-6, atol=1e-12)
    placed, scores = model.transform(X[:20], return_scores=True)
    np.testing.assert_array_equal(placed, model.embedding_[:20])
    assert (scores > 0).all()
    if supervision:
        with pytest.raises(ValueError, match="supervision must be 0 for partial_fit, got"):
            model.partial_fit(X[:3])
    else:
        assert model.partial_fit(X[:3] + np.float32(0.1)).affinities_.n_points == 153


@pytest.mark.parametrize("options", [{"perplexity": [5, 20]}, {"n_neighbors": 7}, {"supervision": 0.5}])
def test_files_keep_the_choice(tmp_path, options):
    """A loaded estimator places rows, grows and clones as the one that was saved."""
    model = TSNE(**options, **OPTIONS).fit(X, CLASSES)
    model.save(tmp_path / "map.npz")
    loaded = TSNE.load(tmp_path / "map.npz")
    for name, value in options.items():
        np.testing.assert_array_equal(loaded.get_params()[name], value)
    np.testing.assert_array_equal(loaded.affinities_.bandwidths, model.affinities_.bandwidths)
    new = X[:5] + np.float32(0.1)
    np.testing.assert_array_equal(loaded.transform(new), model.transform(new))
    np.testing.assert_array_equal(loaded.fit(X, CLASSES).embedding_, model.embedding_)


def test_a_joint_matrix_in_a_file(tmp_path):
    """It has no bandwidths; the function that made it cannot be saved, and says so."""
    model = TSNE(affinity=lambda index: sparse.csr_array(affinities.perplexity(index, 9).P), **OPTIONS).fit(X)
    assert model.affinities_.bandwidths is None
    with pytest.raises(TypeError, match="affinity must be a number, a name or an array of numbers to be saved"):
        model.save(tmp_path / "map.npz")
    model.affinity = "auto"
    model.save(tmp_path / "map.npz")
    assert TSNE.load(tmp_path / "map.npz").affinities_.bandwidths is None


def test_classes_draw_apart():
    """At full strength, no point is drawn by one of another class; without it, classes are ignored."""
    noise = np.random.default_rng(1).normal(size=(150, 6)).astype(np.float32)
    plain, supervised = (
        TSNE(perplexity=10, supervision=strength, **OPTIONS).fit(noise, CLASSES).affinities_.P.tocoo()
        for strength in (0, 1)
    )
    assert (CLASSES[plain.row] != CLASSES[plain.col]).any()
    assert (CLASSES[supervised.row] == CLASSES[supervised.col]).all()
    names = np.array(["a", "b", "c"])[CLASSES]
    named = TSNE(perplexity=10, supervision=1, **OPTIONS).fit(noise, names).affinities_.P
    np.testing.assert_array_equal(named.toarray(), supervised.toarray())
    TSNE(perplexity=10, **OPTIONS).fit(noise, "anything")


@pytest.mark.parametrize(
    ("options", "fit", "message"),
    [
        ({"n_neighbors": 0}, {}, "n_neighbors must be at least 1, got 0"),
        ({"n_neighbors": 150}, {}, "n_neighbors must be less than n_samples = 150, got 150"),
        ({"n_neighbors": 15, "perplexity": [5, 30]}, {}, "n_neighbors=15 asks for uniform affinities, and "),
        ({"affinity": "uniform", "perplexity": [5, 30]}, {}, 'perplexity must be a number where affinity="uniform"'),
        ({"affinity": "umap"}, {}, "affinity must be one of 'auto', 'perplexity', 'multiscale', 'uniform', got 'umap'"),
        ({"affinity": 3}, {}, "affinity must be 'auto', 'perplexity', 'multiscale', 'uniform' or a function"),
        ({"affinity": affinities.uniform, "n_neighbors": 5}, {}, "n_neighbors must be None where affinity is"),
        ({"affinity": lambda index: np.ones((3, 3))}, {}, "affinity must return affinities of 150 points, got 3"),
        ({"supervision": 2}, {}, "supervision must be in [0, 1], got 2"),
        ({"supervision": 0.5}, {}, "y must hold the classes of the rows where supervision=0.5, got None"),
        ({"supervision": 0.5}, {"y": [1, 2]}, "y must have shape (150,), got (2,)"),
        ({"n_neighbors": 5}, {"sample_weight": np.full(150, 2)}, "sample_weight must be None where affinities are"),
        ({"perplexity": []}, {}, "perplexity must be a number or a sequence of at least one, got []"),
        ({"perplexity": [5, 150]}, {}, "perplexity must be less than n_samples = 150, got 150"),
        ({"perplexity": [5, "a"]}, {}, "perplexity must be a real number, got 'a'"),
        ({"perplexity": None}, {}, "perplexity must be a real number, got None"),
    ],
)  # fmt: skip
def test_errors_come_before_any_work(options, fit, message, monkeypatch):
    """They name the parameter, what came and what is accepted."""
    if "return" not in message:
        monkeypatch.setattr(NeighborIndex, "graph", None)
    with pytest.raises((ValueError, TypeError), match=re.escape(message)):
        TSNE(**options, **OPTIONS).fit(X, **fit)
