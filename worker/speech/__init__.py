"""Speech: from requests to utterances, through the threads that speak, to results."""
