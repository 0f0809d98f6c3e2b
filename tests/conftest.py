"""What every test run does first: settle and say which cconv is tested, make hypothesis repeatable in CI."""

import os

from hypothesis import settings

import cconv
from cconv.kernels import FLOAT32

# A child that a test starts would find the clone's cconv in its working folder, which has no kernels unless it
# was built in place; it shall import what this process does.
os.environ["PYTHONSAFEPATH"] = "1"

settings.register_profile("ci", derandomize=True, deadline=None)
settings.register_profile("here", deadline=None)  # the first example may lay out memory
settings.load_profile("ci" if os.environ.get("CI") else "here")


def pytest_report_header() -> str:
    """`python -m pytest` in a clone tests the clone's cconv instead of the installed one; it shows here."""
    return f"cconv {cconv.__version__} ({FLOAT32.name}) from {os.path.dirname(cconv.__file__)}"
