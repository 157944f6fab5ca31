"""Peers and we before the same upstream, each alone on one core: what a turn and a call cost.

See `python -m bench.peers --help`.
"""
