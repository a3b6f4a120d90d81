"""Tests of minidl.training."""
