# SPDX-License-Identifier: Apache-2.0
#
# Every goal sets up what it needs first (tools/setup.sh). Paths are relative:
# the clone may lie under a path with spaces.

PY := .venv/bin/python
AS_OWNER := tools/as-owner.sh
AS_ROOT := tools/as-root.sh
PYTEST_ARGS ?=
BENCH_TOOLS = perf bpftrace bpftool strace $(if $(QUICK),,exitsnoop exitsnoop-bpfcc forkstat chromium chromedriver fonts)
PARALLEL = -n auto --dist worksteal
C_SOURCES = $(wildcard probes/*.[ch] bench/workloads/*.[ch] tests/*/*.[ch])

ifdef PYTHON
export PYTHON
endif
# What others put on Python's path (their pytest plugins, say) is no part of this.
unexport PYTHONHOME PYTHONPATH
# Without bytecode each program that a test starts is compiled anew. Root's writes none (as-root.sh).
unexport PYTHONDONTWRITEBYTECODE

.NOTPARALLEL:
.PHONY: setup test test-unit test-browser test-kernel test-vm vagrant-check coverage mutants demo check check-js imports rules format oracle stacks \
	bench deb dist clean help

setup: ## set up: .venv/bin/zombiebpf (the default goal)
	@tools/setup.sh

test: test-unit test-browser test-kernel ## unit tests, those in a browser, kernel tests (root)

test-unit: setup ## tests that need neither root nor BPF, one worker a core (PYTEST_ARGS='-n 0': in order)
	@$(AS_OWNER) $(PY) -m pytest tests/unit $(PARALLEL) $(PYTEST_ARGS)

coverage: setup ## the unit tests, and the share of zombiebpf's lines and branches that they run
	@$(AS_OWNER) rm -rf build/coverage
	@$(AS_OWNER) $(PY) -m coverage run -m pytest tests/unit $(PARALLEL) $(PYTEST_ARGS)
	@$(AS_OWNER) $(PY) -m coverage combine --quiet
	@$(AS_OWNER) $(PY) -m coverage report

mutants: setup ## change one thing in a pure function, see a unit test fail (an hour; MUTANTS_ARGS='--sample 100')
	@$(AS_OWNER) $(PY) -m tools.mutants $(MUTANTS_ARGS)

test-browser: setup ## the HTML report in real Chromium (root, where that must be installed first)
	@tools/setup.sh chromium chromedriver fonts
	@$(AS_OWNER) $(PY) -m pytest tests/browser $(PYTEST_ARGS)

test-kernel: setup ## tests against the running kernel (root)
	@$(AS_ROOT) test tools/setup.sh cc bpftrace strace tini
	@$(AS_ROOT) test tools/apps.sh
	@$(AS_ROOT) test $(PY) -m pytest -p no:cacheprovider tests/kernel $(PYTEST_ARGS)

test-vm: setup deb ## the same on other kernels, in VMs without KVM; ROW=bookworm for one (see docs/kernels.md)
	@tools/setup.sh $$($(PY) -m tests.vm --tools $(ROW))
	@$(PY) -m tests.vm $(ROW) $(VM_ARGS)

vagrant-check: ## is the Vagrantfile valid? VAGRANT_ARGS=--up: a VM really brought up from it (docs/vagrant.md)
	@tools/setup.sh vagrant
	@tests/vm/vagrant-check.sh $(VAGRANT_ARGS)

demo: setup ## the article's scenarios, its claims beside what the kernel shows (root; a minute)
	@$(AS_OWNER) mkdir -p build
	@$(AS_ROOT) demo .venv/bin/zombiebpf scenario run all \
		--report build/demo-report.txt --report build/demo-report.json \
		--report build/demo-report.html

oracle: ## thousands of random lives compared with independent tools (root)
	@$(AS_ROOT) oracle tools/setup.sh cc bpftrace strace
	@$(AS_ROOT) oracle $(PY) -m tests.oracle $(ORACLE_ARGS)

stacks: setup ## each captured Python stack compared with traceback's, for every Python here (root)
	@$(AS_ROOT) stacks $(PY) -m tests.stacks $(STACKS_ARGS)

bench: ## measure the cost beside other tools, against the budgets (root; half an hour; QUICK=1: two minutes)
	@$(AS_ROOT) bench tools/setup.sh cc
	@$(AS_ROOT) bench tools/setup.sh --try $(BENCH_TOOLS)
	@$(AS_OWNER) $(PY) -m compileall -q zombiebpf bench
	@$(AS_ROOT) bench $(PY) -m bench $(if $(QUICK),--quick) $(BENCH_ARGS)

check: setup check-js ## lint, format, types, imports, licences
	@$(AS_OWNER) $(PY) -m ruff check
	@$(AS_OWNER) $(PY) -m ruff format --check
	@$(AS_OWNER) $(PY) -m mypy
	@graph=$$($(AS_OWNER) $(PY) tools/imports.py) || { echo "$$graph"; false; }
	@.venv/bin/clang-format --dry-run -Werror $(C_SOURCES)
	@.venv/bin/shellcheck tools/*.sh tests/vm/*.sh .ci/run
	@$(AS_OWNER) $(PY) -m pytest -q tests/unit/test_licences.py

check-js: setup ## types in the scripts of the HTML report, by TypeScript
	@$(AS_OWNER) tools/check-js.sh

imports: setup ## the import graph: packages in layers, cycles, imports that point upstream
	@$(AS_OWNER) $(PY) tools/imports.py

rules: setup ## the built-in attribution rules as Python, from rules.yaml
	@$(AS_OWNER) $(PY) tools/rules.py

format: setup ## rewrite the sources as `make check` wants them
	@$(AS_OWNER) $(PY) -m ruff check --fix --exit-zero
	@$(AS_OWNER) $(PY) -m ruff format
	@$(AS_OWNER) .venv/bin/clang-format -i $(C_SOURCES)

deb: setup ## the wheel and the Debian package, in build/dist
	@$(AS_OWNER) $(PY) tools/dist.py --deb build/dist

dist: setup ## source distribution, wheel and Debian package in build/dist; the same bytes each time
	@$(AS_OWNER) $(PY) tools/dist.py build/dist
	@$(AS_OWNER) $(PY) -m twine check --strict build/dist/*.tar.gz build/dist/*.whl

clean: ## remove what the goals above have made in the clone
	rm -rf .venv node_modules .mypy_cache .ruff_cache .pytest_cache *.egg-info build mutants bench/results.json bench/results-partial.json
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1	\2/p' Makefile | expand -t 22
