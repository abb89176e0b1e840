from typing import Any

BLOCK_ELEMENTS: int
LANE_ROWS: int
PIECE_ELEMENTS: int
MOST_MEASURES: int
STATE_SUMS: int
MAX_GROUP_ROWS: int
MEASURES: dict[str, int]

def reduce_rows(
    p: Any,
    q: Any,
    p_kind: int,
    q_kind: int,
    measures: Any,
    options: Any,
    values_out: Any,
    status_out: Any,
    scratch: Any,
    region_size: int,
    group: int,
    block: int,
    columns: bool,
    n_threads: int,
) -> int: ...
