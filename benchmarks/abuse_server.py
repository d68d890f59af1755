"""The server of `abuse.py`: prints its port, and serves the emitted application where it lies."""

import socket

import uvicorn

with socket.socket() as listening:
    listening.bind(("127.0.0.1", 0))
    listening.listen(2048)
    config = uvicorn.Config("app.main:app", log_level="warning", access_log=False)
    print(listening.getsockname()[1], flush=True)
    uvicorn.Server(config).run([listening])
