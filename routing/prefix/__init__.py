"""What is cached where: prompts as chains of block hashes, and the index of their holders."""
