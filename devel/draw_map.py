"""Draw the picture at the top of the README: a map of scikit-learn's digits.

python devel/draw_map.py docs/images/digits.png
"""

import sys

from matplotlib.figure import Figure
from sklearn.datasets import load_digits

import kullback
from kullback import plotting


def main(path: str) -> None:
    """Embed the digits and write the picture."""
    X, y = load_digits(return_X_y=True)
    tsne = kullback.TSNE(random_state=0)
    embedding = tsne.fit_transform(X)
    last = tsne.loss_[-1]
    caption = (
        f"1,797 handwritten digits of 64 pixels.  KL = H(P, Q) - H(P) = "
        f"{last.cross_entropy:.2f} - {last.entropy:.2f} = {last.kl_divergence:.2f} nats"
    )
    figure = Figure(figsize=(6.2, 5.0), layout="constrained")
    plotting.scatter(embedding, y, ax=figure.add_subplot(), caption=caption, point_size=9)
    figure.savefig(path, dpi=110, facecolor="white")


if __name__ == "__main__":
    main(*sys.argv[1:])
