from typing import Any

def flag_rows(rows: Any, unusual_out: Any) -> None: ...
def all_pairs(
    p: Any,
    q: Any,
    p_unusual: Any,
    q_unusual: Any,
    measure: int,
    unit: float,
    values_out: Any,
    n_threads: int,
) -> None: ...
def listed_pairs(
    p: Any,
    q: Any,
    p_unusual: Any,
    q_unusual: Any,
    rows: Any,
    columns: Any,
    measure: int,
    unit: float,
    values_out: Any,
    n_threads: int,
) -> None: ...
