# `make demo` and `make test` do all the set-up themselves: a virtual environment in .venv,
# filled by uv (fetched with pip into .tools), or by pip alone where uv can't be had.
PY ?= python3
UV := .tools/bin/uv
BIN := .venv/bin
# Test files that run at a time.
WORKERS ?= 2
# A file stays whole: its tests share kernels and runtimes. xdist would start with the files that
# have most tests; tests/ordering.py puts those first that take longest.
PYTEST := $(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile
# What starts no browser, no Jupyter kernel and no session of its own for a test.
FAST := tests/containment tests/service tests/execution/test_decoder.py \
	tests/execution/test_javascript_rewrite.py tests/exchange/test_tables.py tests/test_config.py \
	tests/verbs/test_hints.py tests/test_javascript.py tests/test_kernelspec.py \
	tests/exchange/test_local_files.py tests/test_threads.py
# An interpreter is never downloaded: the one that `PY` names is used.
export UV_PYTHON_DOWNLOADS = never
# Every process that starts reads the compiled files: a sandbox can't write its own.
export UV_COMPILE_BYTECODE = 1
# In a container, root is who runs this: no warning about it.
export PIP_ROOT_USER_ACTION = ignore

.PHONY: setup demo lab notebooks test test-fast test-all test-gallery lint check bench docs constraints pictures clean help

help:
	@echo "make demo      run notebooks/01-first-steps.ipynb in a sandbox; the result is in build/demo/"
	@echo "make lab       open JupyterLab with the AgentBay kernels and the notebooks"
	@echo "make notebooks execute all notebooks and store their outputs in them"
	@echo "make test      the checks and the tests: what decides whether a change lands"
	@echo "make check     format, lint, types, imports, spelling, terms and links of the docs"
	@echo "make test-fast the tests that start no browser and no Jupyter kernel"
	@echo "make test-all  the same as make test, with the slow tests"
	@echo "make test-gallery  show charts of all libraries in all readers; writes tests/gallery/README.md"
	@echo "make bench     run the benchmarks"
	@echo "make docs      build the documentation; it is in build/docs/"
	@echo "make constraints write the versions of this environment into constraints.txt"
	@echo "make pictures  take the documentation's pictures again, into docs/images/"
	@echo "make clean     remove what these commands made"

.venv/.ok: pyproject.toml $(wildcard kernelspec/*/*)
	@$(PY) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed: make PY=/path/to/python3.11 ..."; exit 1; }
	@echo "Setting up .venv, once. This may take a minute."
	@test -x $(UV) \
		|| $(PY) -m pip install -q --disable-pip-version-check --no-cache-dir --target .tools uv \
		|| true
	@{ test -x $(UV) \
		&& $(UV) venv -q --clear --seed --python "$$($(PY) -c 'import sys; print(sys.executable)')" .venv \
		&& $(UV) pip install -q --python $(BIN)/python -e '.[test]'; \
	} || { \
		echo "uv could not do it here; pip takes over, which takes about a minute."; \
		$(PY) -m venv --clear .venv \
		&& $(BIN)/python -m pip install -q --disable-pip-version-check -e '.[test]'; \
	}
	@# A test needs nbgrader; its buttons are not wanted in the JupyterLab of `make lab`.
	@mkdir -p .venv/etc/jupyter/labconfig
	@echo '{"disabledExtensions": {"@jupyter/nbgrader": true, "@jupyter-notebook/lab-extension": true}}' \
		> .venv/etc/jupyter/labconfig/page_config.json
	@touch $@

setup: .venv/.ok

demo: setup
	@$(BIN)/python notebooks/run_demo.py

lab: setup
	@$(BIN)/python notebooks/open_lab.py

notebooks: setup
	@$(BIN)/python notebooks/store_outputs.py

# Lint, format, types, directions of imports, spelling; our terms, names and links of the docs are
# in tests/docs.
lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy docs/conf.py docs/reference.py
	$(BIN)/lint-imports --no-logo
	$(BIN)/codespell *.md Makefile docs/*.md docs/*/*.md notebooks binder benchmarks agentbay_kernel

check: lint
	$(BIN)/python -m pytest -q tests/docs/test_names.py tests/docs/test_words.py \
		tests/docs/test_docs.py tests/docs/test_python_api.py

test: lint
	@$(BIN)/python -m compileall -q agentbay_kernel
	$(PYTEST) --durations=20

test-fast: setup
	$(PYTEST) $(FAST) --ignore tests/containment/test_charts.py \
		--ignore tests/containment/test_hostile_sizes.py --ignore tests/service/test_fuzz.py

test-all: lint
	$(PYTEST) --durations=20 -m "not gallery"

# The extra goes into .venv, where the local runtime's sandboxes find it; pictures into
# build/gallery/.
test-gallery: setup
	@if test -x $(UV); then $(UV) pip install -q --python $(BIN)/python -e '.[gallery]'; \
	else $(BIN)/python -m pip install -q --disable-pip-version-check -e '.[gallery]'; fi
	GALLERY_DOCS=1 $(BIN)/python -m pytest -q tests/gallery -m gallery

bench: setup
	$(BIN)/python -m benchmarks

docs: setup
	@$(BIN)/python docs/reference.py
	$(BIN)/python -m sphinx -q -W --keep-going -n docs build/docs
	@echo "build/docs/index.html"

# What the image is built with: the versions that the tests pass with.
constraints: setup
	$(BIN)/python binder/constraints.py > constraints.txt.new
	mv constraints.txt.new constraints.txt

pictures: setup
	PICTURES=docs/images $(BIN)/python -m pytest -q -m '' tests/browser/test_pictures.py

clean:
	rm -rf .venv .tools build dist docs/course docs/measurements .mypy_cache .pytest_cache .ruff_cache
