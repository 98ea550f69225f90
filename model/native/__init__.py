"""The forward as compiled code for CPUs: one call a step, in place of some two hundred operations of torch."""
