"""Models: Hugging Face folders to a decoder, a tokenizer and a chat template."""
