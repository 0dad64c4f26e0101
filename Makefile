# Every target sets up what it needs by itself: a virtual environment in .venv with the locked versions.
PYTHON ?= python3
# Whether the user has named a Python: then an environment of another one is built again.
GIVEN := $(if $(filter file,$(origin PYTHON)),,--given)
# pip refuses to install outside of a virtual environment.
export PIP_REQUIRE_VIRTUALENV := 1
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Bytecode is kept: tests start some hundred processes.
export PYTHONDONTWRITEBYTECODE :=
# What `make helm` gets.
export PATH := $(CURDIR)/.cache/kube/bin:$(PATH)

HELM := .cache/kube/bin/helm
COMPILED := .cache/compiled
# The documentation's site and its own environment, which nothing else needs.
DOCS := .cache/docs
MKDOCS := NO_MKDOCS_2_WARNING=1 $(DOCS)/env/bin/mkdocs
# With a safe path nothing is imported from where a process runs, so the compiled bbr comes before the checkout's.
WITH_COMPILED := PYTHONSAFEPATH=1 PYTHONPATH=$(CURDIR)/$(COMPILED):$(CURDIR)
# Another CPython 3.11 for the benchmarks, in an environment of its own: docs/design/compiling.md tells why.
BENCH_ENV := $(if $(PYTHON_BENCH),.cache/bench-env$(subst /,-,$(PYTHON_BENCH)))
BENCH_BIN := $(if $(PYTHON_BENCH),$(BENCH_ENV)/bin,$(BIN))

# The tests of one file stay together: they share what they start. More workers than processors, since many tests wait.
# Files go in order, so that the longest ones, which start gateways, do not come last.
WORKERS ?= 4
AT_ONCE = --numprocesses=$(WORKERS) --dist=loadfile --no-loadscope-reorder --max-worker-restart=0
# Tests in tests/integration that start `bbr` or Python as a process, and no gateway.
PROCESSES := $(addprefix tests/integration/test_,allocator.py command_line.py loading.py server.py)
# What `make cover` measures: together they reach all that must be reached, by examples that are always the same (CI).
COVERING := tests/unit tests/conformance/http2 tests/conformance/ext_proc tests/parity/test_transports.py $(PROCESSES)
MEASURED := CI=1 COVERED_TESTS="$(COVERING)"
QUICK_SUITES := tests/unit tests/conformance tests/property
# What the gate runs on the compiled build: all but what tries benchmarks, texts and what is deployed. Of the tests with
# an Envoy it leaves out those of parts that are not compiled (the doctor, the page in a browser, the sources), and those
# of what gateways and other people's clients make of the same answers: the others send the same requests.
NOT_COMPILED := $(addprefix tests/integration/test_,anthropic_client.py chart_in_envoy.py completion.py discovery.py \
  doctor.py doctor_facts.py event_streams.py live_models.py openai_client.py policies.py providers.py status_page.py \
  vendors_clients.py)
CORE_SUITES := tests/unit tests/conformance tests/parity tests/property tests/fuzz \
  $(filter-out $(NOT_COMPILED),$(sort $(wildcard tests/integration/test_*.py)))

# What `make help` lists first, and how: at most 100 columns wide.
EVERYDAY := demo setup quick test check format docs docs-serve
define LIST_TARGETS
function show(name,  words, count, i, line) {
  count = split(says[name], words, " ")
  line = sprintf("  make %-15s", name)
  for (i = 1; i <= count; i++) {
    if (length(line) + length(words[i]) + 1 > 100) { print line; line = sprintf("%22s", "") }
    line = line " " words[i]
  }
  print line
}
/^[a-z-]+:.*## / { names[++total] = $$1; says[$$1] = $$2 }
END {
  print "Every day:"
  first = split(everyday, days, " ")
  for (n = 1; n <= first; n++) { show(days[n]); shown[days[n]] = 1 }
  print "\nMore:"
  for (n = 1; n <= total; n++) if (!(names[n] in shown)) show(names[n])
}
endef
export LIST_TARGETS

.DEFAULT_GOAL := help
.PHONY: help setup demo release-prepare release-check image image-test screenshots accuracy spoofing differential wire clients bench bench-guard bench-parts soak exchanges rolling hostile rogue abuse mutants dashboard histories go-parity helm manifests validate lab lab-test lab-core lab-down wheel compiled test test-compiled test-python cover covered quick check structure format protos reference lock clean

help:  ## list the targets
	@awk -F':.*## ' -v everyday="$(EVERYDAY)" "$$LIST_TARGETS" $(MAKEFILE_LIST)

setup: $(READY)  ## install the locked dependencies and bbr itself into .venv

# It is asked each time, and does nothing if the content of what it was built from is the same: deploy/environment.py.
$(READY): FORCE
	@$(PYTHON) deploy/environment.py dev $(GIVEN)

.PHONY: FORCE docs docs-serve
FORCE:

demo:  ## run the local Envoy stack and a tour of requests (ONCE=1: exit after the tour; FREE_PORTS=1: any free ports)
	@$(PYTHON) deploy/environment.py demo $(GIVEN) -- -m deploy.local.demo $(if $(ONCE),--once) $(if $(FREE_PORTS),--free-ports)

release-prepare: $(READY) $(HELM)  ## write VERSION into code, chart, guides and manifests, and begin its part of CHANGELOG.md (DATE=YYYY-MM-DD)
	@$(BIN)/python -m deploy.release.prepare $(or $(VERSION),"") $(if $(DATE),--date $(DATE))
	@$(BIN)/python -m deploy.render.manifests

# With the environment of tests beside its own: the sdist runs some of its tests.
release-check: $(READY) $(HELM)  ## build, try and compare what a release publishes, without a network service (COMPILE=1: the compiled wheel too)
	@COMPILE=$(COMPILE) $(PYTHON) deploy/environment.py release $(GIVEN) -- -m deploy.release.check

image:  ## build the router's image as IMAGE (bbr), with docker or buildah
	@deploy/image/build.sh $(or $(IMAGE),bbr)

image-test: $(READY)  ## build the image twice and run it, without an engine (needs root, buildah, debootstrap; else skipped)
	@$(BIN)/python -m tests.image.check

screenshots: $(READY)  ## take the pictures of the status page in docs/ again, in 6 minutes (needs chromium)
	@$(BIN)/python -m tests.dashboards.status_pictures

accuracy: $(READY)  ## send N (50000) mixed requests through Envoy, half in each mode, and verify each reply
	@$(BIN)/python -m bench.trials.accuracy --requests $(or $(N),50000)

differential: $(READY)  ## ask parsers in nine languages (those of them that are installed) about N (100000) requests
	@$(BIN)/python -m tests.differential.differ --count $(or $(N),100000) --seed $(or $(SEED),1)

wire: $(READY)  ## compare our reader of ext_proc messages with protobuf, on N (1000000) messages
	@$(BIN)/python -m tests.differential.messages --count $(or $(N),1000000) --seed $(or $(SEED),1)

clients: $(READY)  ## install openai for Node, with which tests send requests (needs Node and npm; tests without it are skipped)
	@$(BIN)/python -m tests.differential.children

spoofing: $(READY)  ## attack the router through Envoy with N (20000) requests that try to choose their own route
	@$(BIN)/python -m bench.trials.spoofing --requests $(or $(N),20000)

bench: $(COMPILED)/.ready $(if $(PYTHON_BENCH),$(BENCH_ENV)/.ready)  ## measure all that docs/performance.md publishes, in 20 minutes, and write that page (QUICK=1: 2 minutes, writes nothing; PYTHON_BENCH=/path/to/python3.11: on that Python)
	$(WITH_COMPILED) $(BENCH_BIN)/python -m bench.published.suite $(if $(QUICK),--quick)
	$(if $(QUICK),,$(BIN)/python -m bench.render.report --write)

ifdef PYTHON_BENCH
$(BENCH_ENV)/.ready: requirements-dev.lock | $(READY)
	$(BIN)/uv venv --quiet --clear --no-project --python $(PYTHON_BENCH) $(BENCH_ENV)
	$(BIN)/uv pip install --quiet --python $(BENCH_ENV)/bin/python --require-hashes --requirement requirements-dev.lock
	@touch $@
endif

bench-guard: $(COMPILED)/.ready  ## compare the cost of uv relative to grpcio with the committed figures, and name what became worse by 15% (ROUNDS=3)
	@$(WITH_COMPILED) $(BIN)/python -m bench.published.guard --rounds $(or $(ROUNDS),3)

bench-parts: $(READY)  ## measure long bodies, the table, start, scrapes and the cluster's source; figures in .cache/bench (ROUNDS=5)
	@mkdir -p .cache/bench
	$(BIN)/python -m bench.parts.growth --rounds $(or $(ROUNDS),5) --json .cache/bench/growth.json
	$(BIN)/python -m bench.parts.bodies --rounds $(or $(ROUNDS),5) --json .cache/bench/bodies.json
	$(BIN)/python -m bench.parts.table --rounds $(or $(ROUNDS),5) --json .cache/bench/table.json
	$(BIN)/python -m bench.parts.start --json .cache/bench/start.json
	$(BIN)/python -m bench.parts.scrape --rounds $(or $(ROUNDS),5) --json .cache/bench/scrape.json
	$(BIN)/python -m bench.parts.cluster --rounds $(or $(ROUNDS),5) --json .cache/bench/cluster.json

soak: $(READY)  ## SECONDS (900) of all kinds of requests, faults and disconnects at 70% of capacity: nothing fails, nothing leaks
	@$(BIN)/python -m bench.trials.soak --seconds $(or $(SECONDS),900)

exchanges: $(READY)  ## N (1000000) exchanges on one connection, twice: nothing is lost, memory does not grow
	@$(BIN)/python -m bench.trials.exchanges --exchanges $(or $(N),1000000)

hostile: $(READY)  ## attack a router behind Envoy in every known way: nobody else fails or waits, in 5 minutes (ROWS="A.1 C")
	@$(BIN)/python -m bench.trials.hostile --rounds $(or $(ROUNDS),2) $(if $(ROWS),--rows $(ROWS))

rolling: $(READY)  ## restart, kill and change two routers under load behind Envoy, SECONDS (60) each: nothing is lost
	@$(BIN)/python -m bench.trials.rolling --seconds $(or $(SECONDS),60)

rogue: $(READY)  ## measure the memory of a router whose peers make it hold as much as they can, and compare it with the bound
	@$(BIN)/python -m bench.trials.rogue

abuse: $(READY)  ## measure what each attack costs and compare it with its limit: on HTTP/2, by bad connections and objects, and all of hostile
	@$(BIN)/python -m bench.trials.abuse
	@$(BIN)/python -m bench.trials.hostile
	@$(BIN)/python -m bench.trials.bad_connections --rounds $(or $(ROUNDS),3)
	@$(BIN)/python -m bench.trials.sources --rounds $(or $(ROUNDS),3)

mutants: $(READY)  ## remove N (40) conditions from bbr/http2 and bbr/rpc, and list those whose removal no test notices
	@$(BIN)/python -m tests.mutants --count $(or $(N),40)

dashboard: $(READY)  ## write the Grafana dashboard again, and draw its panels from a run of two minutes (docs/dashboard.png)
	@$(BIN)/python -m deploy.dashboards.build
	@$(BIN)/python -m deploy.render.copies
	@$(BIN)/python -m tests.dashboards.picture

histories: $(READY)  ## N (10000) random steps of ConfigMaps and of an API server that fails: the table follows
	@BBR_HISTORY_STEPS=$(or $(N),10000) $(BIN)/python -m pytest --quiet -s tests/property/test_kubernetes_histories.py

helm: $(HELM)  ## install Helm 3, Helm 4 and kubectl in .cache/kube; the chart and its tests need them

$(HELM): deploy/render/tools.py | $(READY)
	@$(BIN)/python -m deploy.render.tools
	@touch $@

manifests: $(READY) $(HELM)  ## render deploy/manifests from the chart, and copy dashboard and alerts into the chart
	@$(BIN)/python -m deploy.render.copies
	@$(BIN)/python -m deploy.render.manifests

validate: $(READY) $(HELM)  ## render the chart and the manifests for every gateway, and check them against schemas and each other
	@$(BIN)/python -m deploy.render.validate

lab: $(READY) $(HELM)  ## run the chart with real neighbours, GATEWAY's controller in front (Linux, root; Go to build them once)
	@BBR_LAB_GATEWAY=$(GATEWAY) $(BIN)/python -m deploy.lab.lab up

lab-test: $(READY) $(HELM)  ## run tests/lab against a lab of their own, with GATEWAY those for it (ARGS="-k NAME": pytest's)
	@BBR_LAB_GATEWAY=$(GATEWAY) $(BIN)/python -m deploy.lab.lab test $(ARGS)

lab-core: $(READY) $(HELM)  ## run the shorter ones of tests/lab, if nothing has to be built for them
	@$(BIN)/python -m deploy.lab.lab core $(ARGS)

lab-down: $(READY)  ## end this checkout's labs, and remove what killed ones have left behind
	@$(BIN)/python -m deploy.lab.lab down

wheel: $(READY)  ## build both wheels into dist/, of Python alone and compiled (gcc), and try each in an environment of its own
	@rm -rf dist
	$(BIN)/python -m hatchling build --target wheel
	BBR_COMPILE=1 $(BIN)/python -m hatchling build --target wheel
	@$(BIN)/python -m tests.wheels dist/*.whl

# The compiled wheel, unpacked.
$(COMPILED)/.ready: hatch_build.py pyproject.toml $(shell find bbr -name '*.py') | $(READY)
	@rm -rf $(COMPILED)
	BBR_COMPILE=1 $(BIN)/python -m hatchling build --target wheel --directory $(COMPILED)
	@$(BIN)/python -m zipfile -e $(COMPILED)/*.whl $(COMPILED)
	@touch $@

compiled: $(COMPILED)/.ready  ## build the compiled wheel and unpack it in .cache/compiled, for test-compiled (gcc; two minutes)

test-compiled: $(COMPILED)/.ready $(HELM)  ## run all tests on the compiled build (CORE=1: those of the core; ARGS as in test)
	$(WITH_COMPILED) $(BIN)/python -m pytest --override-ini=pythonpath= $(or $(ARGS),$(AT_ONCE) $(if $(CORE),$(CORE_SUITES)))

test: $(READY) $(if $(ARGS),,$(HELM) clients)  ## run all tests, WORKERS (4) at once (ARGS="tests/unit -k NAME": these, one at a time; COVER=1: measure coverage)
	$(if $(COVER),@$(BIN)/coverage erase)
	$(if $(COVER),$(MEASURED) )$(BIN)/$(if $(COVER),coverage run -m pytest,python -m pytest) $(or $(ARGS),$(AT_ONCE))

test-python:  ## run the core's tests and try the wheel on Python VERSION (3.13), of this machine or from Debian in a chroot
	@$(PYTHON) tests/pythons.py $(or $(VERSION),3.13) $(if $(COMPILE),--compile) $(if $(CASES),--cases=$(CASES)) $(ARGS)

cover: $(READY)  ## run the tests in which coverage is measured, and fail if they cover too few branches
	@$(BIN)/coverage erase
	$(MEASURED) $(BIN)/coverage run -m pytest --quiet $(AT_ONCE) $(COVERING)
	@$(MAKE) --no-print-directory covered

covered: $(READY)  ## fail if the tests of `make test COVER=1` covered too few branches
	@$(BIN)/coverage combine --quiet
	@$(BIN)/python tests/coverage_gate.py

quick: $(READY)  ## run the tests of what differs from BASE (main) (ALL=1: unit, conformance, property)
	@$(if $(ALL),$(BIN)/python -m pytest --quiet $(AT_ONCE) $(QUICK_SUITES),$(BIN)/python -m tests.quick --base $(or $(BASE),main))

# All tests are collected for the last two, by one process: in a clean checkout the workers of `make test` would each
# compile every file of tests.
check: $(READY)  ## lint, types, import rules, generated code and lock files up to date
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python protos/generate.py --check
	$(BIN)/python -m deploy.dashboards.build --check
	$(BIN)/python -m deploy.render.copies --check
	$(BIN)/python -m docs.reference.build --check
	$(BIN)/python -m tests.conformance.go.differences --check
	$(BIN)/python -m pytest --quiet --no-header -k test_imports

structure: $(READY)  ## print units, layers and dependences of bbr, and the longest file, class and function of each folder
	@$(BIN)/python -m tests.structure

format: $(READY)  ## format the code and apply the linter's safe fixes
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

protos: $(READY)  ## regenerate bbr/pb from protos/
	$(BIN)/python protos/generate.py

reference: $(READY)  ## write docs/reference again: flags.md from the declared options, the Go routers' differences from their list
	$(BIN)/python -m docs.reference.build
	$(BIN)/python -m tests.conformance.go.differences

docs: $(DOCS)/.ready  ## build the documentation's site into .cache/docs/html, strictly, and check all of its links
	@$(MKDOCS) build --strict --quiet
	@echo "The site: $(DOCS)/html/index.html"

docs-serve: $(DOCS)/.ready  ## serve the documentation's site on loopback, and rebuild it at each change (PORT=8000)
	@$(MKDOCS) serve --dev-addr 127.0.0.1:$(or $(PORT),8000)

$(DOCS)/.ready: requirements-docs.lock
	$(PYTHON) -m venv --clear $(DOCS)/env
	$(DOCS)/env/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement $<
	@touch $@

go-parity: $(READY)  ## build both Go routers (needs Go; a few minutes), ask them and ours the same, and compare (RECORD=1: write down)
	@$(BIN)/python -m bench.harness.go_router build
	@$(BIN)/python -m bench.harness.go_router build --ipp
	$(if $(RECORD),@$(BIN)/python -m tests.conformance.go.replay record)
	$(BIN)/python -m pytest --quiet tests/conformance/go tests/integration/test_go_routers.py

LOCKING = $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --no-emit-index-url --no-emit-find-links \
  --python-version 3.11.5

lock: $(READY)  ## resolve the dependencies again into requirements*.lock
	$(LOCKING) --all-extras pyproject.toml --output-file requirements.lock
	$(LOCKING) --all-extras --group dev --constraint requirements.lock pyproject.toml \
	  --output-file requirements-dev.lock
	$(LOCKING) --group demo --constraint requirements-dev.lock pyproject.toml --output-file requirements-demo.lock
	$(LOCKING) --group release --constraint requirements-dev.lock --output-file requirements-release.lock
	$(LOCKING) --constraint requirements-dev.lock deploy/local/stand-ins.in --output-file deploy/local/stand-ins.lock
	$(LOCKING) --constraint requirements-dev.lock deploy/image/build.in --output-file deploy/image/build.lock
	$(LOCKING) requirements-docs.in --output-file requirements-docs.lock

clean:  ## remove the environment and everything generated outside git
	rm -rf $(VENV) .cache build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage .coverage.*
	find bbr bench deploy protos tests -name __pycache__ -prune -exec rm -rf {} +
