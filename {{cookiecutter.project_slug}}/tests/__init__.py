"""Tests ask no model that costs money, and read no `.env` of whoever runs them.

Set before anything of `app` is imported, where settings are read, and for each server that a test starts.
"""

import os

os.environ["ENV_FILE"] = os.devnull
os.environ["MODEL_PROVIDER"] = "echo"
