"""Which backend a request is for: a route table, compiled from plain typed rules.

Pure: no sockets, no Kubernetes. `rules` says what can be said, `hosts` how names match,
`table` compiles and matches in the order of precedence that the Gateway API prescribes,
`edits` applies what filters ask for, `targets` reads request targets.
"""
