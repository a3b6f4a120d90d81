"""The NumPy backend beside two other libraries on NumPy, written to be read as well."""

from __future__ import annotations

import lenet
import mlp
from harness.workload import Row

TITLE = "on NumPy alone: training steps of the MLP and of LeNet"
ROWS = [Row("MLP, batch 64", 64, of=mlp, batch=64), Row("LeNet, batch 64", 64, of=lenet, batch=64)]
CONTESTANTS = ("minidl numpy", "MyGrad", "DeZero")
