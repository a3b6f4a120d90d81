"""The cases of the engine's operations, one file for each file of `minidl.ops`."""
