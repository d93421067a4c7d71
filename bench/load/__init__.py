"""Users of an OpenAI API, for locust."""
