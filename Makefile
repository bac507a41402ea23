# SPDX-License-Identifier: Apache-2.0
#
# Every goal sets up what it needs first (tools/setup.sh). Paths are relative:
# the clone may lie under a path with spaces.

PY := .venv/bin/python
AS_OWNER := tools/as-owner.sh
AS_ROOT := tools/as-root.sh
PYTEST_ARGS ?=
C_SOURCES = $(wildcard probes/*.[ch] bench/workloads/*.[ch] tests/*/*.[ch])

ifdef PYTHON
export PYTHON
endif
# What others put on Python's path (their pytest plugins, say) is no part of this.
unexport PYTHONHOME PYTHONPATH

.NOTPARALLEL:
.PHONY: setup test test-unit test-kernel demo check format oracle bench clean help

setup: ## set up: .venv/bin/zombiebpf (the default goal)
	@tools/setup.sh

test: test-unit test-kernel ## unit tests, then kernel tests (root)

test-unit: setup ## tests that need neither root nor BPF
	@$(AS_OWNER) $(PY) -m pytest tests/unit $(PYTEST_ARGS)

test-kernel: setup ## tests against the running kernel (root)
	@$(AS_ROOT) test tools/setup.sh cc bpftrace strace
	@$(AS_ROOT) test $(PY) -m pytest -p no:cacheprovider tests/kernel $(PYTEST_ARGS)

demo: setup ## the article's scenarios, its claims beside what the kernel shows (root; a minute)
	@$(AS_OWNER) mkdir -p build
	@$(AS_ROOT) demo .venv/bin/zombiebpf scenario run all \
		--report build/demo-report.txt --report build/demo-report.json

oracle: ## thousands of random lives compared with independent tools (root)
	@$(AS_ROOT) oracle tools/setup.sh cc bpftrace strace
	@$(AS_ROOT) oracle $(PY) -m tests.oracle $(ORACLE_ARGS)

bench: ## what observing costs, against the budgets (root; a few minutes)
	@$(AS_ROOT) bench tools/setup.sh cc
	@$(AS_ROOT) bench $(PY) -m bench $(BENCH_ARGS)

check: setup ## lint, format, types, licences
	@$(AS_OWNER) $(PY) -m ruff check
	@$(AS_OWNER) $(PY) -m ruff format --check
	@$(AS_OWNER) $(PY) -m mypy
	@.venv/bin/clang-format --dry-run -Werror $(C_SOURCES)
	@.venv/bin/shellcheck tools/*.sh .ci/run
	@$(AS_OWNER) $(PY) -m pytest -q tests/unit/test_licences.py

format: setup ## rewrite the sources as `make check` wants them
	@$(AS_OWNER) $(PY) -m ruff check --fix --exit-zero
	@$(AS_OWNER) $(PY) -m ruff format
	@$(AS_OWNER) .venv/bin/clang-format -i $(C_SOURCES)

clean: ## remove what the goals above have made in the clone
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache *.egg-info build bench/results.json
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1	\2/p' Makefile | expand -t 20
