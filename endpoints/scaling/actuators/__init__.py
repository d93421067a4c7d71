"""Who carries a decision out: one small contract, and one module for each kind of scale target."""
