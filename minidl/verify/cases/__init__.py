"""The conformance cases, one file for each family of the contract; `covers` collects them."""
