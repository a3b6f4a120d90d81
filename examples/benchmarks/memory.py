"""How much memory a training step takes at its peak: LeNet, and a transformer block.

Two figures: what the step adds to a process that has imported the library, and the whole process.
"""

from __future__ import annotations

import lenet
import transformer_block
from harness.workload import Row

TITLE = "peak memory of a training step"
FIGURE = "memory"
ROWS = [
    Row("LeNet, batch 64", 64, of=lenet, batch=64),
    Row("transformer block, batch 8", 8, of=transformer_block, batch=8),
]
