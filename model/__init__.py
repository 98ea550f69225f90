"""RWKV-7: checkpoint formats, the forward pass over ragged batches, recurrent state, text tokenizers.

Knows nothing of jobs, phases or audio.
"""
