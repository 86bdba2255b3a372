# Every command that a person needs; the README says what each prints.
.PHONY: run demo test test-postgres test-compose lint setup lock
.DEFAULT_GOAL := run

PYTHON = .venv/bin/python
GATEWAY_DATABASE = api_keys.py batches.py idempotency.py keys.py limits_http.py sessions.py
RAG_DATABASE = documents.py reindex.py retrieve.py shadows.py stores.py

run: setup ## sets everything up, starts the platform, prints the address, an API key and three lines to try
	@$(PYTHON) scripts/run.py

demo: setup ## walks the whole story on real input; PDF=path QUESTION=text take another document
	@$(PYTHON) scripts/demo.py $(if $(PDF),--pdf "$(PDF)") $(if $(QUESTION),--question "$(QUESTION)")

test: setup lint ## sets everything up, runs all tests
	@$(PYTHON) -m pytest $(ARGS)

test-postgres: setup ## runs the tests that use a database on PostgreSQL
	@scripts/with_postgres.sh $(PYTHON) -m pytest shared $(addprefix gateway/tests/test_,$(GATEWAY_DATABASE)) \
	    $(addprefix rag-service/tests/test_,$(RAG_DATABASE)) finetune-worker/tests/test_repository.py $(ARGS)
	@scripts/with_postgres.sh $(PYTHON) -m pytest tests/test_database_outage.py $(ARGS)

test-compose: setup ## builds and starts the containers, runs the story against them, kills two; needs a Docker engine
	@scripts/test_compose.sh

lint: setup
	@.venv/bin/ruff check . && .venv/bin/ruff format --check .
	@$(PYTHON) scripts/typecheck.py

setup: ## makes .venv from the lock; does nothing when it is up to date
	@scripts/setup.sh

lock: setup ## writes requirements/tunesmith.lock anew from the pyproject files
	@scripts/lock.sh
