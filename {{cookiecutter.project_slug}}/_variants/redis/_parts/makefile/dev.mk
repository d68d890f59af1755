worker:  ## run a worker; it does not reload
	uv run python -m app.worker

dev:  ## run web server, worker and, without a REDIS_URL, a Valkey that starts empty{{ words("makefile/dev_needs", "; needs ") }}
	uv run python scripts/dev.py
