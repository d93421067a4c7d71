"""How many endpoints there should be: signals, decisions (pure), and who carries them out."""
