# `make` alone lists the targets. Everything lives in .venv; nothing is
# installed outside it but the Debian packages listed below, by `make test`.

.NOTPARALLEL:
.PHONY: help demo test test-faults lint format bench specs dashboards build clean prometheus FORCE
.DEFAULT_GOAL := help

export PIP_DISABLE_PIP_VERSION_CHECK = 1
pip = .venv/bin/python -m pip install -qq
ARGS ?=

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' Makefile

demo: .venv/.demo ## run the demo: LoopGym episodes, live /metrics, archive; ARGS="--episodes 3"
	@echo "==> $(strip loopotel-prom demo $(ARGS))"
	@.venv/bin/loopotel-prom demo $(ARGS)

test: .venv/.test prometheus ## run the whole test suite; ARGS="-k archive"
	@echo "==> $(strip pytest $(ARGS))"
	@.venv/bin/pytest $(ARGS)

test-faults: export LOOPOTEL_FAULTS = full
test-faults: .venv/.test prometheus ## kill, damage and fill the archive, as often as promised (half an hour); ARGS="-k kill"
	@echo "==> $(strip pytest tests/faults $(ARGS))"
	@.venv/bin/pytest tests/faults --timeout=3600 $(ARGS)

lint: .venv/.lint ## check format, lint and types
	@echo "==> ruff format --check"
	@.venv/bin/ruff format --check .
	@echo "==> ruff check"
	@.venv/bin/ruff check .
	@echo "==> mypy"
	@.venv/bin/mypy
	@echo "==> dashboards --check"
	@.venv/bin/python -m dashboards --check

format: .venv/.lint ## format the code and apply safe fixes
	@.venv/bin/ruff check --fix-only .
	@.venv/bin/ruff format .

bench: .venv/.bench ## run every benchmark against its peer; ARGS="--quick"
	@for file in benchmarks/bench_*.py; do \
		name=$$(basename $$file .py); \
		echo "==> $$name"; \
		.venv/bin/python -m benchmarks.$$name $(ARGS) || exit 1; \
	done

specs: .venv/.lint ## write the generated files of specs/ and deploy/ anew
	@.venv/bin/python -m loopotel_prom.metrics.document >specs/metrics.md
	@.venv/bin/python -m loopotel_prom.provision.derived

dashboards: .venv/.lint ## write the boards' JSON anew
	@.venv/bin/python -m dashboards

build: .venv/.build ## build the sdist and the wheel into dist/
	@echo "==> building dist/"
	@rm -rf dist
	@out=$$(.venv/bin/python -m build --outdir dist . 2>&1) || { echo "$$out" >&2; exit 1; }
	@ls dist

clean: ## remove .venv, dist/ and all caches
	rm -rf .venv dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# ---- set-up -----------------------------------------------------------------

.venv/.demo: set = -e '.[loopgym]'
.venv/.test: set = -e '.[dask,loopgym,object-store,otlp,parquet,redact,remote-write,web]' --group test --group system --group peer
.venv/.lint: set = -e '.[loopgym,otlp]' --group lint
.venv/.bench: set = -e '.[dask,otlp,remote-write]' --group peer
.venv/.build: set = --group build

# While .installing exists the packages may be half there; see `usable`.
.venv/.demo .venv/.test .venv/.lint .venv/.bench .venv/.build: pyproject.toml .venv/.made
	@echo "==> installing into .venv: $(set)"
	@touch .venv/.installing
	@$(pip) $(set)
	@rm .venv/.installing
	@touch $@

# Made again after an interruption, a move of the tree, or the loss of its
# interpreter. .made names the tree because a venv holds absolute paths.
usable := $(shell [ "$$(cat .venv/.made 2>/dev/null)" = '$(CURDIR)' ] \
	&& [ ! -e .venv/.installing ] && .venv/bin/python -c '' 2>/dev/null && echo yes)

.venv/.made: $(if $(usable),,FORCE)
	@python=$$(sh .ci/python) || exit 1; \
	echo "==> making .venv with $$("$$python" --version)"; \
	rm -rf .venv && "$$python" -m venv .venv
	@$(pip) --upgrade 'pip>=25.1' # the first that knows dependency groups
	@echo '$(CURDIR)' >$@

# Debian's packages also start services on :9090 and :9091, on machines with an init.
apt = apt-get -qq -o DPkg::Lock::Timeout=120
servers = prometheus prometheus-alertmanager prometheus-pushgateway victoria-metrics chromium strace faketime
# mkfs is not on everyone's PATH; of systemd the tests run systemd-analyze.
commands = $(servers) systemd-analyze npm
# Debian's npm will not stand beside a Node.js from elsewhere, which has one.
packages = $(servers) e2fsprogs systemd$(if $(shell command -v npm),, npm)

prometheus:
	@missing=; for each in $(commands); do command -v $$each >/dev/null || missing=1; done; \
	[ "$$missing" ] || exit 0; \
	root=; [ "$$(id -u)" = 0 ] || root='sudo -n'; \
	if ! command -v apt-get >/dev/null || ! $$root true 2>/dev/null; then \
		echo "the tests need real servers, a browser, strace and npm on PATH: apt-get install --no-install-recommends $(packages), or any releases (Prometheus >= 2.42)" >&2; \
		exit 1; \
	fi; \
	echo "==> installing Debian's $(packages)"; \
	out=$$($$root $(apt) update 2>&1; \
		$$root env DEBIAN_FRONTEND=noninteractive $(apt) install -y --no-install-recommends $(packages) 2>&1) \
	|| { echo "$$out" >&2; exit 1; }
