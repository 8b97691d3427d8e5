"""Import of GPT-2's published weights, export to Hugging Face folders and GGUF files."""
