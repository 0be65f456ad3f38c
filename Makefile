# Else every process of the tests would compile our sources, and pytest its own of them, from the beginning.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup demo explore test test-fast benchmarks-smoke faults test-versions test-horovod check lock audit images docs clean

help:
	@echo "make demo    set up, run recipes/movielens-100k.toml, serve it, query it, benchmark it"
	@echo "make explore look at that run in the browser"
	@echo "make test    set up and run all tests"
	@echo "make test-fast    the tests that train nothing and start no server (two minutes)"
	@echo "make test-versions   tests with the oldest and the newest versions that serving admits, and with those of the images"
	@echo "make test-horovod    build Horovod and train on two ranks (ten minutes the first time)"
	@echo "make benchmarks-smoke    run every benchmark for seconds, with little data (three minutes)"
	@echo "make faults  break a real server, a real disk, a real run, and count what is lost (an hour; FAULTS=--quick: minutes)"
	@echo "make check   lint, format, types, import layers"
	@echo "make audit   compare the locks with known advisories (AUDIT=--offline: with requirements/advisories.toml alone)"
	@echo "make docs    build the pages of docs/ into build/site"
	@echo "make images  build the images of containers/ (needs docker)"
	@echo "make lock    write the locks, requirements/*.txt and containers/*.txt"
	@echo "make clean   remove the environments and runs/"

setup:
	@requirements/setup.sh

demo: setup
	@.venv/bin/retrieval demo recipes/movielens-100k.toml

explore: setup
	@.venv/bin/retrieval explore runs/movielens-100k

# Three workers for two cores, as tests wait for servers; file by file, the longest first (tests/conftest.py).
PARALLEL = -n 3 --dist loadfile --no-loadscope-reorder

test: setup
	@.venv/bin/python -m pytest $(PARALLEL) $(PYTEST)

test-fast: setup
	@.venv/bin/python -m pytest $(PARALLEL) -m "not slow" $(PYTEST)

# See docs/containers.md.
test-versions: setup
	@containers/test-versions.sh $(PYTEST)

# See docs/scale.md.
test-horovod: setup
	@containers/test-horovod.sh $(PYTEST)

benchmarks-smoke: setup
	@.venv/bin/python -m benchmarks.smoke

faults: setup
	@.venv/bin/python -m benchmarks.faults $(FAULTS)

check: setup
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports

# No index addresses in the locks: names, versions and hashes only. What a lock holds stays unless the requirements rule it
# out, or UPGRADE says so: make lock UPGRADE=--upgrade, or UPGRADE='--upgrade-package onnxruntime'.
COMPILE = .venv/bin/uv pip compile --quiet $(UPGRADE) --generate-hashes --no-emit-index-url --no-header
LOCK = $(COMPILE) --universal --python-version 3.10
IMAGE_LOCK = $(COMPILE) --python-platform x86_64-manylinux_2_34 --python-version
EXTRAS = train peers explore tune dashboard mlflow engines benchmarks serve triton dev
lock: setup
	$(LOCK) pyproject.toml $(foreach extra,$(EXTRAS),--extra $(extra)) -o requirements/lock.txt
	$(LOCK) requirements/serve.in -o requirements/serve.txt
	$(LOCK) requirements/tools.in -o requirements/tools.txt
	$(IMAGE_LOCK) 3.10 containers/ngc.in -o containers/ngc.txt
	$(IMAGE_LOCK) 3.12 --no-deps containers/serve.in -o containers/serve.txt
	$(IMAGE_LOCK) 3.12 --constraint containers/serve.txt containers/serve-tests.in -o containers/serve-tests.txt

# See docs/security.md, "Advisories".
audit: setup
	@.venv/bin/python requirements/audit.py $(AUDIT)

docs: setup
	@.venv-tools/bin/mkdocs build --quiet

IMAGE_ARGUMENTS = $(shell sed -n 's/^\([A-Z]*_IMAGE\)=/--build-arg \1=/p' containers/versions.env)
VERSION = $(shell sed -n 's/^VERSION=//p' containers/versions.env)
images:
	docker build $(IMAGE_ARGUMENTS) -f containers/train.Dockerfile -t merlin-retrieval-train:$(VERSION) .
	docker build $(IMAGE_ARGUMENTS) -f containers/serve.Dockerfile -t merlin-retrieval-serve:$(VERSION) .

clean:
	rm -rf .venv .venv-serve .venv-tools .venv-ngc .venv-horovod .venv-serve-image .venv-oldest .venv-newest-* build runs
