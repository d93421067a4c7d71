"""What a replay found, for people: tables on a terminal, one self-contained page of HTML."""
