"""From text ids to token ids: the token layout, prompts, phases, end rules and the one sampler.

Knows nothing of Redis, of jobs or of the network that produces the logits.
"""
