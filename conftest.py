"""What every test has: real servers on demand, no network beyond the loopback, shards, repeatable properties."""

import os

from hypothesis import settings

# Before anything is collected: pytest names test modules by their path, and for suite/tests would make up a package
# `suite` of its own when the real one is not loaded yet.
import suite  # noqa: F401

pytest_plugins = ("infrastructure.fixtures", "infrastructure.loopback_only", "infrastructure.shards")

# The same examples on every run and machine; no deadline, because two workers share two cores with a broker.
settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
# New examples each time: PS_TEST_PROPERTIES=exploring make proof
settings.register_profile("exploring", deadline=None, max_examples=1000, print_blob=True)
settings.load_profile(os.environ.get("PS_TEST_PROPERTIES", "repeatable"))
