"""What a program needs to have text spoken by rwkv-tts workers: no torch, no model, no audio library."""
