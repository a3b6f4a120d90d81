"""Tests of `minidl.ops`, file by file; `cases.py` holds what all of them check."""
