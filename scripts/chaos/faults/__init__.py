"""What can go wrong: one function a kind of fault, which begins it, waits, and ends it; and the table of all."""
