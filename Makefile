# `make` alone says what there is. Every target installs what it needs, once; config and .ci hold the scripts.
PYTHON := .venv/bin/python

help: ## this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

demo: ## a hub with a sample project on this machine, until Ctrl-C
	@exec config/demo/run

test: ## every test, with the time of each suite; ARGS="-k name" chooses
	@exec .ci/test $(ARGS)

bench: ## the speed ratios, as a table and in build/bench.json
	@.ci/docker-up && .ci/python-env && .ci/node-proxy && config/base-image/make-base
	@exec $(PYTHON) -m tests.bench $(ARGS)

lint: ## ruff and mypy
	@.ci/python-env
	$(PYTHON) -m ruff check .
	$(PYTHON) -m mypy hubdock

docs: ## the reference pages, made anew from the code
	@.ci/python-env
	@$(PYTHON) -m hubdock.docs

pictures: ## the screenshots of the documentation, made anew by the browser tests
	@rm -rf build/pictures
	@HUBDOCK_PICTURES=build/pictures .ci/test tests/browser/test_look.py tests/browser/test_first_page.py -k "read_by_all or login_to_jupyterlab"
	cd build/pictures && cp choose.png watch.png board.png compare.png lab.png ../../docs/images/

base: ## the base image for a network without a container registry
	@.ci/docker-up && .ci/python-env
	@exec config/base-image/make-base

clean: ## remove the demo's state, the work done in it, and what tests and tools leave; keep .venv, node_modules and images
	@if [ -d .demo ]; then $(PYTHON) -m config.demo --clean; fi
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

.PHONY: help demo test bench lint docs pictures base clean
