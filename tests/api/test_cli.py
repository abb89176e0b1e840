"""The command line as a user meets it: in a process of its own, with good files and with bad ones."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest

import kullback


@pytest.fixture
def kullback_command(tmp_path):
    """Return a function that runs ``kullback`` with arguments in an empty folder."""

    def run(*arguments):
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        command = [sys.executable, "-m", "kullback.cli", *map(str, arguments)]
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
        )

    return run


@pytest.fixture
def data(tmp_path):
    """Write a small matrix in every format; return it."""
    X = np.random.default_rng(0).normal(size=(60, 4)).round(3)
    np.save(tmp_path / "x.npy", X)
    np.savez(tmp_path / "x.npz", data=X, other=X[:, :2])
    np.savez(tmp_path / "single.npz", data=X)
    np.savetxt(tmp_path / "x.csv", X, delimiter=",")
    np.savetxt(tmp_path / "named.csv", X, delimiter=",", header="a,b,c,d", comments="")
    np.save(tmp_path / "labels.npy", np.repeat(["one", "two", "three"], 20))
    (tmp_path / "labels.csv").write_text("\n".join(["one", "two", "three"] * 20))
    return X


SMALL = ("--perplexity", 5, "--max-iter", 60)


def test_every_format_gives_the_same_map(kullback_command, data, tmp_path):
    """The formats are read to the same numbers, and the seed and the threads decide nothing else."""
    for i, name in enumerate(("x.npy", "x.npz:data", "single.npz", "x.csv", "named.csv")):
        done = kullback_command("embed", name, "-o", f"{i}.npy", "--n-jobs", i % 2 + 1, *SMALL)
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
    maps = [np.load(tmp_path / f"{i}.npy") for i in range(5)]
    assert maps[0].shape == (60, 2)
    assert len({a.tobytes() for a in maps}) == 1


def test_options_of_the_descent_arrive(kullback_command, data, tmp_path):
    """The map is the estimator's with the same options."""
    done = kullback_command(
        "embed", "x.npy", "-o", "m.npy", "--perplexity", 5, "--max-iter", 300, "--early-exaggeration-iter", "auto",
        "--exaggeration", 2, "--tol", 0.01, "--recall", 0.99, "--init", "spectral", "--method", "fft",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    expected = kullback.TSNE(
        perplexity=5, max_iter=300, early_exaggeration_iter="auto", exaggeration=2.0, tol=0.01, recall=0.99,
        init="spectral", method="fft", random_state=0,
    ).fit_transform(data)  # fmt: skip
    assert np.array_equal(np.load(tmp_path / "m.npy"), expected)


def test_digits_with_a_plot(kullback_command, tmp_path):
    """The digits give a map and a picture, and KL is the difference of the two other numbers that are printed."""
    done = kullback_command("embed", "digits", "-o", "d.npy", "--plot", "d.png", "--max-iter", 60, "--seed", 3)
    assert done.returncode == 0, done.stderr
    assert np.load(tmp_path / "d.npy").shape == (1797, 2)
    assert (tmp_path / "d.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d.npy", "d.png"]
    entropy, cross_entropy, kl = (float(x) for x in re.findall(r"([\d.]+) nats", done.stdout))
    assert kl == pytest.approx(cross_entropy - entropy, abs=2e-4)  # four decimals are printed


@pytest.mark.parametrize("labels", ["labels.npy", "labels.csv"])
def test_labels_and_formats_of_the_plot(kullback_command, data, tmp_path, labels):
    """Labels may be names and the picture a vector graphic, and --quiet prints no report."""
    done = kullback_command("embed", "x.npy", "-o", "m.npy", "--plot", "m.svg", "--labels", labels, "--quiet", *SMALL)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert b"<svg" in (tmp_path / "m.svg").read_bytes()


def test_divergence(kullback_command, tmp_path):
    """Means over rows and their standard errors are printed in nats or bits."""
    rng = np.random.default_rng(0)
    p, q = rng.dirichlet(np.ones(6), size=(2, 9))
    np.save(tmp_path / "p.npy", p)
    np.savetxt(tmp_path / "q.csv", q, delimiter=",", fmt="%.17g")
    kl = (p * np.log(p / q)).sum(axis=1)
    entropy = -(p * np.log(p)).sum(axis=1)
    done = kullback_command("divergence", "p.npy", "q.csv")
    assert done.returncode == 0, done.stderr
    rows = re.findall(r"^(\S.*?) +([\d.e-]+) \+- ([\d.e-]+) nats$", done.stdout, re.M)
    assert [name.strip() for name, _, _ in rows] == ["H(p)", "H(p, q)", "KL(p || q)"]
    assert float(rows[0][1]) == pytest.approx(entropy.mean(), rel=1e-9)
    assert float(rows[2][1]) == pytest.approx(kl.mean(), rel=1e-9)
    assert float(rows[2][2]) == pytest.approx(kl.std(ddof=1) / 3, rel=6e-3)  # three digits are printed
    assert done.stdout.startswith("9 rows of 6")
    bits = kullback_command("divergence", "p.npy", "q.csv", "--base", 2).stdout
    found = re.search(r"KL\(p \|\| q\) +([\d.]+) .* bits", bits)
    assert float(found[1]) == pytest.approx(kl.mean() / np.log(2), rel=1e-9)


def test_divergence_of_vectors_and_infinity(kullback_command, tmp_path):
    """A vector is one row without a standard error; KL is infinite where p > 0 and q = 0."""
    np.save(tmp_path / "p.npy", [0.5, 0.5])
    np.save(tmp_path / "q.npy", [1.0, 0.0])
    done = kullback_command("divergence", "p.npy", "q.npy")
    assert done.returncode == 0, done.stderr
    assert "1 row of 2" in done.stdout
    assert re.search(r"KL\(p \|\| q\) +inf nats", done.stdout)


@pytest.fixture
def logits(tmp_path, write_llama):
    """Write base logits of llama.cpp and those of a second model, also as arrays, which are returned."""
    rng = np.random.default_rng(0)
    base = rng.normal(0, 4, (10, 33)).astype(np.float32)  # two chunks of 12 tokens, 5 scored in each
    second = base + rng.normal(0, 0.3, base.shape).astype(np.float32)
    tokens = rng.integers(0, 33, (2, 12))
    write_llama(tmp_path / "base.kld", base, tokens)
    write_llama(tmp_path / "second.kld", second, tokens)
    write_llama(tmp_path / "text.kld", second, (tokens + 1) % 33)
    np.save(tmp_path / "second.npy", second)
    np.savez(tmp_path / "second.npz", logits=second)
    np.save(tmp_path / "short.npy", second[1:])
    np.save(tmp_path / "narrow.npy", second[:, 1:])
    np.save(tmp_path / "complex.npy", second + 1j)
    np.save(tmp_path / "nan.npy", np.where(np.arange(10)[:, None] == 4, np.nan, second))
    np.save(tmp_path / "huge.npy", 1e5 * second)
    for name in ("broken.npy", "broken.h5", "broken.parquet", "broken.safetensors"):
        (tmp_path / name).write_bytes(b"no such format")
    good = (tmp_path / "base.kld").read_bytes()
    (tmp_path / "cut.kld").write_bytes(good[:-1])
    (tmp_path / "magic.kld").write_bytes(good[:8])
    (tmp_path / "damaged.kld").write_bytes(good[:116] + b"\xff" * 4 + good[120:])  # scale is NaN
    (tmp_path / "foreign.kld").write_bytes(b"_Logits_" + good[8:])
    return second


@pytest.mark.parametrize("second", ["second.kld", "second.npy", "second.npz:logits"])
def test_divergence_of_llama_logits(kullback_command, logits, tmp_path, second):
    """The report is that of the library, whatever the format of the second model's logits."""
    from kullback.readers import compare_logits

    done = kullback_command("divergence", "base.kld", second)
    assert (done.returncode, done.stderr) == (0, "")
    given = tmp_path / second if second == "second.kld" else logits
    assert done.stdout == f"{compare_logits(tmp_path / 'base.kld', given, progress=False)}\n"
    assert done.stdout.startswith("10 tokens\n")
    for name in (r"PPL\(second\)", r"PPL\(base\)", r"PPL\(second\)/PPL\(base\)", r"Mean KL \[nats\]",
                 "Same top token", r"Mean change of p\(correct\)"):  # fmt: skip
        assert re.search(rf"^{name} +-?[\d.]+ \+- [\d.]+$", done.stdout, re.M), name
    ordered = re.findall(r"^(?:Maximum|Minimum|[\d.]+ % of) KL +([\d.]+)$", done.stdout, re.M)
    assert len(ordered) == 10
    assert ordered == sorted(ordered, key=float, reverse=True)
    low, high = re.search(r"^KL of the unquantised base +([\d.]+) to ([\d.]+)$", done.stdout, re.M).groups()
    mean = re.search(r"^Mean KL \[nats\] +([\d.]+)", done.stdout, re.M)[1]
    assert float(low) <= float(mean) <= float(high)
    assert float(low) < float(high)


def test_perplexity_beyond_float64_is_infinite(kullback_command, logits):
    """Logits of a broken model give a report with an infinite perplexity."""
    done = kullback_command("divergence", "base.kld", "huge.npy")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"^PPL\(second\) +inf", done.stdout, re.M)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["base.kld", "gone.kld"], "gone.kld: No such file or directory"),
        (["base.kld", "gone.h5:logits"], "gone.h5: No such file or directory"),
        (["base.kld", "foreign.kld"], "'foreign.kld' must end in one of"),
        (["base.kld", "cut.kld"], "'cut.kld' has"),
        (["base.kld", "broken.npy"], "'broken.npy' is no npy file that can be read"),
        (["base.kld", "broken.h5:x"], "'broken.h5' is damaged or cannot be read: "),
        (["base.kld", "broken.parquet:x"], "'broken.parquet' is damaged or cannot be read: "),
        (["base.kld", "broken.safetensors:x"], "'broken.safetensors' is no safetensors file"),
        (["base.kld", "text.kld"], "must be of the same text"),
        (["base.kld", "short.npy"], "second must have 10 rows"),
        (["base.kld", "narrow.npy"], "must have one vocabulary, got 33 and 32"),
        (["base.kld", "complex.npy"], "complex.npy: must hold real numbers, got dtype complex"),
        (["base.kld", "nan.npy"], "nan.npy: 1 of 10 rows are no logits"),
        (["cut.kld", "second.npy"], "'cut.kld' has"),
        (["magic.kld", "second.npy"], "'magic.kld' is no file of llama.cpp's base logits"),
        (["damaged.kld", "second.npy"], "'damaged.kld' is damaged between rows"),
        (["foreign.kld", "second.npy"], "foreign.kld: must be a file .npy"),
        (["base.kld", "second.npy", "--base", "2"], "do not apply to llama.cpp's logits"),
    ],
)
def test_bad_logits_are_one_line_and_status_2(kullback_command, logits, tmp_path, arguments, message):
    """The line of the error says what is wrong, and nothing is written."""
    before = sorted(path.name for path in tmp_path.iterdir())
    done = kullback_command("divergence", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert done.stderr.startswith("kullback: error: ")
    assert done.stderr.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == before


BAD = {
    "missing.npy": (None, "missing.npy: No such file or directory"),
    "empty.npy": (b"", "empty.npy: is empty"),
    "empty.csv": (b"", "empty.csv: is empty"),
    "blank.csv": (b"\n\n", "blank.csv: holds no numbers"),
    "ragged.csv": (b"1,2\n3,4\n5\n", "ragged.csv: line 3 has 1 columns, the lines before 2"),
    "words.csv": (b"1,2\n3,four\n", "words.csv: line 2, column 2: not a number: 'four'"),
    "nan.csv": (b"1,2\n3,nan\n", "nan.csv: must be finite, got NaN or infinity in row 1"),
    "binary.csv": (b"\xff\xfe\x00\x01", "binary.csv: not a readable .csv file"),
    "broken.npy": (b"not an array", "broken.npy: not a readable .npy file"),
    "broken.npz": (b"not an archive", "broken.npz: not a readable .npz file"),
    "data.txt": (b"1,2\n", "data.txt: must be a file .npy, .npz:key, .csv"),
    "x.npz": ("keep", "name one of its arrays as x.npz:KEY, from data, other"),
    "x.npz:none": ("keep", "name one of its arrays as x.npz:KEY, from data, other"),
    "text.npy": (np.array([["a"], ["b"]]), "text.npy: must hold real numbers, got dtype"),
    "object.npy": (np.array([[1], ["b"]], dtype=object), "object.npy: not a readable .npy file"),
    "cube.npy": (np.zeros((2, 2, 2)), "cube.npy: must have two dimensions"),
    "none.npy": (np.zeros((0, 3)), "none.npy: is empty, shape (0, 3)"),
    "inf.npy": (np.array([[0.0], [np.inf]]), "inf.npy: must be finite, got NaN or infinity in row 1"),
    "one.npy": (np.zeros((1, 3)), "minimum of 2"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line_and_status_2(kullback_command, data, tmp_path, name):
    """The line of the error names the file and what is wrong with it, and nothing is written."""
    content, message = BAD[name]
    if isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)
    elif isinstance(content, np.ndarray):
        np.save(tmp_path / name, content, allow_pickle=True)
    before = sorted(path.name for path in tmp_path.iterdir())
    done = kullback_command("embed", name, "-o", "out.npy", "--plot", "out.png", *SMALL)
    assert done.returncode == 2
    assert done.stdout == ""
    assert message in done.stderr
    assert done.stderr.startswith("kullback: error: ")
    assert done.stderr.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["embed", "x.npy"], "the following arguments are required: -o/--output"),
        ([], "the following arguments are required"),
        (["embed", "x.npy", "-o", "no/o.npy"], "no/o.npy: its directory does not exist"),
        (["embed", "x.npy", "-o", "."], ".: is a directory"),
        (["embed", "x.npy", "-o", "a.png", "--plot", "a.png"], "-o and --plot must be different files"),
        (["embed", "x.npy", "-o", "a.npy", "--plot", "a.bad"], "a.bad: its name must end in one of"),
        (
            ["embed", "x.npy", "-o", "a.npy", "--plot", "a.png", "--components", "3"],
            "only 2 components can be drawn",
        ),
        (["embed", "x.npy", "-o", "a.npy", "--perplexity", "60"], "perplexity must be less than"),
        (
            ["embed", "x.npy", "-o", "a.npy", "--perplexity", "many"],
            "argument --perplexity: invalid float value",
        ),
        (
            ["embed", "x.npy", "-o", "a.npy", "--labels", "x.npy"],
            "x.npy: must hold one label for each of 60 rows",
        ),
        (["embed", "x.npy", "-o", "a.npy", "--frobnicate"], "unrecognized arguments: --frobnicate"),
        (
            ["divergence", "x.npy", "x.npz:other"],
            "x.npz:other: must have the shape of x.npy, (60, 4), got (60, 2)",
        ),
        (["divergence", "x.npy", "x.npy"], "must"),
    ],
)
def test_bad_options_are_one_line_and_status_2(kullback_command, data, tmp_path, arguments, message):
    """The line of the error says what is wrong, and nothing is written."""
    before = sorted(path.name for path in tmp_path.iterdir())
    done = kullback_command(*arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_names_with_dollars_are_drawn(kullback_command, data, tmp_path):
    """Labels and names of files are data, and no formulae."""
    np.save(tmp_path / "$\\foo$.npy", data)
    np.save(tmp_path / "labels.npy", np.repeat(["$\\foo$", "$$", "other"], 20))
    done = kullback_command("embed", "$\\foo$.npy", "-o", "m.npy", "--plot", "m.svg", "--labels", "labels.npy", *SMALL)
    assert done.returncode == 0, done.stderr


def test_the_map_is_written_before_the_picture(monkeypatch, data, tmp_path, capsys):
    """Where drawing fails, the map is there and the error says so."""
    from kullback import cli, plotting

    monkeypatch.chdir(tmp_path)
    command = ["embed", "x.npy", "-o", "m.npy", "--plot", "m.png", *map(str, SMALL)]
    for error, status, message in (
        (RuntimeError("no ink"), 2, "error: m.png: no ink (the map is whole, in m.npy)"),
        (KeyboardInterrupt(), 130, "interrupted, m.npy was written, m.png was not"),
    ):

        def fail(*_, error=error, **__):
            raise error

        monkeypatch.setattr(plotting, "scatter", fail)
        assert cli.main(command) == status
        assert capsys.readouterr().err == f"kullback: {message}\n"
        assert np.load("m.npy").shape == (60, 2)
        (tmp_path / "m.npy").unlink()


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["x.npy", "-o", "x.npy"], "x.npy: -o must be another file than the input x.npy"),
        (["x.npz:data", "-o", "x.npz"], "x.npz: -o must be another file than the input x.npz:data"),
        (["x.npy", "-o", "hard.npy"], "hard.npy: -o must be another file than the input x.npy"),
        (["soft.npy", "-o", "x.npy"], "x.npy: -o must be another file than the input soft.npy"),
        (["x.npy", "-o", "m.npy", "--labels", "labels.npy", "--plot", "labels.svg"], "labels.svg: --plot must be"),
        (["x.npy", "--labels", "labels.npy", "-o", "labels.npy"], "labels.npy: -o must be another file"),
        (["x.npy", "-o", "new.svg", "--plot", "soft.svg"], "-o and --plot must be different files"),
    ],
)
def test_an_input_is_never_written_over(kullback_command, data, tmp_path, arguments, message):
    """A result that would go to a file that is read is refused, by whatever name it is called."""
    (tmp_path / "hard.npy").hardlink_to(tmp_path / "x.npy")
    (tmp_path / "soft.npy").symlink_to("x.npy")
    (tmp_path / "labels.svg").hardlink_to(tmp_path / "labels.npy")
    (tmp_path / "soft.svg").symlink_to("new.svg")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.exists()}
    done = kullback_command("embed", *arguments, *SMALL)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.exists()} == before


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_results_go_through_links_and_keep_the_mode(kullback_command, data, tmp_path):
    """A link stays a link, and a file that is replaced keeps its mode."""
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "old.npy").write_bytes(b"old")
    (tmp_path / "there" / "old.npy").chmod(0o640)
    (tmp_path / "m.npy").symlink_to("there/old.npy")
    (tmp_path / "m.svg").symlink_to("there/new.svg")
    done = kullback_command("embed", "x.npy", "-o", "m.npy", "--plot", "m.svg", *SMALL)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "m.npy").is_symlink()
    assert (tmp_path / "m.svg").is_symlink()
    assert np.load(tmp_path / "there" / "old.npy").shape == (60, 2)
    assert (tmp_path / "there" / "old.npy").stat().st_mode & 0o777 == 0o640
    assert sorted(path.name for path in (tmp_path / "there").iterdir()) == ["new.svg", "old.npy"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are of POSIX")
def test_pipes_and_devices_are_written_to(tmp_path):
    """They are not replaced by a file."""
    import threading

    from kullback._outputs import write_file

    os.mkfifo(tmp_path / "pipe")
    received = []
    reader = threading.Thread(target=lambda: received.append((tmp_path / "pipe").read_bytes()))
    reader.start()
    write_file(tmp_path / "pipe", lambda file: np.save(file, np.arange(3)))
    reader.join(30)
    assert (tmp_path / "pipe").is_fifo()
    assert received[0].startswith(b"\x93NUMPY")
    (tmp_path / "null").symlink_to(os.devnull)
    write_file(tmp_path / "null", lambda file: file.write(b"lost"))
    assert (tmp_path / "null").is_symlink()
    assert (tmp_path / "null").is_char_device()


def test_help_and_version(kullback_command):
    """The version and the help go to standard output."""
    import kullback

    assert kullback_command("--version").stdout == f"kullback {kullback.__version__}\n"
    assert "embed" in kullback_command("--help").stdout
    assert "--perplexity" in kullback_command("embed", "--help").stdout
