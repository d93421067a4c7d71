"""How soon and how truly the fleet follows a cluster whose pods come and go all the time."""
