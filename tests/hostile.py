"""Strangers who flood, drip, nest, lie and garble, on every port of a server; and who comes next.

    python -m tests.hostile             all of it, some three minutes
    python -m tests.hostile --short     as tests/test_hostile.py does it, some seconds

Each attack names what was promised and did not happen. After them the next client is served on all
three wires, no turn runs, descriptors and memory are what they were (ROOM), and the log has no
traceback. Ends with 1 where a promise was broken.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import random
import sys
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from tests.footprint import forget_peak, footprint, settled
from tests.hostile_drips import drips
from tests.hostile_frames import broken_frames, broken_paths, random_protobuf
from tests.hostile_messages import Sizes, huge_messages, random_messages
from tests.live import Process
from tests.wires import WIRES
