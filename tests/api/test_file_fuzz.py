"""A few mutations of a valid file of each format; `devel/fuzz_readers.py` tries ten thousand."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))  # it holds what devel/fuzz_readers.py shares

import file_mutations

LIBRARIES = {"parquet": "pyarrow.parquet", "hdf5": "h5py", "zarr": "zarr", "safetensors": "safetensors.numpy"}


@pytest.mark.parametrize("name", file_mutations.FORMATS)
def test_damage_is_refused_or_harmless(tmp_path, monkeypatch, name):
    """Errors name the file in one line, no pickle is opened, and what has a checksum is not read as something else."""
    monkeypatch.chdir(tmp_path)
    for word, library in LIBRARIES.items():
        if word in name:
            pytest.importorskip(library)
    fuzz = file_mutations.Fuzz(name)
    accepted = 0
    for seed in range(25):
        fuzz.write(seed)
        accepted += fuzz.check()
    assert accepted < 25


def test_damaged_statistics_of_parquet(tmp_path):
    """Where it is asked for the metadata of such a column, pyarrow 26 ends the process."""
    pytest.importorskip("pyarrow.parquet")
    command = "parquet on the command line"
    code = (
        f"import os, sys; sys.path.append({os.path.dirname(__file__)!r}); import file_mutations; "
        f"os.chdir({str(tmp_path)!r}); fuzz = file_mutations.Fuzz({command!r}); fuzz.write(16825); fuzz.check()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
