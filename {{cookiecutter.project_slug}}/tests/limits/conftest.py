from tests.limits.backing import *  # noqa: F403 - its fixtures, wherever it is counted
