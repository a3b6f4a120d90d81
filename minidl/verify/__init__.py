"""The conformance kit: holds any backend to the contract, on any machine."""
