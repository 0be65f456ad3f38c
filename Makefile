.PHONY: help setup demo test check lock clean

help:
	@echo "make demo    set up, run recipes/movielens-100k.toml, serve it, query it, benchmark it"
	@echo "make test    set up and run all tests"
	@echo "make check   lint, format, types, import layers"
	@echo "make lock    resolve requirements/*.txt anew"
	@echo "make clean   remove the environments and runs/"

setup:
	@requirements/setup.sh

demo: setup
	@.venv/bin/retrieval demo recipes/movielens-100k.toml

test: setup
	@.venv/bin/python -m pytest -n 2 --dist loadfile $(PYTEST)

check: setup
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports

# No index addresses in the locks: names, versions and hashes only.
LOCK = .venv/bin/uv pip compile --quiet --universal --python-version 3.10 --generate-hashes --no-emit-index-url --no-header
EXTRAS = train peers tune benchmarks serve triton dev
lock: setup
	$(LOCK) pyproject.toml $(foreach extra,$(EXTRAS),--extra $(extra)) -o requirements/lock.txt
	$(LOCK) requirements/serve.in -o requirements/serve.txt

clean:
	rm -rf .venv .venv-serve runs
