# The front door: each recipe is a line you can paste.
PYTHON ?= python3

# One after the other, also with -j: the tests and the benchmark need the machine for themselves.
.NOTPARALLEL:
.PHONY: help run test check integration browser compliance compliance-full fuzz fuzz-quick soak docs bench bench-attacks bench-check bench-fanout bench-memory bench-redis bench-targets format clean

help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: .venv/.run ## start the server; ARGS="-p 9001 -f my_filter" are its options
	.venv/bin/fws_server $(ARGS)

test: system-packages check integration browser compliance fuzz-quick docs ## everything that has to pass

check: .venv/.dev ## format, lint, imports, types and unit tests: no Redis, no browser
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/lint-imports
	.venv/bin/mypy
	.venv/bin/pyright --pythonpath .venv/bin/python
	.venv/bin/pytest tests/unit tests/fuzz
	.venv/bin/pytest examples

integration: .venv/.dev ## real sockets, real servers
	.venv/bin/pytest tests/integration

browser: .venv/.dev ## the pages, in Chromium
	.venv/bin/pytest tests/browser

compliance: .venv/.run build/autobahn/.built ## the Autobahn test suite, in part; ARGS="7.1.2 9" for these cases
	.venv/bin/python -m tests.compliance $(ARGS)

compliance-full: .venv/.run build/autobahn/.built ## all its 517 cases: about eight minutes
	.venv/bin/python -m tests.compliance --full $(ARGS)

fuzz: .venv/.fuzz ## look for inputs that break the wire, for a minute; ARGS="frames --seconds 600"
	.venv/bin/python -m tests.fuzz $(ARGS)

fuzz-quick: .venv/.fuzz ## the same for five seconds
	.venv/bin/python -m tests.fuzz --seconds 5

soak: .venv/.dev ## good and hostile clients for ten minutes, then nothing may be left; ARGS="--minutes 1"
	.venv/bin/python -m tests.soak $(ARGS)

docs: .venv/.dev ## the manual, in build/docs
	.venv/bin/sphinx-build -W -n --keep-going docs build/docs

bench: .venv/.bench ## the race against other servers: table, CSV, plot; ARGS="-t 0.3 --rounds 1"
	.venv/bin/python bench/race.py $(ARGS)

bench-fanout: .venv/.run ## the fan-out path alone, without sockets; ARGS="sixty echo" for some scenarios
	.venv/bin/python bench/fanout.py $(ARGS)

bench-check: .venv/.run ## has it become slower? instructions against stored ones; ARGS=--store renews these
	.venv/bin/python bench/check.py $(ARGS)

bench-attacks: .venv/.run ## what attacks cost the other clients; ARGS="-t 1 --rounds 1 pings TLS" for some
	.venv/bin/python bench/attack_race.py $(ARGS)

bench-memory: .venv/.run ## what an idle connection consists of; ARGS="--browser", "--tls -n 1000", "--lines"
	.venv/bin/python bench/memory.py $(ARGS)

bench-redis: .venv/.run ## what Redis costs: items, latency, two servers as one; ARGS as above
	.venv/bin/python bench/redis_race.py $(ARGS)

bench-targets: .venv/.run ## all figures that have a target; ARGS="-t 1 --rounds 1 echo TLS" for some
	.venv/bin/python bench/targets.py $(ARGS)

format: .venv/.dev ## let ruff format the code and sort the imports
	.venv/bin/ruff check --select I --fix .
	.venv/bin/ruff format .

clean: ## remove all that make has built, .venv too
	rm -rf .venv build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -prune -exec rm -rf {} +

.PHONY: system-packages
system-packages:
	@PYTHON="$(PYTHON)" scripts/system-packages

# The stamps are written last: an environment whose building was interrupted has none, and is built anew.
.venv/.run: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("filtered_websocket needs Python 3.11 or later and %s is %d.%d; name another one: make PYTHON=python3.11" % ("$(PYTHON)", sys.version_info[0], sys.version_info[1]))'
	$(PYTHON) -m venv --clear .venv
	.venv/bin/python -m pip install --quiet --editable .
	@touch $@

.venv/.dev: .venv/.run
	.venv/bin/python -m pip install --quiet --editable '.[dev]'
	@touch $@

.venv/.fuzz: .venv/.dev
	.venv/bin/python -m pip install --quiet --editable '.[fuzz]'
	@touch $@

.venv/.bench: .venv/.run
	.venv/bin/python -m pip install --quiet --editable '.[bench]'
	@touch $@

# Its packages are of a certain age, so no Python beyond 3.13 has wheels of them.
SUITE := tests/compliance/suite
build/autobahn/.built: $(SUITE)/requirements.txt $(SUITE)/port.py $(SUITE)/py2str.py
	@$(PYTHON) -c 'import sys; (3, 11) <= sys.version_info < (3, 14) or sys.exit("the Autobahn test suite needs Python 3.11, 3.12 or 3.13 and %s is %d.%d; name another one: make compliance PYTHON=python3.11" % ("$(PYTHON)", sys.version_info[0], sys.version_info[1]))'
	$(PYTHON) -m venv --clear build/autobahn
	build/autobahn/bin/python -m pip install --quiet setuptools==80.9.0 wheel==0.45.1
	build/autobahn/bin/python -m pip install --quiet --no-deps --no-build-isolation --requirement $(SUITE)/requirements.txt
	build/autobahn/bin/python $(SUITE)/port.py
	@touch $@
