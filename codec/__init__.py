"""BiCodec, the speech codec of Spark-TTS (Wang et al. 2025).

A second of speech is 50 semantic tokens, a voice is 32 global tokens. The package knows waveforms, features
and codec tokens: how to turn tokens into audio, and recordings into tokens. It does not know jobs,
queues, prompts, the language model, or how token ids are written in that model's vocabulary.
"""
