"""The command line: ``kullback embed`` and ``kullback divergence``."""

from __future__ import annotations

import argparse
import io
import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import numpy.typing as npt
from scipy import sparse

from ._cli_files import (
    INPUT_HELP,
    Data,
    check_plot,
    check_targets,
    is_llama,
    one_line,
    open_logits,
    read_data,
    read_labels,
    read_rows,
)
from ._cli_tables import Layout, format_csv, is_csv
from ._interrupts import INTERRUPTED, leave_on_termination
from ._outputs import name_path, write_file

if TYPE_CHECKING:
    from .tsne import TSNE


class _OutputClosedError(Exception):
    """Nobody reads standard output any more, as after ``| head``: there is nobody to tell anything."""


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message} (see {self.prog} --help)")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status: 0, 2 for bad input, 130 when interrupted.

    SIGTERM raises SystemExit with status 143.
    """
    try:
        arguments = _make_parser().parse_args(argv)
        run: Callable[[argparse.Namespace], None] = arguments.run
        with leave_on_termination():
            run(arguments)
    except KeyboardInterrupt as stop:
        print(f"kullback: interrupted, {str(stop) or 'nothing was written'}", file=sys.stderr)
        return INTERRUPTED
    except _OutputClosedError:
        return 0
    except (OSError, ValueError, TypeError, MemoryError, ImportError) as error:
        print(f"kullback: error: {one_line(error)}", file=sys.stderr)
        return 2
    return 0


def _make_parser() -> _Parser:
    parser = _Parser(prog="kullback", description="t-SNE maps and divergences between probability distributions.")
    parser.add_argument("--version", action="version", version=_version())
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)
    _add_embed(commands)
    _add_divergence(commands)
    return parser


def _add_embed(commands: Any) -> None:
    embed = commands.add_parser("embed", help="embed the rows of a matrix in two dimensions")
    embed.add_argument("input", metavar="INPUT", help=INPUT_HELP)
    embed.add_argument("-o", "--output", metavar="OUT.npy", required=True,
                       help="where the embedding goes: .csv, .tsv and .csv.gz give text, other names .npy")  # fmt: skip
    embed.add_argument("--plot", metavar="OUT.png", help="draw the map: any format of matplotlib's")
    embed.add_argument("--labels", metavar="L.npy", help="one label for each row, for the plot; as INPUT")
    embed.add_argument("--labels-column", metavar="C", help="the column of INPUT, or of L where --labels is given, "
                       "that holds the labels: its name, or its number from 1")  # fmt: skip
    _add_table_options(embed)
    embed.add_argument("--perplexity", type=float, default=30.0, help="effective neighbours (default: %(default)g)")
    embed.add_argument("--n-neighbors", type=int, metavar="N", help="in its place: N neighbours, all drawn alike")
    embed.add_argument("--max-iter", type=int, default=1000, metavar="N", help="most iterations (default: %(default)d)")
    embed.add_argument("--early-exaggeration", type=float, default=12.0, metavar="X", help="default: %(default)g")
    embed.add_argument("--early-exaggeration-iter", type=_whole_or_word, default="anneal", metavar="N",
                       help="iterations of it, or auto: until the map is at rest (default: %(default)s)")  # fmt: skip
    embed.add_argument("--exaggeration", type=float, default=1.0, metavar="X", help="after that (default: 1)")
    embed.add_argument("--tol", type=_number_or_auto, default="auto", metavar="X", help="stop at rest: less relative "
                       "fall of KL in 50 iterations (default: 0.02 if annealed, else never)")  # fmt: skip
    embed.add_argument("--learning-rate", type=_number_or_auto, default="auto", metavar="X", help="default: auto")
    embed.add_argument("--components", type=int, default=2, metavar="N", help="dimensions (default: %(default)d)")
    embed.add_argument("--metric", default="euclidean", help="distance between rows (default: %(default)s)")
    embed.add_argument("--recall", type=float, default=0.95, metavar="X", help="share of the true neighbours that are "
                       "found at least (default: %(default)g)")  # fmt: skip
    embed.add_argument("--init", choices=("pca", "spectral", "random"), default="pca", help="default: %(default)s")
    embed.add_argument("--method", choices=("auto", "exact", "barnes_hut", "fft"), default="auto", help="default: auto")
    embed.add_argument("--angle", type=float, default=0.5, metavar="X", help="Barnes-Hut's theta (default: 0.5)")
    embed.add_argument("--seed", type=int, default=0, help="seed (default: %(default)d)")
    embed.add_argument("--n-jobs", type=int, metavar="N", help="threads (default: all); the map is the same")
    embed.add_argument("--quiet", action="store_true", help="no progress and no report")
    embed.set_defaults(run=_embed)


def _add_divergence(commands: Any) -> None:
    divergence = commands.add_parser("divergence", help="compare the rows of two matrices of probabilities")
    divergence.add_argument("p", metavar="P", help="the true or reference distributions: .npy, .npz:key, "
                            ".csv, .tsv, .csv.gz, .parquet or -; or base logits of llama.cpp")  # fmt: skip
    divergence.add_argument("q", metavar="Q", help="distributions of the same shape; or, where P is a file "
                            "of llama.cpp, another or logits in .npy, .h5:NAME, ...")  # fmt: skip
    _add_table_options(divergence)
    divergence.add_argument("--base", type=float, help="base of the logarithm (default: e, that is nats)")
    divergence.add_argument("--normalize", choices=("check", "true", "false"), default="check",
                            help="check that rows sum to 1, divide by the sum, or neither")  # fmt: skip
    divergence.add_argument("--n-jobs", type=int, metavar="N", help="threads (default: all)")
    divergence.set_defaults(run=_divergence)


def _add_table_options(command: Any) -> None:
    command.add_argument("--columns", metavar="C,C,...", help="the columns of a table that are read, by name or number")
    command.add_argument("--index-column", metavar="C", help="the column that names the rows and is no data "
                         "(default: the first, where its name is empty)")  # fmt: skip
    command.add_argument("--separator", metavar="S", help="what stands between cells: a character, or the word tab "
                         "(default: a comma, or a tab in .tsv)")  # fmt: skip


def _version() -> str:
    from importlib.metadata import version

    return f"kullback {version('kullback')}"


def _number_or_auto(text: str) -> float | str:
    return "auto" if text == "auto" else float(text)


def _whole_or_word(text: str) -> int | str:
    return text if text in ("anneal", "auto") else int(text)


# ---- Commands ------------------------------------------------------------------------------------


def _embed(arguments: argparse.Namespace) -> None:
    """Embed a matrix, write the map and then its picture, and print a report."""
    output = Path(arguments.output)
    plot = Path(arguments.plot) if arguments.plot else None
    check_targets(output, plot, [name for name in (arguments.input, arguments.labels) if name and name != "digits"])
    if plot is not None:
        check_plot(plot, arguments.components)
    data = _read_input(arguments)
    X = data.X

    estimator = _make_estimator(arguments)
    start = time.perf_counter()
    embedding = estimator.fit_transform(X)
    seconds = time.perf_counter() - start
    last = estimator.loss_[-1]

    if is_csv(output.name):
        content = format_csv(output.name, embedding, data.index)
        write_file(output, lambda file: file.write(content))
    else:
        write_file(output, lambda file: np.save(file, embedding))
    if plot is not None:
        caption = f"{X.shape[0]:,} points, {estimator.n_iter_} iterations, KL = {last.kl_divergence:.3f} nats"
        try:
            _draw(plot, embedding, data.labels, f"t-SNE of {arguments.input}", caption)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"{output} was written, {plot} was not") from None
        except Exception as error:
            reason = one_line(error).removeprefix(f"{plot}: ")
            raise ValueError(f"{plot}: {reason} (the map is whole, in {output})") from error
    if not arguments.quiet:
        size = f"{X.shape[0]:,} rows of {X.shape[1]:,}"
        n_neighbors = arguments.n_neighbors
        drawn = f"{n_neighbors} neighbours" if n_neighbors else f"perplexity {arguments.perplexity:g}"
        _print_report([
            f"{arguments.input}: {size}, {drawn}, "
            f"{estimator.n_iter_} iterations, {seconds:.1f} s",
            f"H(P)        {last.entropy:10.4f} nats   entropy: fixed by the data and their neighbours",
            f"H(P, Q)     {last.cross_entropy:10.4f} nats   cross-entropy: what the descent lowers",
            f"KL(P || Q)  {last.kl_divergence:10.4f} nats   = H(P, Q) - H(P)",
            f"wrote {output}{f', {plot}' if plot else ''}",
        ])  # fmt: skip


def _print_report(lines: list[str]) -> None:
    """Print lines to standard output and see that they arrive, which otherwise shows when the process has ended."""
    try:
        print("\n".join(lines), flush=True)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is still to be written is given up
        if isinstance(error, BrokenPipeError):
            raise _OutputClosedError from None
        raise name_path(error, "standard output") from None


def _read_input(arguments: argparse.Namespace) -> Data:
    """Return the data and their labels, which stand in a column of the input or in a file of their own."""
    layout = _make_layout(arguments)
    if arguments.labels == "-" == arguments.input:
        raise ValueError("--labels: standard input is the input already")
    data = read_data(arguments.input, replace(layout, labels_column=None) if arguments.labels else layout)
    if arguments.labels:
        of_labels = Layout(labels_column=layout.labels_column)
        data.labels = read_labels(arguments.labels, data.X.shape[0], of_labels)
    if not arguments.quiet:
        _tell_left_out(arguments.input, data)
    return data


def _make_layout(arguments: argparse.Namespace) -> Layout:
    return Layout(
        {"tab": "\t", "\\t": "\t"}.get(arguments.separator, arguments.separator),
        arguments.columns,
        arguments.index_column,
        getattr(arguments, "labels_column", None),
    )


def _tell_left_out(name: str, data: Data) -> None:
    if data.left_out:
        print(f"kullback: {name}: left out columns of text: {', '.join(data.left_out)}", file=sys.stderr)


def _draw(plot: Path, embedding: npt.NDArray[Any], labels: npt.NDArray[Any] | None, title: str, caption: str) -> None:
    """Draw a map as a file whose name tells its format."""
    from . import plotting

    title = title.replace("$", r"\$")  # the name of a file is no formula
    figure = plotting.scatter(embedding, labels, title=title, caption=caption)
    picture = io.BytesIO()
    figure.savefig(picture, format=plot.suffix[1:].lower())
    write_file(plot, lambda file: file.write(picture.getbuffer()))


def _make_estimator(arguments: argparse.Namespace) -> TSNE:
    from .tsne import TSNE

    return TSNE(
        arguments.components,
        perplexity=arguments.perplexity,
        n_neighbors=arguments.n_neighbors,
        early_exaggeration=arguments.early_exaggeration,
        early_exaggeration_iter=arguments.early_exaggeration_iter,
        exaggeration=arguments.exaggeration,
        tol=arguments.tol,
        learning_rate=arguments.learning_rate,
        max_iter=arguments.max_iter,
        metric=arguments.metric,
        recall=arguments.recall,
        init=arguments.init,
        method=arguments.method,
        angle=arguments.angle,
        random_state=arguments.seed,
        n_jobs=arguments.n_jobs,
        verbose=int(sys.stderr.isatty() and not arguments.quiet),
    )


def _divergence(arguments: argparse.Namespace) -> None:
    """Print entropy, cross-entropy and KL, or the report on logits where P is a file of llama.cpp."""
    if is_llama(arguments.p):
        return _compare_logits(arguments)
    layout = _make_layout(arguments)
    if arguments.p == "-" == arguments.q:
        raise ValueError("only one of P and Q can be standard input")
    read = [read_rows(name, layout) for name in (arguments.p, arguments.q)]
    for name, data in zip((arguments.p, arguments.q), read, strict=True):
        _tell_left_out(name, data)
    p: Any = read[0].X
    q: Any = _in_order_of(read[0], read[1], arguments.p, arguments.q)
    if p.shape != q.shape:
        raise ValueError(f"{arguments.q}: must have the shape of {arguments.p}, {p.shape}, got {q.shape}")
    if sparse.issparse(p) != sparse.issparse(q):
        p, q = (side.toarray() if sparse.issparse(side) else side for side in (p, q))

    from . import decompose

    normalize: Any = {"check": "check", "true": True, "false": False}[arguments.normalize]
    result = decompose(p, q, base=arguments.base, normalize=normalize, n_threads=arguments.n_jobs)
    unit = {None: "nats", 2.0: "bits"}.get(arguments.base, f"in base {arguments.base}")
    n_rows = p.shape[0]
    lines = [f"{n_rows:,} {'row' if n_rows == 1 else 'rows'} of {p.shape[1]:,}, mean +- standard error"]
    rows = (("H(p)", result.entropy), ("H(p, q)", result.cross_entropy), ("KL(p || q)", result.kl_divergence))
    for name, values in rows:
        mean, error = _mean_and_error(values)
        spread = "" if math.isnan(error) else f" +- {error:.3g}"
        lines.append(f"{name:<11} {mean:.10g}{spread} {unit}")
    _print_report(lines)


def _in_order_of(p: Data, q: Data, name_p: str, name_q: str) -> npt.NDArray[Any]:
    """Return q with its columns in the order of p's names, where both have names."""
    if not p.names or not q.names or p.names == q.names:
        return q.X  # type: ignore[no-any-return]
    if sorted(p.names) != sorted(q.names) or len(set(p.names)) < len(p.names):
        alone = sorted(set(p.names) ^ set(q.names)) or p.names
        raise ValueError(f"{name_q}: must have the columns of {name_p}, only one has {', '.join(alone)[:200]}")
    return q.X[:, [q.names.index(name) for name in p.names]]  # type: ignore[no-any-return]


def _compare_logits(arguments: argparse.Namespace) -> None:
    """Print the report on llama.cpp's base logits beside a second model's."""
    if (arguments.base, arguments.normalize, arguments.n_jobs) != (None, "check", None):
        raise ValueError("--base, --normalize and --n-jobs do not apply to llama.cpp's logits")
    _make_layout(arguments).check_absent(arguments.p)

    from .readers import compare_logits

    with (
        closing(open_logits(arguments.p)) as base,
        closing(open_logits(arguments.q)) as second,
        np.errstate(invalid="ignore"),  # bad logits are counted, and reported below
    ):
        report = compare_logits(base, second)
    if report.kl.n_nonfinite:
        raise ValueError(f"{arguments.q}: {report.kl.n_nonfinite} of {report.n_tokens} rows are no logits: "
                         "they hold NaN or inf, or nothing but -inf")  # fmt: skip
    _print_report([str(report)])


def _mean_and_error(values: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Return the mean over rows and its standard error, which is NaN for one row or a mean that is not finite."""
    if not np.isfinite(values).all():
        return float(values.sum()), math.nan
    mean = math.fsum(values) / len(values)
    if len(values) < 2:
        return mean, math.nan
    return mean, math.sqrt(math.fsum((values - mean) ** 2) / (len(values) - 1) / len(values))


if __name__ == "__main__":
    sys.exit(main())
