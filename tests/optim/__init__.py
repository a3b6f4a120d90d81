"""Tests of the optimizers, schedulers and gradient clipping."""
