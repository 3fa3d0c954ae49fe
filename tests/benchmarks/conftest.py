"""Where tests of what only benchmarks use find it."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
# Sounds to test with are those of tests/speech: benchmarks/ has a `voices` too.
sys.path += [str(ROOT / "tests" / "speech"), str(ROOT / "benchmarks")]
