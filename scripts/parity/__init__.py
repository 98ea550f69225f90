"""Parity with golden vectors of independent implementations: what is compared, and how far apart it may be."""
