# Everything happens in .venv; a fresh machine needs only Python 3.11+, a C compiler and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq
SOURCES := pyproject.toml setup.py README.md LICENSE $(shell find ext src -name '*.py' -o -name '*.py[xi]' -o -name '*.pxd' -o -name '*.h')

.PHONY: demo test lint bench wheel clean
.SILENT:
.DELETE_ON_ERROR:

# The demo needs the best level only, and takes the levels of an earlier `make test` if they are there.
demo: $(firstword $(wildcard $(VENV)/installed-native) $(VENV)/installed-best)
	$(PIP) install 'matplotlib>=3.7'
	$(BIN)/kullback embed digits -o digits.npy --plot digits.png

test: $(VENV)/installed-native $(VENV)/group-test
	$(BIN)/python -m pytest -q $(ARGS)

lint: $(VENV)/installed-native $(VENV)/group-test $(VENV)/group-lint
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/python devel/check_house.py

bench: $(VENV)/installed-native $(VENV)/group-bench
	$(BIN)/python -m pytest -q bench --benchmark-enable --full $(ARGS)

wheel: export KULLBACK_LEVELS ?= all
wheel: $(VENV)/group-build
	$(BIN)/python setup.py -q build_ext
	$(PIP) wheel --no-deps --no-build-isolation --wheel-dir dist .
	ls dist/*.whl

clean:
	rm -rf $(VENV) $(VENV)-* build dist src/*.egg-info .pytest_cache .hypothesis .benchmarks .mypy_cache .ruff_cache
	find src -name '*.so' -delete
	rm -f digits.npy digits.png
	find src tests bench -name __pycache__ -type d -prune -exec rm -rf {} +

# pip knows dependency groups since 25.1
$(VENV)/pip:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "kullback needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --upgrade 'pip>=25.1'
	touch $@

# setup.py says what it compiles, so it runs by itself before pip, which would be silent; pip finds the work done.
$(VENV)/installed-%: export KULLBACK_LEVELS ?= $*
$(VENV)/installed-%: $(SOURCES) | $(VENV)/group-build
	$(BIN)/python setup.py -q build_ext
	$(PIP) install --no-build-isolation --upgrade .
	rm -f $(VENV)/installed-*
	touch $@

$(VENV)/group-%: pyproject.toml $(VENV)/pip
	$(PIP) install --group $*
	touch $@

sdist: $(VENV)/group-build
	rm -f dist/*.tar.gz
	$(BIN)/python setup.py -q sdist

# Each of these installs from an sdist into an environment of its own and runs the sdist's tests there, away from the
# sources: with the lowest versions that pyproject.toml allows, with the newest that there are, and with kernels of one
# level that gcc's sanitizers of addresses and undefined behaviour watch. Tests of builds and of types are left out
# there, because they run none of these kernels.
# The last runs no tests: Python threads share kernels that ThreadSanitizer watches. Those have no OpenMP, whose locks
# it would not see. It needs addresses that are not drawn at random.
VARIANTS := test-oldest test-newest sanitize sanitize-threads
.PHONY: sdist $(VARIANTS)

CHECK := -m pytest -q
# A sanitizer looks for the function that throws when a process starts, and Python itself has no C++.
PRELOAD = LD_PRELOAD="$$($(CC) -print-file-name=$(1)) libstdc++.so.6"
INSTRUMENTED := -O1 -g -fno-omit-frame-pointer
test-oldest: PINS := $(BIN)/python devel/minimum_versions.py
sanitize sanitize-threads: export KULLBACK_LEVELS ?= best
sanitize: export CFLAGS := $(INSTRUMENTED) -fsanitize=address,undefined,float-cast-overflow
sanitize: UNDER = $(call PRELOAD,libasan.so) ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
sanitize: CHECK += --ignore tests/build --ignore tests/api/test_typing.py
sanitize-threads: export CFLAGS := $(INSTRUMENTED) -fsanitize=thread -fno-openmp
sanitize-threads: UNDER = $(call PRELOAD,libtsan.so) TSAN_OPTIONS=suppressions=../../devel/tsan.supp OMP_NUM_THREADS=1 \
    OPENBLAS_NUM_THREADS=1 setarch -R
sanitize-threads: CHECK := ../../devel/stress_threads.py
$(VARIANTS): sdist
	rm -rf $(VENV)-$@ build/$@
	mkdir -p build/$@
	tar -xzf dist/kullback-*.tar.gz -C build/$@ --strip-components=1
	$(PINS) > build/$@/constraints.txt
	$(PYTHON) -m venv $(VENV)-$@
	$(VENV)-$@/bin/python -m pip install -qq --upgrade 'pip>=25.1'
	cd build/$@ && ../../$(VENV)-$@/bin/python -m pip install -qq -c constraints.txt --group build --group test
	cd build/$@ && ../../$(VENV)-$@/bin/python -m pip install -qq -c constraints.txt --no-build-isolation .
	cd build/$@ && $(UNDER) ../../$(VENV)-$@/bin/python $(CHECK) $(ARGS)
