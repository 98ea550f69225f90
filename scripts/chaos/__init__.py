"""The chaos test: processes that are killed, stopped and cut off while they work, and the audit of every job."""
