"""What all tests share: `--slow`, the number of fuzz cases, the real files beside the checkout, a quiet TensorFlow."""

from __future__ import annotations

import gc
import logging
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest
from hypothesis.internal.conjecture import providers

from tests.browsing import browser, one_chromium  # noqa: F401  # fixtures, for whoever asks for them

# Before TensorFlow or matplotlib is imported, here and in every process that a test starts.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
os.environ.setdefault("MPLBACKEND", "Agg")

# The same examples in every run: what fails here fails elsewhere. With --slow, other ones each time, and more.
hypothesis.settings.register_profile("tfxfer", derandomize=True, deadline=None, database=None)
hypothesis.settings.register_profile("tfxfer-slow", max_examples=2000, deadline=None, database=None, print_blob=True)
# Hypothesis also draws the constants in the sources of the modules that happen to be loaded, which differ by worker and
# by run. No setting turns that off (in 6.170), so its private function is replaced.
providers._get_local_constants = providers.Constants

ROOT = Path(__file__).resolve().parent.parent
REAL_DATA = Path(os.environ.get("TFXFER_TEST_DATA") or ROOT.parent / "shared" / "data")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also run the tests marked slow, and all fuzz cases")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: takes minutes; runs with --slow")
    hypothesis.settings.load_profile("tfxfer-slow" if config.getoption("--slow") else "tfxfer")
    _let_children_hear_signals()
    # Graphs are many objects that live long: to look for garbage as often as usual took 5 % of the time.
    gc.set_threshold(20_000, 20, 50)


def _let_children_hear_signals() -> None:
    """Go on to ignore the signals that this process was started to ignore, but by a handler, which no child inherits.

    Under nohup, or in the background of a script, what a test sends to a tool that it started would not be heard.
    """
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--slow"):
        for item in items:
            if item.get_closest_marker("slow"):
                item.add_marker(pytest.mark.skip(reason="slow: runs with --slow"))


@pytest.fixture(scope="session")
def fuzz_cases(request: pytest.FixtureRequest) -> int:
    """How many broken inputs a fuzz test tries."""
    return 5000 if request.config.getoption("--slow") else 100


@pytest.fixture(scope="session")
def real_data() -> Callable[[str], Path]:
    """Find a file or folder of the real data by name, or skip the test."""

    def find(name: str) -> Path:
        path = REAL_DATA / name
        if not path.exists():
            pytest.skip(f"no real data: {name} is not in $TFXFER_TEST_DATA or ../shared/data")
        return path

    return find


@pytest.fixture(params=["control flow 2", "control flow 1"])
def control_flow(request):
    """Both ways in which TensorFlow builds conditionals and loops: as functions, and as Switch and Merge."""
    import tensorflow.compat.v1 as tf

    before = tf.control_flow_v2_enabled()
    (tf.enable_control_flow_v2 if request.param == "control flow 2" else tf.disable_control_flow_v2)()
    yield
    (tf.enable_control_flow_v2 if before else tf.disable_control_flow_v2)()


@pytest.fixture(autouse=True)
def log_level() -> Iterator[None]:
    """Leave the log as it was: a tool that has a process of its own may set its level."""
    level = logging.getLogger().level
    yield
    logging.getLogger().setLevel(level)
