"""Text: from what people write to what a model can speak."""
