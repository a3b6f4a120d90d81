"""The tests. `oracle`, `strategies` and `tolerances` are shared; the folders mirror the tree."""
