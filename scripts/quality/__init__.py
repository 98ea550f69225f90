"""How well a model speaks: what it is asked to say, how that is measured, and the marks it must reach."""
