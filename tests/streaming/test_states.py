"""States and files of every accumulator: what is damaged or hostile is refused and changes nothing."""

import copy
import json
import pickle
import tracemalloc
import zipfile

import numpy as np
import pytest

from kullback.streaming import HistogramDivergence, PairedDivergence, RowDivergence, RowValues


def mutations(state):
    """Yield a name and a damaged copy for every way to damage the state."""
    for name, array in state.items():
        missing = dict(state)
        del missing[name]
        yield f"no {name}", missing
        if name == "header":
            continue
        for other in (
            array.astype(np.float32),
            array[None],
            np.array("x"),
            np.array([object()]),
            array.tolist(),
        ):
            yield f"{name} as {type(other)}", state | {name: other}
        if array.ndim:
            yield f"{name} cut", state | {name: array[:-1]}
            yield f"{name} doubled", state | {name: np.concatenate([array, array])}
        if array.ndim > 1:
            yield f"{name} cut across", state | {name: array[:, :-1]}
    header = state["header"]
    yield "surplus array", state | {"surplus": np.zeros(3)}
    for change in (
        {"version": 2}, {"version": "1"}, {"format": "kullback.streaming.Nothing"}, {"surplus": 1},
        {"configuration": {}} if "edges" in header["configuration"] else {"configuration": {"surplus": 1}},
        {"configuration": None}, {"configuration": []}, {"configuration": {"measures": "kl"}},
        {"configuration": header["configuration"] | {"base": "e", "quantiles": 3}},
        {"configuration": header["configuration"] | {"base": float("nan"), "quantiles": [3]}},
        {"configuration": header["configuration"] | {"n_threads": None, "surplus": 2}},
    ):  # fmt: skip
        yield f"header with {change}", state | {"header": header | change}
    yield "header cut", state | {"header": {"format": header["format"]}}
    yield "header as text", state | {"header": json.dumps(header)}


def test_damaged_states_are_refused(make, kind):
    """Each way to damage a state raises a ValueError, and the accumulator it came from is untouched."""
    acc = make(kind)
    before = acc.copy()
    for name, damaged in mutations(acc.to_state()):
        with pytest.raises(ValueError, match=r".") as caught:
            type(acc).from_state(damaged)
        assert str(caught.value), name
    for nothing in (None, [], 3, {}):
        with pytest.raises(ValueError, match="state must be a dict"):
            type(acc).from_state(nothing)
    assert acc == before


@pytest.mark.parametrize(
    ("kind", "name", "change"),
    [
        ("row", "counts", lambda a: -a), ("row", "counts", lambda a: a + np.array([0, 99, 0, 0])),
        ("row", "counts", lambda a: a + 1), ("row", "counts", lambda a: a * 0),
        ("row", "counts", lambda a: a + np.eye(1, 4, dtype=int) * (1 << 61)),
        ("row", "counts", lambda a: a + np.eye(6, 4, -1) * 3),
        ("row", "sums", lambda a: a + (np.arange(136) == 135)),
        ("values", "sums", lambda a: a * [[[1], [1 << 9]]] % (1 << 32)),
        ("row", "sums", lambda a: a - 1),
        ("row", "sums", lambda a: a + (1 << 32)), ("row", "extremes", lambda a: a * np.nan),
        ("row", "extremes", lambda a: a[:, ::-1].copy()), ("row", "extremes", lambda a: a + np.inf),
        ("row", "labels", lambda a: a[::-1].copy()), ("row", "labels", lambda a: a * 0),
        ("row", "bucket_keys", lambda a: a[::-1].copy()), ("row", "bucket_counts", lambda a: -a),
        ("row", "bucket_counts", lambda a: a + 1), ("row", "bucket_keys", lambda a: a + (1 << 40)),
        ("row", "bucket_keys", lambda a: a - (1 << 40)),
        ("row", "sums", lambda a: a * [[[1], [0], [1], [1], [1]]]),
        ("row", "sums", lambda a: a * [[[1], [1], [1], [0], [1]]]),
        ("histogram", "counts_p", lambda a: a - 20), ("histogram", "counts_q", lambda a: a + (1 << 60)),
        ("histogram", "fixed", lambda a: a + 1), ("support", "sums", lambda a: -a),
        ("support", "infinite", lambda a: a - 1), ("support", "infinite", lambda a: a + 100),
        ("support", "n_elements", lambda a: -a), ("support", "n_elements", lambda a: a * 0),
        ("support", "eps", lambda a: a * np.nan), ("support", "n_elements", lambda a: a + (1 << 61)),
        ("paired", "counts", lambda a: a + (1 << 61)), ("logits", "tops", lambda a: a + (1 << 50)),
        ("logits", "sums", lambda a: a + (1 << 40)), ("paired", "counts", lambda a: -a),
        ("paired", "counts", lambda a: a * 0), ("paired", "sums", lambda a: a[::-1].copy()),
        ("paired", "cluster_sums", lambda a: a[::-1] * 2), ("paired", "cluster_rows", lambda a: a + 1),
        ("paired", "labels", lambda a: a * 0), ("paired", "sums", lambda a: a - (1 << 33)),
    ],
)  # fmt: skip
def test_contents_that_cannot_be_are_refused(make, kind, name, change):
    """Negative counts, sums out of canonical form, and contents that contradict each other are refused."""
    acc = make(kind)
    state = acc.to_state()
    state[name] = np.asarray(change(state[name])).astype(state[name].dtype)
    with pytest.raises(ValueError, match="state"):
        type(acc).from_state(state)


INTEGERS = (0, 1, -1, 2, 1 << 31, (1 << 32) - 1, 1 << 51, (1 << 60) - 1, 1 << 60, (1 << 63) - 1, -(1 << 63))
FLOATS = (0.0, -0.0, 1.0, -1.0, 5e-324, 1e308, np.inf, -np.inf, np.nan, 2.0**-52)


def test_any_change_of_a_state_is_refused_or_could_be(make, kind):
    """Where an element of an array is replaced, the state is refused by name, or it is in order in every respect."""
    rng = np.random.default_rng(0)
    state = make(kind).to_state()
    n_refused = 0
    for name in sorted(state.keys() - {"header"}):
        for value in INTEGERS if state[name].dtype.kind == "i" else FLOATS if state[name].dtype.kind == "f" else ():
            for place in rng.integers(0, max(state[name].size, 1), 4):
                changed = state[name].copy()
                changed.reshape(-1)[place] = value
                try:
                    acc = type(make(kind)).from_state(state | {name: changed})
                except ValueError as error:
                    assert "state['" in str(error)
                    n_refused += 1
                    continue
                assert acc.to_state()[name].tobytes() == changed.tobytes()
                repr(acc.result())
                acc.merge(acc.copy())
    assert n_refused > 10


def test_states_of_hard_rows_come_back():
    """Infinite values, those that overflow by their weights, zeros and subnormals make states that are accepted."""
    rng = np.random.default_rng(0)
    values = np.array(
        [-np.inf, np.inf, np.nan, 0.0, -0.0, 5e-324, -5e-324, 1e-310, 1e308, -1e308, 1.0, 1 + 2**-52, -3.0]
    )
    for n in [1, 1, 1, 2, 2, 3, 5, 20] * 8:
        rows, weights = rng.choice(values, (2, n)), rng.choice([0, 5e-324, 1e-200, 0.1, 1, 3, 1e300], n)
        for options in ({}, {"weights": weights}):
            acc = RowValues(("a", "b"), quantiles=(0.5,), groups=True)
            acc.update(rows, group=rng.integers(0, 2, n), **options)
            assert RowValues.from_state(acc.to_state()) == acc
    for scale in (5e-324, 1e-300, 1.0, 1e300):
        a, b = (scale * rng.choice([0, 1, 1, 3, 0.1, np.inf, np.nan], (8, 1)) for _ in "ab")
        acc = PairedDivergence("entropy_q", normalize=False, clusters=True)
        acc.update(np.ones((8, 1)), np.exp(-a), np.exp(-b), cluster=np.arange(8) // 3)
        assert PairedDivergence.from_state(acc.to_state()) == acc


def test_states_are_copies_and_json(make, kind):
    """A state's header passes through JSON, its arrays are not shared, and it comes back equal."""
    acc = make(kind)
    before, state = acc.copy(), acc.to_state()
    twin = type(acc).from_state({**state, "header": json.loads(json.dumps(state["header"]))})
    assert twin == acc == pickle.loads(pickle.dumps(acc)) == copy.deepcopy(acc)
    for name, array in state.items():
        if name != "header":
            array[...] = 0
    assert acc == before == twin
    assert type(acc).from_state(twin.to_state()).result().to_dict() is not None


@pytest.mark.parametrize("is_empty", [False, True])
def test_copies_share_nothing(make, update, kind, is_empty):
    """A copy and what it was made of go on by turns, and each of them sees its own rows."""

    def fresh(*seeds):
        acc = make(kind)
        acc = acc.reset() if is_empty else acc
        for seed in seeds:
            update(acc, seed)
        return acc

    first = fresh()
    second = first.copy()
    third = second.copy()
    for acc, seed in ((first, 1), (second, 2), (third, 3), (first, 4), (second, 5), (third, 6)):
        update(acc, seed)
    fourth = first.copy()
    update(first, 7)
    update(fourth, 8)
    assert first == fresh(1, 4, 7)
    assert second == fresh(2, 5)
    assert third == fresh(3, 6)
    assert fourth == fresh(1, 4, 8)


def test_damaged_files_are_refused(make, kind, tmp_path):
    """Every truncation and every flipped byte raises a ValueError or changes nothing that counts."""
    acc = make(kind)
    path, damaged = tmp_path / "good.npz", tmp_path / "bad.npz"
    acc.save(path)
    content = path.read_bytes()
    assert type(acc).load(path) == acc
    rng = np.random.default_rng(0)
    for cut in [0, 1, *rng.integers(2, len(content), 25)]:
        damaged.write_bytes(content[:cut])
        with pytest.raises(ValueError, match="cannot load"):
            type(acc).load(damaged)
    for place in rng.integers(0, len(content), 120):
        flipped = bytearray(content)
        flipped[place] ^= 1 << rng.integers(8)
        damaged.write_bytes(flipped)
        try:
            assert type(acc).load(damaged) == acc  # the archive also holds dates and the like, which are not checked
        except ValueError as error:
            assert "cannot load" in str(error)
    with pytest.raises(FileNotFoundError):
        type(acc).load(tmp_path / "nothing.npz")


def test_hostile_files(make, tmp_path):
    """Pickles, foreign members, other accumulators, and headers that claim more than there is are refused."""
    path = tmp_path / "x.npz"
    np.savez(path, header=np.array([{"a": 1}], object))
    with pytest.raises(ValueError, match="cannot load"):
        RowDivergence.load(path)
    make("paired").save(path)
    with pytest.raises(ValueError, match=r"format must be 'kullback\.streaming\.RowDivergence'"):
        RowDivergence.load(path)
    for name, data, message in (
        ("evil.py", b"print(1)", "not an array"),
        ("sums.npy", _npy("(99999999999, 9999999)"), "its header speaks of"),
        ("header.npy", _npy("()", "'<i8'", b"\0" * 8), "no header"),
        ("sums.npy", b"\x93NUMPY\x09\x00", "npy version"),
    ):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(name, data)
        with pytest.raises(ValueError, match=message):
            RowDivergence.load(path)
    np.savez(path, header=np.array("[" * 100000))
    with pytest.raises(ValueError, match="not JSON"):
        RowDivergence.load(path)


def test_features_that_a_file_only_claims(make, tmp_path):
    """No memory is taken for features of which there are no counts."""
    make("histogram").save(tmp_path / "x.npz")
    arrays = dict(np.load(tmp_path / "x.npz"))
    header = json.loads(str(arrays["header"]))
    header["configuration"] |= {"n_features": 10_000_000, "edges": [0.5]}
    np.savez(tmp_path / "x.npz", **arrays | {"header": np.array(json.dumps(header))})
    tracemalloc.start()
    with pytest.raises(ValueError, match="must have a row for each of 10000000 features, got"):
        HistogramDivergence.load(tmp_path / "x.npz")
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def _npy(shape, dtype="'<i8'", data=b""):
    header = f"{{'descr': {dtype}, 'fortran_order': False, 'shape': {shape}}}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + data


def test_a_failed_merge_changes_nothing(make, kinds):
    """Merging another configuration raises before anything is added."""
    for kind in kinds:
        acc = make(kind)
        before = acc.copy()
        others = [make(other) for other in kinds if other != kind]
        change = {"quantiles": (0.2,)} if kind == "values" else {"base": 3.0}
        others.append(type(acc)(**(acc._configuration() | change)))
        for other in others:
            with pytest.raises((TypeError, ValueError), match="other must"):
                acc.merge(other)
        assert acc == before


def test_merging_with_itself_and_with_nothing(make, kind):
    """Merging an empty twin changes nothing, and merging an accumulator with itself doubles its data."""
    acc = make(kind)
    empty = acc.copy().reset()
    assert acc + empty == acc == empty + acc
    if kind != "support":
        twice = acc.copy().merge(acc)
        assert twice == acc + acc.copy()
        assert sum([acc, acc]) == twice
