# Everything happens in .venv; a fresh machine needs only Python 3.11+, a C compiler and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq
SOURCES := pyproject.toml setup.py README.md LICENSE $(shell find ext src -name '*.py' -o -name '*.py[xi]' -o -name '*.pxd')

.PHONY: demo test lint bench wheel clean
.SILENT:
.DELETE_ON_ERROR:

demo: $(VENV)/installed
	$(PIP) install 'matplotlib>=3.7'
	$(BIN)/kullback embed digits -o digits.npy --plot digits.png

test: $(VENV)/installed $(VENV)/group-test
	$(BIN)/python -m pytest -q $(ARGS)

lint: $(VENV)/installed $(VENV)/group-test $(VENV)/group-lint
	$(BIN)/ruff check
	$(BIN)/mypy

bench: $(VENV)/installed $(VENV)/group-bench
	$(BIN)/python -m pytest -q bench --benchmark-enable --full $(ARGS)

wheel: $(VENV)/pip
	$(PIP) wheel --no-deps --wheel-dir dist .
	ls dist/*.whl

clean:
	rm -rf $(VENV) build dist src/*.egg-info .pytest_cache .hypothesis .benchmarks .mypy_cache .ruff_cache
	rm -f src/kullback/_kernels/*.so digits.npy digits.png
	find src tests bench -name __pycache__ -type d -prune -exec rm -rf {} +

# pip knows dependency groups since 25.1
$(VENV)/pip:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "kullback needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --upgrade 'pip>=25.1'
	touch $@

# build from nothing: setuptools would keep kernels whose source is gone or whose flags have changed
$(VENV)/installed: $(VENV)/pip $(SOURCES)
	echo 'Compiling the kernels and installing them in $(VENV): about two minutes ...'
	rm -rf build src/*.egg-info
	$(PIP) install --upgrade .
	touch $@

$(VENV)/group-%: pyproject.toml $(VENV)/pip
	$(PIP) install --group $*
	touch $@
