"""The graph: what a model is, how it comes from a file and goes back.

load.py ──> safety.py, external.py, limits.py     checks before anything is built
   |
model.py    Model                                 an onnx_ir graph with live weights
   |
weights.py  Weights                               who can have written to them
   |
save.py  summary.py  shapes.py  nodes.py  builder.py
"""
