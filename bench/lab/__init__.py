"""The lab: real vLLM servers with a real small model, on a machine without a GPU."""
