# make demo: set up, then run the main job end to end (demo/report.html)
# make test: set up, then run the checks and the tests
# make docs: set up, then write the documentation as a site (build/site/index.html)
# make model CAMVID=data/camvid: train the model that ships as it was trained, and pack it into build/camvid_gffnet_lite0
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin
CAMVID ?= data/camvid
MODEL := camvid/long/gffnet_lite0
INSTALL := $(RUN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test docs model lint slow clean

demo: $(VENV)/.installed
	$(RUN)/gffnet demo --out demo

test: lint
	PYTHONDONTWRITEBYTECODE= $(RUN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder

docs: $(VENV)/.installed-dev
	NO_MKDOCS_2_WARNING=1 $(RUN)/mkdocs build
	@echo "open build/site/index.html"

model: $(VENV)/.installed
	$(RUN)/gffnet train $(MODEL) --root $(CAMVID) --out runs/$(MODEL) --resume
	$(RUN)/gffnet evaluate --model runs/$(MODEL) --dataset camvid --root $(CAMVID) --out runs/$(MODEL)/scores
	$(RUN)/gffnet publish runs/$(MODEL) --out build/camvid_gffnet_lite0 --weights float16 --license cc-by-nc-4.0

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
