# genialearn: what people type. `make demo` and `make test` do everything on a fresh Debian or Ubuntu machine.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help deps test-deps build program demo test format lint unit fuzz test-slurm test-pages test-kernels test-gpu gpu-bundle docs bench bench-store bench-products bench-grm bench-gblup bench-reml bench-mlp bench-wgan bench-neighbours bench-scaling bench-study-calibration bench-ensembles bench-gpu clean

# Compilers and libraries (Debian 12 and Ubuntu 24.04 call them the same).
PACKAGES := build-essential pkg-config clang libclang-dev curl ca-certificates \
            openmpi-bin libopenmpi-dev libhdf5-dev libopenblas-dev libscalapack-openmpi-dev
# What the tests compare with: h5py reads the store, PLINK 2 counts alleles. A venv brings the compiler of kernels, and
# g++ compiles them for the processor.
TEST_PACKAGES := python3 python3-h5py plink2 python3-venv g++
RUST_AT_LEAST := 1.89

SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
CARGO := $(shell command -v cargo || echo $(HOME)/.cargo/bin/cargo)
DEMO ?= demo-report
RANKS ?= 2

export HDF5_DIR ?= $(firstword $(wildcard /usr/lib/$(shell uname -m)-linux-gnu/hdf5/serial))
# mpirun on a laptop: also as root, with more ranks than cores, without binding ranks to single cores.
export OMPI_ALLOW_RUN_AS_ROOT := 1
export OMPI_ALLOW_RUN_AS_ROOT_CONFIRM := 1
export OMPI_MCA_rmaps_base_oversubscribe := 1
export OMPI_MCA_mpi_yield_when_idle := 1
export OMPI_MCA_hwloc_base_binding_policy := none

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 16

# Installs those of its packages that are missing.
define install
@missing=; for p in $(1); do \
  dpkg-query -W -f '$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || missing="$$missing $$p"; done; \
if [ -n "$$missing" ]; then echo "Installing$$missing"; \
  $(SUDO) apt-get update -q; \
  $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $$missing; fi
endef

deps: ## Install what is missing (system packages, Rust)
	$(call install,$(PACKAGES))
	@if ! [ -x "$(CARGO)" ]; then echo "Installing Rust with rustup"; \
	  curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile default --no-modify-path; fi
	@found=$$($(CARGO) --version | cut -d' ' -f2); \
	if [ "$$(printf '%s\n' $(RUST_AT_LEAST) $$found | sort -V | head -1)" != $(RUST_AT_LEAST) ]; then \
	  echo "Rust $(RUST_AT_LEAST) or newer is needed, $$found is installed: run 'rustup update stable', or remove the older cargo from PATH" >&2; exit 1; fi

build: deps ## Build target/release/genialearn
	GENIALEARN_COMMIT=$$(git describe --always --dirty 2>/dev/null) $(CARGO) build --release --locked

demo: build ## Simulate a herd, compare models, write a report (RANKS=2 DEMO=demo-report)
	mpirun -n $(RANKS) target/release/genialearn study examples/demo.toml --out $(DEMO) --force
	@echo; echo "The report: $(abspath $(DEMO))/report.html"

test-deps: deps
	$(call install,$(TEST_PACKAGES))

test: test-deps format lint unit test-kernels test-slurm test-pages docs ## Everything that must pass before a change lands

format:
	$(CARGO) fmt --all -- --check

lint:
	$(CARGO) clippy --locked --all-targets -- -D warnings

unit:
	$(CARGO) test --locked

# `make unit` tries the same damage every time; this goes on with other damage.
FUZZ_S ?= 120
fuzz: deps ## Damage files of every kind for FUZZ_S seconds (FUZZ_S=120): never a panic, a hang or a half-written result
	FUZZ_S=$(FUZZ_S) $(CARGO) test --locked --test fuzz -- --nocapture

# target/debug/genialearn, which comes with an integration test: `cargo build` would build it anew, with other features of its
# libraries.
program: deps
	$(CARGO) test --locked --no-run --test ranks

# Where Slurm cannot be installed or started it says so in one line; SLURM=required makes that a failure.
test-slurm: program ## Run slurm/ under a real Slurm of two virtual nodes
	@tests/slurm/run.sh target/debug/genialearn || [ $$? = 77 -a "$(SLURM)" != required ]

# Without a Chromium it says so in one line; CHROMIUM=required makes that a failure.
test-pages: test-deps program ## Open the reports in headless Chromium, wide and narrow, and print them
	@tests/pages/run.sh target/debug/genialearn || [ $$? = 77 -a "$(CHROMIUM)" != required ]

# Without PyPI the compiling says in one line that it did not run; NVCC=required makes that a failure.
test-kernels: test-deps ## Compile the kernels for GPUs, and run them on the processor (no GPU needed)
	@kernels/compile.sh $(CURDIR)/target/nvcc || [ $$? = 77 -a "$(NVCC)" != required ]
	@CARGO=$(CARGO) tests/shim/run.sh $(CURDIR)/target/shim || [ $$? = 77 ]
	@CARGO=$(CARGO) python3 tests/gpu/dry_run.py $(CURDIR)/target/shim || [ $$? = 77 ]

# With a GPU: the tests that run on the processor in test-kernels, with the real driver and compiler.
test-gpu: deps ## Run the backends' tests on this machine's GPU (GPU=required: fail without one)
	@if ! nvidia-smi -L 2>/dev/null; then echo "test-gpu: NOT RUN, no GPU here"; [ "$(GPU)" != required ]; exit; fi; \
	$(CARGO) test --locked --lib -- device:: nn:: comm::reduce wgan_gp:: && $(CARGO) test --locked --test cuda

gpu-bundle: deps ## Pack what a bare machine with a GPU needs for tests and times: target/gpu-bundle.tar.xz (docs/gpu.md)
	CARGO=$(CARGO) tests/gpu/bundle.sh $(CURDIR)/target/gpu-bundle.tar.xz

docs: program ## Build the library's documentation (target/doc/genialearn), follow all links, run docs/start.md
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps
	@python3 tests/docs/check.py target/debug/genialearn

bench: bench-store bench-products bench-grm bench-gblup bench-reml bench-mlp bench-wgan bench-neighbours bench-scaling bench-study-calibration ## Measure: store, packed products, G, GBLUP, REML, networks, generators, neighbours, ranks, errors of study (minutes each)

bench-store bench-products bench-grm bench-gblup bench-reml bench-mlp bench-wgan bench-neighbours bench-scaling bench-study-calibration bench-gpu: bench-%: deps
	$(CARGO) bench --locked --bench $*

# Python with lightgbm, scikit-learn and pandas: a venv brings them.
bench-ensembles: build ## Forests and boosting beside LightGBM and scikit-learn on the data sets of DATA=../shared/data
	@[ -d target/peers ] || { python3 -m venv target/peers && target/peers/bin/pip install -q lightgbm==4.7.0 scikit-learn pandas; }
	PYTHON=target/peers/bin/python sh benches/ensembles.sh $(or $(DATA),../shared/data) target/ensembles

clean: ## Remove what was built and the demo's report
	$(CARGO) clean
	rm -rf $(DEMO)
