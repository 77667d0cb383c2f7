# Python 3.11 and make are all that is needed. `make demo` is the place to start; `make` alone lists the targets.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
WORK := work
PROTOS := serving/bundle/server_config.proto serving/client/messages.proto serving/local/reflection.proto
# A file of tests stays in one process, as its fixtures are costly.
PARALLEL := --numprocesses auto --maxprocesses 4 --dist loadfile

.PHONY: help install hooks demo picture results docs workflows test coverage test-slow test-newest evidence evidence-hm evidence-hm-daily evidence-hm-rolling evidence-negatives evidence-stability benchmark-pretrain benchmark-clusters benchmark-rank benchmark-coverage benchmark-beam benchmark-serving benchmark-serving-pair benchmark-serving-faults benchmark-serving-client benchmark-serving-strangers gpu-check format protos lock clean

help:  ## This list.
	@awk -F ': .*## |:  *## ' '/^[a-z-]+:.*## / {printf "  %-20s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(VENV)/.installed  ## The virtual environment .venv, with the locked packages and the command `courier`.

# Every file that is installed has its hash in a lock: pip and what builds source packages first, so that pip fetches
# nothing to build with.
$(VENV)/.installed: pip.lock requirements.lock setup.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes --requirement pip.lock
	$(BIN)/python -m pip install --quiet --require-hashes --no-build-isolation --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

hooks: install  ## The hooks of .pre-commit-config.yaml, in this clone.
	$(BIN)/pre-commit install

demo: install  ## All stages on the simulated shop: ten minutes on two cores.
	$(BIN)/courier shop $(WORK)/shop
	$(BIN)/courier run --raw $(WORK)/shop --preset demo --workdir $(WORK)/demo --final

test: install  ## Style, layers, types and tests: what CI runs.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy
	$(BIN)/python -m pytest $(PARALLEL)

coverage: install  ## The tests, with the lines and branches that they run: a table, and work/coverage/index.html.
	$(BIN)/python -m pytest $(PARALLEL) --cov --cov-report term:skip-covered --cov-report html

test-slow: install  ## The tests that take minutes: kill -9 at every stage, the notebook, two processes, fuzzing.
	$(BIN)/python -m pytest -m slow

# Without a lock: it is to notice what the newest packages break.
test-newest:  ## The tests on TensorFlow 2.20, and parity with keras-hub, in an environment of their own.
	$(PYTHON) -m venv $(WORK)/newest
	$(WORK)/newest/bin/python -m pip install --quiet --editable ".[dev,parity]" "tensorflow==2.20.*"
	$(WORK)/newest/bin/python -m pytest
	$(WORK)/newest/bin/python -m pytest -m parity

picture: install  ## The picture of README.md, from the workdir of `make demo`.
	$(BIN)/python -m docs.picture $(WORK)/demo docs/images/courier.png

results: install  ## The tables and the plot in the documents, from docs/results.
	$(BIN)/python -m docs.tables
	$(BIN)/python -m docs.gains_plot

# All Markdown of the repository is one site, with the files it links to, so that links are checked, too. The generator reads
# docstrings without importing anything, so it has an environment of its own, outside the lock.
SITE := $(WORK)/docs
docs:  ## The documents and the API as a site, work/docs/site; fails on warnings.
	$(PYTHON) -m venv $(SITE)/env
	$(SITE)/env/bin/python -m pip install --quiet --requirement docs/requirements.txt
	rm -rf $(SITE)/source && mkdir -p $(SITE)/source
	git ls-files --cached --others --exclude-standard '*.md' LICENSE docs/images training notebooks \
		| tar --create --files-from - | tar --extract --directory $(SITE)/source
	$(SITE)/env/bin/python -m mkdocs build --strict --config-file docs/mkdocs.yml

workflows:  ## The workflows of .github against the schema of GitHub Actions, in an environment of its own.
	$(PYTHON) -m venv $(WORK)/workflows
	$(WORK)/workflows/bin/python -m pip install --quiet "check-jsonschema==0.39.*"
	$(WORK)/workflows/bin/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml

evidence: install  ## Do visual features help on the shop? Three seeds, with controls: hours on two cores.
	$(BIN)/python -m tests.benchmarks.shop_evidence $(WORK)/evidence

include tests/benchmarks/hm_fashion/options.mk
GRID ?= paper-methods
SPANS ?= days

evidence-hm: install  ## A grid on hm_fashion, checked against its claims: RAW=folder, GRID=name, OPTIONS=--final.
	$(BIN)/courier experiment $(GRID) --raw $(RAW) --workdir $(WORK)/evidence-hm --claims $(HM_CLAIMS) $(HM) $(OPTIONS)

evidence-hm-daily: install  ## Rankers that start from the day before's, which have no visual features: RAW=folder.
	$(BIN)/courier experiment previous-day --raw $(RAW) --workdir $(WORK)/evidence-hm $(HM) $(HM_DAY_BEFORE)
	$(BIN)/courier experiment daily-retrain --raw $(RAW) --workdir $(WORK)/evidence-hm $(HM) $(OPTIONS)

evidence-hm-rolling: install  ## Several spans of hm_fashion, pooled: RAW=folder, SPANS=days (of the last week) or year.
	$(BIN)/courier experiment tests/benchmarks/hm_fashion/rolling-$(SPANS).json --raw $(RAW) --workdir $(WORK)/evidence-hm \
		$(HM_TRAINING) $(OPTIONS)

evidence-negatives: install  ## Which page-view slots teach, where they were really shown: the simulated shop.
	$(BIN)/courier shop $(WORK)/shop
	$(BIN)/courier experiment negatives --raw $(WORK)/shop --preset demo --workdir $(WORK)/evidence-negatives $(OPTIONS)

evidence-stability: install  ## Do cluster IDs survive a retrain on one more day? Half an hour on two cores.
	$(BIN)/python -m tests.benchmarks.shop_stability $(WORK)/evidence-stability

# The extra `benchmark` is outside the lock: PyTorch alone is larger than all that is in it.
benchmark-pretrain: install  ## Against PyTorch (needs the extra `benchmark`): INGEST=ingest directory of a workdir.
	$(BIN)/python -m pip install --quiet --editable ".[benchmark]"
	$(BIN)/python -m tests.benchmarks.pretrain $(INGEST) $(WORK)/benchmark-pretrain

benchmark-clusters: install  ## Against faiss and scikit-learn (needs the extra `benchmark`): EMBED=embed directory of a workdir.
	$(BIN)/python -m pip install --quiet --editable ".[benchmark]"
	$(BIN)/python -m tests.benchmarks.clusters $(EMBED) $(WORK)/benchmark-clusters
	$(BIN)/python -m tests.benchmarks.clusters.scikit_learn $(EMBED)

benchmark-rank: install  ## Against PyTorch (needs the extra `benchmark`): RUN=workdir with ingest, embed and cluster.
	$(BIN)/python -m pip install --quiet --editable ".[benchmark]"
	$(BIN)/python -m tests.benchmarks.ranking $(RUN) $(WORK)/benchmark-rank

benchmark-coverage: install  ## How often intervals cover, on 300 data sets where looks tell nothing: half an hour.
	$(BIN)/python -m tests.benchmarks.coverage $(WORK)/benchmark-coverage

benchmark-beam: install  ## The ingest job by size and skew of the log: BEFORE=another tree, MOST=impressions of the largest log.
	$(BIN)/python -m tests.benchmarks.beam $(WORK)/benchmark-beam "$(BEFORE)" $(MOST)

benchmark-serving: install  ## `rank`, the embedder and a server on one core: RUN=workdir with exported models.
	$(BIN)/python -m tests.benchmarks.serving $(RUN) $(WORK)/benchmark-serving

benchmark-serving-pair: install  ## Two exports of the same stages in one run: BEFORE and AFTER=folders of models, PHOTOS=folder of JPEGs.
	$(BIN)/python -m tests.benchmarks.serving_pair $(BEFORE) $(AFTER) $(PHOTOS) $(WORK)/benchmark-serving-pair

benchmark-serving-faults: install  ## 100 version swaps, replicas that fail, 24 large photos at once: MODELS=folder of models, PHOTOS=folder of JPEGs.
	$(BIN)/python -m tests.benchmarks.serving_faults $(MODELS) $(PHOTOS) $(WORK)/benchmark-serving-faults

benchmark-serving-client: install  ## A call of the client against the bare stub of gRPC: MODELS=folder of models.
	$(BIN)/python -m tests.benchmarks.serving_client $(MODELS) $(WORK)/benchmark-serving-client

benchmark-serving-strangers: install  ## 12,000 malformed requests over all doors: codes, memory, what the log holds.
	$(BIN)/python -m tests.benchmarks.serving_strangers $(WORK)/benchmark-serving-strangers

gpu-check: install  ## Whether training on this machine's GPU is right, and how fast: under 8 minutes; in small without a GPU.
	$(BIN)/python -m tests.benchmarks.gpu $(WORK)/gpu-check

format: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# The generator is old on purpose: its code runs on every protobuf since. It is outside the lock, as it needs an older
# setuptools; what it writes is committed, and read before that.
protos:  ## Renews the code of the .proto files.
	$(PYTHON) -m venv $(WORK)/protos
	$(WORK)/protos/bin/python -m pip install --quiet "grpcio-tools==1.62.3" "setuptools<80"
	$(WORK)/protos/bin/python -m grpc_tools.protoc --proto_path=. --python_out=. --pyi_out=. $(PROTOS)

# uv asks the index for the hashes of all files of a version, also those for other machines, without fetching them.
# It is outside the locks that it writes: what it writes is committed, and read before that.
LOCKED := $(WORK)/lock/bin/uv pip compile --quiet --upgrade --generate-hashes --no-annotate --python-version 3.11 \
  --custom-compile-command "make lock"

lock:  ## Renews requirements.lock and pip.lock from setup.py and lock.in, in a fresh environment.
	$(PYTHON) -m venv $(WORK)/lock
	$(WORK)/lock/bin/python -m pip install --quiet "uv==0.13.9"
	$(LOCKED) setup.py --extra dev --extra pretrained --constraint lock.in --output-file requirements.lock > /dev/null
	printf 'pip\nsetuptools\nwheel\n' | $(LOCKED) - --constraint requirements.lock --output-file pip.lock > /dev/null

clean:  ## Removes work/ and .venv/.
	rm -rf $(WORK) $(VENV)
