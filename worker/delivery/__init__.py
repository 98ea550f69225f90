"""What a finished waveform becomes on its way out: the bytes of an audio file."""
