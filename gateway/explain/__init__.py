"""What a request's receipt says, for people: the command `inferway explain`."""
