"""Trains the demo voice from nothing: texts, teacher speech, codec, tokens, language model."""
