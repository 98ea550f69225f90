"""Jobs in Redis: claim, start, finish, recover, as RQ writes them. Knows nothing of speech."""
