rm tests/chat/test_agent.py
sed -i.bak '/^@agent.tool/,$d; s/jobs=shared.*\], //; /app\.jobs/d; /JobQueue/d' app/chat/agent.py
uv run ruff check --quiet --fix app/chat/agent.py
uv run ruff format --quiet app/chat/agent.py
rm app/chat/agent.py.bak
