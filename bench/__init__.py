"""Benchmarks: `python -m bench` prints speed as ratios against peers, measured in one run and verified before it is timed."""
