# Everything runs in .venv, made on first use.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: run install check test test-full test-clusters docs bench bench-ratios bench-gpu bench-paper clean

run: $(STAMP) ## the main job on the embedded data set: two inits and a placebo, three seeds, a leaderboard
	$(BIN)/initbench run --init default,lwi --backbone unetrpp --dataset phantom-lung --size tiny --budget smoke --seeds 3 \
		--device cpu --jobs 2 --out runs/first
	$(BIN)/initbench leaderboard --out runs/first

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet -c constraints.txt -e '.[dev]'
	touch $(STAMP)

check: $(STAMP) ## style, types, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: check ## what CI runs: minutes
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 -m "not full and not cluster"

# The folders of tests, for ROOM.
ROOMS := $(sort $(notdir $(patsubst %/,%,$(dir $(wildcard tests/*/test_*.py)))))
ifneq ($(filter-out $(ROOMS),$(ROOM)),)
$(error tests has no room $(ROOM); its rooms: $(ROOMS))
endif

test-full: check ## all of it, with training runs on real volumes: most of an hour; ROOM=stats for one folder of tests
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadgroup -m "not cluster" $(if $(ROOM),tests/$(ROOM),tests)

# A limit ends what hangs. A skip says that the engine cannot be had here.
test-clusters: $(STAMP) ## runs through a real Slurm, from Debian packages, and a real Ray of two nodes on this machine: some minutes
	OMP_NUM_THREADS=1 timeout --signal=INT --kill-after=30 480 $(BIN)/pytest -m cluster tests/clusters/test_slurm.py
	$(BIN)/python -c 'import ray' 2>/dev/null || $(BIN)/pip install --quiet -c constraints.txt -e '.[ray]' || true
	OMP_NUM_THREADS=1 timeout --signal=INT --kill-after=30 390 $(BIN)/pytest -m cluster tests/clusters/test_ray.py

docs: $(STAMP) ## the documentation as a site that is read without a network: site/index.html
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict # the variable silences an advertisement

bench: $(STAMP) ## speed of the device-resident data path and of a training step
	OMP_NUM_THREADS=1 $(BIN)/pytest benchmarks --benchmark-only

bench-ratios: $(STAMP) ## the same as ratios to peers; batchgeneratorsv2 is one where it is installed (extra `bench`)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.ratios

PART ?= truth
bench-gpu: $(STAMP) ## checks of a machine with a GPU, four minutes at most; PART=truth or PART=speed
	$(BIN)/python -m benchmarks.bench_gpu $(PART)

bench-paper: $(STAMP) ## step time and peak memory of every backbone at paper size: ten minutes, 10 GiB
	$(BIN)/python -m benchmarks.paper_size

clean:
	rm -rf $(VENV) build site *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
