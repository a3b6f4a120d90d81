"""Tests of `minidl.engine`, file by file."""
