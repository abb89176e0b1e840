"""Consecutive rows of arrays for labels that are integers or strings."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._checks.labels import check_groups

Label = int | str


class Labels:
    """Labels in the order in which they first came, each with a row of its own: all integers or all strings."""

    def __init__(self, *, name: str = "group", option: str = "groups") -> None:
        self.name = name
        self.option = option
        self.names: list[Label] = []
        self._row_of: dict[Label, int] = {}

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, label: Label) -> int:
        return self._row_of[label]

    def _append(self, names: list[Label]) -> NDArray[np.int64]:
        """Return the rows of these labels, of which new ones are appended."""
        for label in names:
            if label not in self._row_of:
                self._row_of[label] = len(self.names)
                self.names.append(label)
        return np.array([self._row_of[label] for label in names], np.int64)

    def rows(self, labels: ArrayLike | None, n_rows: int, *, expected: bool) -> NDArray[np.int64]:
        """Return the row of each label; new labels are appended."""
        array = check_groups(labels, self.name, n_rows, expected=expected, option=self.option)
        if len({type(label) for label in [*self.names[:1], *array[:1].tolist()]}) > 1:
            raise TypeError(f"{self.name} must be all integers or all strings, got both")
        found, places = np.unique(array, return_inverse=True)
        return self._append(found.tolist())[places.reshape(-1)]

    def refuse_other_kind(self, other: Labels) -> None:
        """Raise where one side has integers and the other strings."""
        if self.names and other.names and type(self.names[0]) is not type(other.names[0]):
            raise TypeError(f"other must have {self.name} labels of the same type, int or str")

    def fold(self, other: Labels) -> NDArray[np.int64]:
        """Append the labels of ``other``, and return the row here of each row there."""
        return self._append(other.names)

    def order(self) -> NDArray[np.int64]:
        """Return the rows, sorted by their labels."""
        return np.array([self._row_of[label] for label in sorted(self.names)], np.int64)

    def export(self) -> NDArray[np.int64] | NDArray[np.str_]:
        """Return the labels, sorted."""
        return np.array(sorted(self.names) or np.empty(0, np.int64))

    def adopt(self, labels: NDArray[np.int64] | NDArray[np.str_]) -> None:
        """Check and take over labels as ``export`` returns them; called where there are none yet."""
        names = labels.tolist()
        if names != sorted(set(names)):
            raise ValueError(f"the state's {self.name} labels must be sorted and distinct")
        self._append(names)
