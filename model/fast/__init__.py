"""RWKV-7 on a GPU: fused kernels, 16-bit weights and state, one graph for each size of batch.

Only ``engine = cuda`` imports it; it needs Triton. ``model.rwkv7`` is its oracle.
"""
