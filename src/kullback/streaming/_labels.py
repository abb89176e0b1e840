"""Consecutive rows of arrays for labels that are integers or strings."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._checks.labels import check_groups

Label = int | str


class Labels:
    """Labels in the order in which they first came, each with a row of its own: all integers or all strings.

    Labels are appended before the arrays change to which their rows belong, and an error may come in between. So the
    owner of these arrays counts the labels, and passes on how many are known. Those after them are forgotten.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.names: list[Label] = []
        self._row_of: dict[Label, int] = {}

    def __getitem__(self, label: Label) -> int:
        return self._row_of[label]

    def copy(self, n_known: int) -> Labels:
        """Return an independent copy of the first labels."""
        twin = Labels(self.name)
        twin.append(self.names[:n_known], 0)
        return twin

    def append(self, names: list[Label], n_known: int) -> NDArray[np.int64]:
        """Return the rows of these labels; those that are not among the first ``n_known`` are appended."""
        for label in self.names[n_known:]:
            self._row_of.pop(label, None)
        del self.names[n_known:]
        if names and self.names and type(names[0]) is not type(self.names[0]):
            raise TypeError(f"{self.name} must be all integers or all strings, got both")
        for label in names:
            if label not in self._row_of:
                self.names.append(label)  # first, because what is forgotten is looked up here
                self._row_of[label] = len(self.names) - 1
        return np.array([self._row_of[label] for label in names], np.int64)

    def fold(self, other: Labels, n_known: int) -> NDArray[np.int64]:
        """Append the labels of ``other``, all of which are known, and return the row here of each row there."""
        if n_known and other.names and type(self.names[0]) is not type(other.names[0]):
            raise TypeError(f"other must have {self.name} labels of the same type, int or str")
        return self.append(other.names, n_known)

    def order(self, n_known: int) -> NDArray[np.int64]:
        """Return the rows, sorted by their labels."""
        return np.array([self._row_of[label] for label in sorted(self.names[:n_known])], np.int64)

    def export(self, n_known: int) -> NDArray[np.int64] | NDArray[np.str_]:
        """Return the labels, sorted."""
        return np.array(sorted(self.names[:n_known]) or np.empty(0, np.int64))


def find_labels(
    labels: ArrayLike | None, name: str, n_rows: int, *, expected: bool, option: str
) -> tuple[list[Label], NDArray[np.intp]]:
    """Return the distinct labels of rows, and the place of each row's label among them."""
    array = check_groups(labels, name, n_rows, expected=expected, option=option)
    found, places = np.unique(array, return_inverse=True)
    return found.tolist(), places.reshape(-1)


def adopt_labels(labels: NDArray[np.int64] | NDArray[np.str_], name: str) -> Labels:
    """Check and take over labels as ``Labels.export`` returns them."""
    names = labels.tolist()
    if names != sorted(set(names)):
        raise ValueError("state['labels'] must be sorted and distinct")
    adopted = Labels(name)
    adopted.append(names, 0)
    return adopted
