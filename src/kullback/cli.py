"""The command line: ``kullback embed`` and ``kullback divergence``."""

from __future__ import annotations

import argparse
import math
import os
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NoReturn

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from .readers import Source

INPUT_HELP = "a file .npy, .npz:key or .csv, or the name 'digits'"


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message} (see {self.prog} --help)")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status: 0, 2 for bad input, 130 when interrupted."""
    try:
        arguments = _make_parser().parse_args(argv)
        run: Callable[[argparse.Namespace], None] = arguments.run
        run(arguments)
    except KeyboardInterrupt:
        print("kullback: interrupted, nothing was written", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (OSError, ValueError, TypeError, MemoryError, ImportError) as error:
        print(f"kullback: error: {_one_line(error)}", file=sys.stderr)
        return 2
    return 0


def _one_line(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split()) or type(error).__name__


def _make_parser() -> _Parser:
    parser = _Parser(prog="kullback", description="t-SNE maps and divergences between probability distributions.")
    parser.add_argument("--version", action="version", version=_version())
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)

    embed = commands.add_parser("embed", help="embed the rows of a matrix in two dimensions")
    embed.add_argument("input", metavar="INPUT", help=INPUT_HELP)
    embed.add_argument("-o", "--output", metavar="OUT.npy", required=True, help="where the embedding goes")
    embed.add_argument("--plot", metavar="OUT.png", help="draw the map: any format of matplotlib's")
    embed.add_argument("--labels", metavar="L.npy", help="one label for each row, for the plot; as INPUT")
    embed.add_argument("--perplexity", type=float, default=30.0, help="effective neighbours (default: %(default)g)")
    embed.add_argument("--max-iter", type=int, default=1000, metavar="N", help="iterations (default: %(default)d)")
    embed.add_argument("--early-exaggeration", type=float, default=12.0, metavar="X", help="default: %(default)g")
    embed.add_argument("--early-exaggeration-iter", type=_whole_or_auto, default=250, metavar="N",
                       help="iterations of it, or auto: until the map is at rest (default: %(default)d)")  # fmt: skip
    embed.add_argument("--exaggeration", type=float, default=1.0, metavar="X", help="after that (default: 1)")
    embed.add_argument("--tol", type=float, metavar="X", help="stop at rest: less relative fall of KL in 50 "
                       "iterations, such as 0.002 (default: never)")  # fmt: skip
    embed.add_argument("--learning-rate", type=_number_or_auto, default="auto", metavar="X", help="default: auto")
    embed.add_argument("--components", type=int, default=2, metavar="N", help="dimensions (default: %(default)d)")
    embed.add_argument("--metric", default="euclidean", help="distance between rows (default: %(default)s)")
    embed.add_argument("--init", choices=("pca", "spectral", "random"), default="pca", help="default: %(default)s")
    embed.add_argument("--method", choices=("auto", "exact", "barnes_hut", "fft"), default="auto", help="default: auto")
    embed.add_argument("--angle", type=float, default=0.5, metavar="X", help="Barnes-Hut's theta (default: 0.5)")
    embed.add_argument("--seed", type=int, default=0, help="seed (default: %(default)d)")
    embed.add_argument("--n-jobs", type=int, metavar="N", help="threads (default: all); the map is the same")
    embed.add_argument("--quiet", action="store_true", help="no progress and no report")
    embed.set_defaults(run=_embed)

    divergence = commands.add_parser("divergence", help="compare the rows of two matrices of probabilities")
    divergence.add_argument("p", metavar="P", help="the true or reference distributions: .npy, .npz:key or "
                            ".csv; or base logits of llama.cpp")  # fmt: skip
    divergence.add_argument("q", metavar="Q", help="distributions of the same shape; or, where P is a file "
                            "of llama.cpp, another or logits in .npy, .h5:NAME, ...")  # fmt: skip
    divergence.add_argument("--base", type=float, help="base of the logarithm (default: e, that is nats)")
    divergence.add_argument("--normalize", choices=("check", "true", "false"), default="check",
                            help="check that rows sum to 1, divide by the sum, or neither")  # fmt: skip
    divergence.add_argument("--n-jobs", type=int, metavar="N", help="threads (default: all)")
    divergence.set_defaults(run=_divergence)
    return parser


def _version() -> str:
    from importlib.metadata import version

    return f"kullback {version('kullback')}"


def _number_or_auto(text: str) -> float | str:
    return "auto" if text == "auto" else float(text)


def _whole_or_auto(text: str) -> int | str:
    return "auto" if text == "auto" else int(text)


# ---- Commands ------------------------------------------------------------------------------------


def _embed(arguments: argparse.Namespace) -> None:
    output = Path(arguments.output)
    plot = Path(arguments.plot) if arguments.plot else None
    _check_targets(output, plot)
    if plot is not None:
        _check_plot(plot, arguments.components)
    X, labels = _read_data(arguments.input)
    if arguments.labels:
        labels = _read_labels(arguments.labels, len(X))

    from . import TSNE

    start = time.perf_counter()
    estimator = TSNE(
        arguments.components,
        perplexity=arguments.perplexity,
        early_exaggeration=arguments.early_exaggeration,
        early_exaggeration_iter=arguments.early_exaggeration_iter,
        exaggeration=arguments.exaggeration,
        tol=arguments.tol,
        learning_rate=arguments.learning_rate,
        max_iter=arguments.max_iter,
        metric=arguments.metric,
        init=arguments.init,
        method=arguments.method,
        angle=arguments.angle,
        random_state=arguments.seed,
        n_jobs=arguments.n_jobs,
        verbose=int(sys.stderr.isatty() and not arguments.quiet),
    )
    embedding = estimator.fit_transform(X)
    seconds = time.perf_counter() - start
    last = estimator.loss_[-1]

    writers: dict[Path, Callable[[IO[bytes]], object]] = {output: lambda file: np.save(file, embedding)}
    if plot is not None:
        from . import plotting

        caption = f"{len(X):,} points, {estimator.n_iter_} iterations, KL = {last.kl_divergence:.3f} nats"
        figure = plotting.scatter(embedding, labels, title=f"t-SNE of {arguments.input}", caption=caption)
        kind = plot.suffix[1:].lower()
        writers[plot] = lambda file: figure.savefig(file, format=kind)
    _write_together(writers)
    if not arguments.quiet:
        size = f"{X.shape[0]:,} rows of {X.shape[1]:,}"
        print(f"{arguments.input}: {size}, perplexity {arguments.perplexity:g}, "
              f"{estimator.n_iter_} iterations, {seconds:.1f} s")  # fmt: skip
        print(f"H(P)        {last.entropy:10.4f} nats   entropy: fixed by the data and the perplexity")
        print(f"H(P, Q)     {last.cross_entropy:10.4f} nats   cross-entropy: what the descent lowers")
        print(f"KL(P || Q)  {last.kl_divergence:10.4f} nats   = H(P, Q) - H(P)")
        print(f"wrote {', '.join(map(str, writers))}")


def _divergence(arguments: argparse.Namespace) -> None:
    if _is_llama(arguments.p):
        return _compare_logits(arguments)
    p, q = (_read_matrix(name) for name in (arguments.p, arguments.q))
    if p.shape != q.shape:
        raise ValueError(f"{arguments.q}: must have the shape of {arguments.p}, {p.shape}, got {q.shape}")

    from . import decompose

    normalize: Any = {"check": "check", "true": True, "false": False}[arguments.normalize]
    result = decompose(p, q, base=arguments.base, normalize=normalize, n_threads=arguments.n_jobs)
    unit = {None: "nats", 2.0: "bits"}.get(arguments.base, f"in base {arguments.base}")
    n_rows = len(p)
    print(f"{n_rows:,} {'row' if n_rows == 1 else 'rows'} of {p.shape[1]:,}, mean +- standard error")
    rows = (("H(p)", result.entropy), ("H(p, q)", result.cross_entropy), ("KL(p || q)", result.kl_divergence))
    for name, values in rows:
        mean, error = _mean_and_error(values)
        spread = "" if math.isnan(error) else f" +- {error:.3g}"
        print(f"{name:<11} {mean:.10g}{spread} {unit}")


def _compare_logits(arguments: argparse.Namespace) -> None:
    """Print the report on llama.cpp's base logits beside a second model's."""
    if (arguments.base, arguments.normalize, arguments.n_jobs) != (None, "check", None):
        raise ValueError("--base, --normalize and --n-jobs do not apply to llama.cpp's logits")

    from .readers import compare_logits

    with (
        closing(_open_logits(arguments.p)) as base,
        closing(_open_logits(arguments.q)) as second,
        np.errstate(invalid="ignore"),  # of bad logits, which are counted
    ):
        report = compare_logits(base, second)
    if report.kl.n_nonfinite:
        raise ValueError(f"{arguments.q}: {report.kl.n_nonfinite} of {report.n_tokens} rows are no logits: "
                         "they hold NaN or inf, or nothing but -inf")  # fmt: skip
    print(report)


def _mean_and_error(values: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Return the mean over rows and its standard error, NaN for a single row or a mean that is not finite."""
    if not np.isfinite(values).all():
        return float(values.sum()), math.nan
    mean = math.fsum(values) / len(values)
    if len(values) < 2:
        return mean, math.nan
    return mean, math.sqrt(math.fsum((values - mean) ** 2) / (len(values) - 1) / len(values))


# ---- Input ---------------------------------------------------------------------------------------


def _read_data(name: str) -> tuple[npt.NDArray[Any], npt.NDArray[Any] | None]:
    """Return a matrix, and labels where the data set has them."""
    if name == "digits":
        from sklearn.datasets import load_digits

        digits = load_digits()
        return digits.data, digits.target
    return _read_matrix(name, vectors=False), None


def _read_matrix(name: str, *, vectors: bool = True) -> npt.NDArray[Any]:
    """Return finite numbers of shape (rows, columns); one vector is one row where ``vectors``."""
    array = _read_array(name)
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{name}: must hold real numbers, got dtype {array.dtype}")
    if array.ndim == 1 and vectors:
        array = array[None, :]
    if array.ndim != 2:
        raise ValueError(f"{name}: must have two dimensions, rows and columns, got shape {array.shape}")
    if 0 in array.shape:
        raise ValueError(f"{name}: is empty, shape {array.shape}")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        row = int(np.argmin(np.isfinite(array).all(axis=1)))
        raise ValueError(f"{name}: must be finite, got NaN or infinity in row {row}")
    return array


def _is_llama(name: str) -> bool:
    from .readers.llama import is_llama_logits

    return os.path.isfile(name) and is_llama_logits(name)


def _open_logits(name: str) -> Source:
    """Return rows of logits that are read in blocks; .npz and .csv are read at once."""
    from .readers import LlamaLogits, open_source

    if _is_llama(name):
        return LlamaLogits(name)
    path = name if os.path.exists(name) else name.rpartition(":")[0] or name
    os.stat(path)  # raises where there is no such file
    if Path(path).suffix.lower() in (".npz", ".csv"):
        return open_source(_read_matrix(name))
    try:
        source = open_source(name)
    except (OSError, ValueError) as error:
        text = _one_line(error)  # some libraries do not name the file
        raise ValueError(text if path in text else f"{name}: {text}") from None
    if source.dtype is not None and source.dtype.kind not in "fiubV":  # V: bfloat16
        raise ValueError(f"{name}: must hold real numbers, got dtype {source.dtype}")
    return source


def _read_labels(name: str, n_rows: int) -> npt.NDArray[Any]:
    array = _read_array(name, text=True)
    if array.size != n_rows:
        raise ValueError(f"{name}: must hold one label for each of {n_rows} rows, got shape {array.shape}")
    array = array.reshape(-1)
    if array.dtype.kind not in "fiubU" or (array.dtype.kind == "f" and not np.isfinite(array).all()):
        raise ValueError(f"{name}: labels must be finite numbers or strings, got dtype {array.dtype}")
    return array


def _read_array(name: str, *, text: bool = False) -> npt.NDArray[Any]:
    path, key = name, ""
    if not Path(name).exists() and ".npz:" in name:
        path, _, key = name.rpartition(":")
    suffix = Path(path).suffix.lower()
    if suffix not in (".npy", ".npz", ".csv"):
        raise ValueError(f"{name}: must be {INPUT_HELP}")
    if Path(path).stat().st_size == 0:
        raise ValueError(f"{name}: is empty")
    if suffix == ".csv":
        return _read_csv(path, text)
    try:
        loaded = np.load(path, allow_pickle=False)
        if suffix == ".npy":
            return np.asarray(loaded)
        with loaded:
            if not key and len(loaded.files) == 1:
                key = loaded.files[0]
            if key not in loaded.files:
                raise KeyError(f"{name}: name one of its arrays as {path}:KEY, from {', '.join(loaded.files)}")
            return np.asarray(loaded[key])
    except KeyError as error:
        raise ValueError(error.args[0]) from None
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{name}: not a readable {suffix} file: {_one_line(error)}") from None


def _read_csv(path: str, text: bool) -> npt.NDArray[Any]:
    """Read numbers separated by commas, after one line of names at most; with ``text``, one label a line."""
    import csv

    rows: list[list[float]] = []
    with open(path, newline="", encoding="utf-8-sig") as file:
        try:
            lines = [(number, row) for number, row in enumerate(csv.reader(file), 1) if any(map(str.strip, row))]
        except (UnicodeDecodeError, csv.Error) as error:
            raise ValueError(f"{path}: not a readable .csv file: {error}") from None
    if text and lines and all(len(row) == 1 for _, row in lines):
        return _numbers_or_text([row[0].strip() for _, row in lines])
    for position, (number, row) in enumerate(lines):
        values = [_float(cell) for cell in row]
        if position == 0 and all(value is None for value in values):
            continue  # names of columns
        for column, (value, cell) in enumerate(zip(values, row, strict=True), 1):
            if value is None:
                raise ValueError(f"{path}: line {number}, column {column}: not a number: {cell.strip()[:40]!r}")
        if rows and len(values) != len(rows[0]):
            raise ValueError(f"{path}: line {number} has {len(values)} columns, the lines before {len(rows[0])}")
        rows.append([value for value in values if value is not None])
    if not rows:
        raise ValueError(f"{path}: holds no numbers")
    return np.array(rows)


def _float(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None


def _numbers_or_text(cells: list[str]) -> npt.NDArray[Any]:
    values = [_float(cell) for cell in cells]
    return np.array(cells if None in values else values)


# ---- Output --------------------------------------------------------------------------------------


def _check_targets(*targets: Path | None) -> None:
    """Raise before the work where the result could not be written."""
    paths = [target for target in targets if target is not None]
    if len({os.path.abspath(path) for path in paths}) < len(paths):
        raise ValueError(f"{paths[0]}: -o and --plot must be different files")
    for path in paths:
        if path.is_dir():
            raise ValueError(f"{path}: is a directory")
        if not path.parent.is_dir():
            raise ValueError(f"{path}: its directory does not exist")
        if not os.access(path.parent, os.W_OK):
            raise ValueError(f"{path}: its directory cannot be written to")


def _check_plot(plot: Path, n_components: int) -> None:
    if n_components != 2:
        raise ValueError(f"{plot}: only 2 components can be drawn, got {n_components}")
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError('--plot needs matplotlib: pip install "kullback[plot]"') from None
    kinds = Figure().canvas.get_supported_filetypes()
    if plot.suffix[1:].lower() not in kinds:
        raise ValueError(f"{plot}: its name must end in one of .{', .'.join(sorted(kinds))}")


def _write_together(writers: dict[Path, Callable[[IO[bytes]], object]]) -> None:
    """Write every file beside its target and then put all in place, so that none is ever half written."""
    written: list[tuple[str, Path]] = []
    umask = os.umask(0)
    os.umask(umask)
    try:
        for path, write in writers.items():
            descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
            written.append((name, path))
            with os.fdopen(descriptor, "wb") as file:
                write(file)
            os.chmod(name, 0o666 & ~umask)
        while written:
            os.replace(*written[0])
            written.pop(0)
    finally:
        for name, _ in written:
            os.unlink(name)


if __name__ == "__main__":
    sys.exit(main())
