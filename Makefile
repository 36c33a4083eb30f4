# Everything installs into .venv by itself; a second call reuses it.
PYTHON ?= python3
VENV := .venv
INSTALLED := $(VENV)/installed

.PHONY: demo test test-long test-gpu lint benchmarks clean

demo: $(INSTALLED)
	$(VENV)/bin/mtlcluster submit configs/demo.yaml --cluster local --wait
	$(VENV)/bin/mtlcluster collect demo

test: $(INSTALLED)
	$(VENV)/bin/python -m pytest

test-long: $(INSTALLED)
	$(VENV)/bin/python -m pytest -m long

test-gpu: $(INSTALLED)
	$(VENV)/bin/python -m pytest -m gpu

lint: $(INSTALLED)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

benchmarks: $(INSTALLED)
	for file in tests/benchmarks/*.py; do echo "== $$file"; $(VENV)/bin/python $$file || exit 1; done

$(INSTALLED): setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	touch $@

clean:
	rm -rf $(VENV)
