"""Chinese text as a careful Mandarin speaker reads it aloud.

``reading`` is the door. The other modules are ordered tables of patterns and their words, each for one kind of
writing. Every repetition in a pattern is bounded or anchored, so that the time stays linear in the text.
"""
