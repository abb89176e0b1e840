"""Maps and curves of the loss with every kind of label, the parts of their figures, and errors."""

import io
import runpy
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from kullback import plotting


def draw(figure):
    """Render a figure; return its bytes."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=40)
    return file.getvalue()


@pytest.mark.parametrize(
    ("labels", "n_entries"),
    [
        (None, 0),
        (np.arange(90) % 3, 3),
        (np.arange(90) % 3 + 0.0, 3),
        (np.array(["a", "b", "c"] * 30), 3),
        (np.array(["a", "b", None] * 30, dtype=object), 3),
        (np.arange(90) % 2 == 0, 2),
        (np.linspace(0, 1, 90), 0),
        (np.array([f"name {i % 45}" for i in range(90)]), plotting.MAX_CLASSES),
        (np.zeros(90), 1),
    ],
)
def test_labels(labels, n_entries):
    """Each class has an entry in the legend, many numbers have a colour scale, and too many names end in "other"."""
    positions = np.random.default_rng(0).normal(size=(90, 2))
    figure = plotting.scatter(positions, labels, title="Title", caption="caption")
    legend = figure.axes[0].get_legend()
    assert (0 if legend is None else len(legend.get_texts())) == n_entries
    assert len(figure.axes) == (2 if labels is not None and n_entries == 0 else 1)
    assert not figure.axes[0].axison
    assert len(figure.axes[0].collections[0].get_offsets()) == 90
    assert draw(figure).startswith(b"\x89PNG")


def texts(figure):
    """Return the entries of the legend and the names that stand on the map."""
    ax = figure.axes[0]
    return [text.get_text() for text in ax.get_legend().get_texts()], [text.get_text() for text in ax.texts]


def test_names_are_drawn_as_they_are():
    """No name is read as a formula, left out because of its first letter, or so long that it hides the map."""
    names = ["$\\foo$", "_hidden", "a$b$", "", "long " * 200]
    figure = plotting.scatter(np.random.default_rng(0).normal(size=(50, 2)), np.array(names * 10))
    legend, on_map = texts(figure)
    assert set(names[:4]) < set(legend)
    assert legend == on_map
    assert max(map(len, legend)) == plotting.MAX_NAME
    assert draw(figure)


@pytest.mark.parametrize("n_classes", [3, 45])
def test_a_class_that_is_called_other(n_classes):
    """It is named like any class, and it is not taken for the rest."""
    labels = np.array(["other"] * 5 + [f"name {i % (n_classes - 1):02}" for i in range(90)])
    legend, on_map = texts(plotting.scatter(np.random.default_rng(0).normal(size=(95, 2)), labels))
    assert "other" in legend
    assert "other" in on_map
    assert legend[len(on_map) :] == ([] if n_classes == 3 else ["all others"])


@pytest.mark.parametrize(
    "labels",
    [
        np.array(["a", "b", None, np.nan, float("nan")], dtype=object),
        np.ma.masked_array(["a", "b", "c", "c", "d"], [0, 0, 1, 1, 1]),
        np.array([1, 2.0, None, None, np.nan], dtype=object),
    ],
)
def test_missing_labels_are_no_class(labels):
    """Their points are grey, and they share one entry of the legend."""
    figure = plotting.scatter(np.random.default_rng(0).normal(size=(5, 2)), labels)
    legend, on_map = texts(figure)
    assert len(on_map) == 2
    assert legend == [*on_map, "no label"]
    assert on_map in (["a", "b"], ["1", "2"])
    only = plotting.scatter(np.zeros((2, 2)), np.array([None, None]))
    assert texts(only) == (["no label"], [])


def test_missing_numbers_beside_a_colour_scale():
    """They are grey points of their own."""
    labels = np.array([*range(30), None, None], dtype=object)
    figure = plotting.scatter(np.random.default_rng(0).normal(size=(32, 2)), labels)
    assert [len(drawn.get_offsets()) for drawn in figure.axes[0].collections] == [2, 30]
    assert draw(figure)


def test_given_axes():
    """A map can be a part of a larger figure."""
    from matplotlib.figure import Figure

    figure = Figure()
    axes = figure.subplots(1, 2)
    assert plotting.scatter(np.zeros((2, 2)), ax=axes[1]) is figure
    assert len(axes[1].collections) == 1
    assert not axes[0].collections


def test_loss():
    """A trace of the loss is drawn as three curves against iterations."""
    dtype = [("iteration", int), ("entropy", float), ("cross_entropy", float), ("kl_divergence", float)]
    trace = np.array([(0, 2.0, 5.0, 3.0), (50, 2.0, 4.0, 2.0)], dtype=dtype)
    figure = plotting.loss(trace, title="Loss")
    assert [list(line.get_ydata()) for line in figure.axes[0].lines] == [[5, 4], [3, 2], [2, 2]]
    assert draw(figure)


def test_errors():
    """Positions of three dimensions, and labels that do not fit are refused."""
    with pytest.raises(ValueError, match="embedding must have 2 columns to be drawn, got 3"):
        plotting.scatter(np.zeros((4, 3)))
    with pytest.raises(ValueError, match=r"labels must have shape \(4,\), got \(3,\)"):
        plotting.scatter(np.zeros((4, 2)), [1, 2, 3])
    with pytest.raises(ValueError, match="labels must be finite"):
        plotting.scatter(np.zeros((2, 2)), [1.0, np.nan])


def test_the_picture_of_the_estimands(tmp_path):
    """The example that drew docs/estimands.svg still draws."""
    example = runpy.run_path(str(Path(__file__).parents[2] / "examples" / "estimands.py"))
    example["main"](tmp_path / "estimands.svg")
    assert (tmp_path / "estimands.svg").read_text().startswith("<?xml")
