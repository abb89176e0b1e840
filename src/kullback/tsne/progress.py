"""The progress bar that long computations of t-SNE show on request."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any


def progress_bar(total: int, description: str, unit: str, *, show: bool) -> AbstractContextManager[Any]:
    """Return a progress bar on standard error as a context.

    Parameters
    ----------
    total : int
        Number of steps.
    description : str
        Text in front of the bar.
    unit : str
        Name of a step.
    show : bool
        Whether there is to be a bar. If not, the context gives None.
    """
    if not show:
        return nullcontext()
    from tqdm.auto import tqdm

    bar: AbstractContextManager[Any] = tqdm(total=total, desc=description, unit=unit)
    return bar
