"""What type checkers and editors know of the public names."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import kullback

USES = Path(__file__).with_name("uses_of_types.py")


def expected_errors():
    """Return the mypy code of each line of the file of uses that is wrong."""
    lines = enumerate(USES.read_text().splitlines(), 1)
    return {number: found[1] for number, line in lines if (found := re.search(r"# error \[([a-z-]+)\]$", line))}


def test_mypy_tells_right_uses_from_wrong_ones(tmp_path):
    """Under ``--strict``, each line that is marked has the error it names, and no other line has any."""
    pytest.importorskip("mypy")
    environment = dict(os.environ)
    source = Path(kullback.__file__).parents[1]
    if source.name != "site-packages":  # mypy finds an installed package by itself and refuses to be told
        environment["MYPYPATH"] = str(source)
    command = [
        sys.executable, "-m", "mypy", "--strict", "--config-file=", f"--cache-dir={tmp_path}",
        "--ignore-missing-imports", "--no-error-summary", "--hide-error-context", str(USES),
    ]  # fmt: skip
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500, check=False)
    assert not done.stderr, done.stderr
    expected, found = expected_errors(), {}
    for line in done.stdout.splitlines():
        error = re.match(r".*?:(\d+): error: (.*)\[([a-z-]+)\]$", line)
        if error:
            found.setdefault(int(error[1]), set()).add(error[3])
            assert Path(line.split(":")[0]).name == USES.name, line
    assert expected
    assert found == {number: {code} for number, code in expected.items()}, done.stdout
