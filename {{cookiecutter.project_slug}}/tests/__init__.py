"""No test asks a model that costs money: `app.main` makes an application when it is imported."""

import os

os.environ["MODEL_PROVIDER"] = "echo"
