# make demo: set up, then run the main job end to end (demo/report.html)
# make test: set up, then run the checks and the tests
# make docs: set up, then write the documentation as a site (build/site/index.html)
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin
INSTALL := $(RUN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test docs lint slow clean

demo: $(VENV)/.installed
	$(RUN)/gffnet demo --out demo

test: lint
	PYTHONDONTWRITEBYTECODE= $(RUN)/python -m pytest --numprocesses auto --dist worksteal

docs: $(VENV)/.installed-dev
	NO_MKDOCS_2_WARNING=1 $(RUN)/mkdocs build
	@echo "open build/site/index.html"

lint: $(VENV)/.installed-dev
	$(RUN)/ruff check
	$(RUN)/ruff format --check
	$(RUN)/mypy

slow: $(VENV)/.installed-dev
	CHECK_SHAPES=all $(RUN)/python -m pytest -m slow

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "gffnet needs Python 3.11 or newer; name one: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(INSTALL) --editable '.[imagenet]'
	touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(INSTALL) --editable '.[dev,imagenet]'
	$(INSTALL) --no-deps cityscapesscripts # for its labels and its scorer, which need one of its dependencies
	touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV) demo build dist src/*.egg-info
