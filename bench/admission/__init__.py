"""What a line before a busy pool is worth: priorities and fair shares, in virtual time."""
