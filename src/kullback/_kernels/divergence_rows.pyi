from typing import Any

MEASURES: dict[str, int]
COMPARED: tuple[str, ...]

class Reduction:
    def __init__(
        self,
        names: tuple[str, ...],
        p_elements: tuple[int, float],
        q_elements: tuple[int, float] | None,
        unit: float,
        normalisation: int,
        alpha: float,
        from_logits: bool,
        inverse_temperature: float,
        smoothing: float,
    ) -> None: ...
    def scratch_size(self, p: Any, q: Any, n_threads: int) -> int: ...
    def reduce(self, p: Any, q: Any, values_out: Any, status_out: Any, scratch: Any, n_threads: int) -> int: ...

def vector_scratch_size() -> int: ...
