"""Side by side with what a user would pick instead: `python benchmarks/run.py`. README.md has the results."""
