"""The tests of tfxfer, and what several of them use."""

import re

# Lines that TensorFlow writes in this process; the tools keep them from the terminal.
LOG_OF_TENSORFLOW = re.compile(r"^[IWE]\d{4} \d\d:.*\n", re.MULTILINE)
