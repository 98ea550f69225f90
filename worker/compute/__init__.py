"""What computes, in this process or in one of its own: the engine's rows, waves, voices of recordings."""
