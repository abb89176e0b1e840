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
