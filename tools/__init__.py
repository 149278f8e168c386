"""The tools: one script a job, run as `tfxfer NAME` or, from a checkout, as `python tools/NAME.py`."""
