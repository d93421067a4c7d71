"""The command that runs the controller of InferenceCapacity."""
