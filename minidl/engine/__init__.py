"""The tape: tensors, the graph behind them, and the way back. Read `tensor.py`, then `function.py`,
`graph.py`.
"""
