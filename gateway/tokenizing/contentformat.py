"""Whether a chat template wants a message's content as text, or as a list of parts.

Engines hand every message over in the one form. vLLM tells it from the template (its option
``--chat-template-content-format auto``): one that loops over the content of a message it got by
looping over the messages wants parts, every other one text. Followed are plain names only: copies
of ``messages``, slices and filtered copies of them, but no macros and no copies of a content.
"""

from jinja2 import nodes


def wants_parts(template: nodes.Template) -> bool:
    """Whether the template loops over the content of messages."""
    lists = _copies(template, "messages")
    loops = list(template.find_all(nodes.For))
    messages = {
        loop.target.name
        for loop in loops
        if isinstance(loop.target, nodes.Name) and _name(_stripped(loop.iter)) in lists
    }
    return any(_content_of(_stripped(loop.iter)) in messages for loop in loops)


def _copies(template: nodes.Template, name: str) -> set[str]:
    """The names that ``name`` is given to, directly or through others."""
    given = [
        (assign.target.name, source)
        for assign in template.find_all(nodes.Assign)
        if isinstance(assign.target, nodes.Name)
        and (source := _name(_stripped(assign.node))) is not None
    ]
    known = {name}
    while new := {target for target, source in given if source in known} - known:
        known |= new
    return known


def _stripped(node: nodes.Node | None) -> nodes.Node | None:
    """What is left without filters, tests and slices."""
    while isinstance(node, nodes.Filter | nodes.Test) or (
        isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Slice)
    ):
        node = node.node
    return node


def _name(node: nodes.Node | None) -> str | None:
    return node.name if isinstance(node, nodes.Name) and node.ctx == "load" else None


def _content_of(node: nodes.Node | None) -> str | None:
    """The name whose ``content`` is taken; None for anything else."""
    if isinstance(node, nodes.Getattr) and node.attr == "content":
        return _name(node.node)
    if isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Const):
        return _name(node.node) if node.arg.value == "content" else None
    return None
