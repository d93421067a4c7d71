"""Pieces add up: whatever the text and the added tokens, as when it is tokenized whole."""

from array import array
from functools import lru_cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer

from gateway.tokenizing.body import UntokenizableError, read
from gateway.tokenizing.pieces import Pieces, TokenIds, cutting_tokens
from tests.support.trained_tokenizers import END, START, special, trained

ADDED: dict[str, list[AddedToken]] = {
    "none": [],
    "left": [special("<t>", lstrip=True)],
    "right": [special("<t>", rstrip=True)],
    "words": [special("fox", single_word=True), special("<t>")],
    "longer": [special("<|im_end|>\n"), special("x<|im_start|>y"), special("<t>")],
    "overlapping": [special("fox<"), special("<t>")],
    "shorter": [special("<"), special("|>"), special("<t>")],
    "normalized": [AddedToken("<t>", normalized=True), AddedToken("dog", normalized=True)],
}
FRAGMENTS = [
    START,
    END,
    "<t>",
    "fox",
    "dog",
    " ",
    "\n",
    "<",
    "|>",
    "x",
    "y",
    "é漢",
    "the lazy",
    "im_end",
]
texts = st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=12), max_size=25).map("".join)


class _Subject:
    def __init__(self, plain: Tokenizer) -> None:
        self.plain = plain
        added = plain.get_added_tokens_decoder().values()
        template = "".join(token.content for token in added)
        self.pieces = Pieces(self.encode, cutting_tokens(added, template), 30_000, 1)

    def encode(self, text: str) -> TokenIds:
        (found,) = self.plain.encode_batch_fast([text], add_special_tokens=False)
        return array("I", found.ids)


@lru_cache
def subject(name: str, metaspace: bool) -> _Subject:
    return _Subject(trained(ADDED[name], metaspace=metaspace))


@pytest.mark.parametrize("metaspace", [False, True])
@pytest.mark.parametrize("name", ADDED)
@given(text=texts, more=texts)
@settings(max_examples=150, deadline=None)
def test_pieces_add_up_to_the_whole(name: str, metaspace: bool, text: str, more: str) -> None:
    tried = subject(name, metaspace)
    for each in (text, text + more):  # the second continues the first, as a conversation does
        whole = tried.plain.encode(each, add_special_tokens=False).ids
        assert list(tried.pieces.ids(each)) == whole


def test_the_subjects_do_cut() -> None:
    whole = {name for name in ADDED if not subject(name, metaspace=True).pieces.cuts}
    assert whole == {"overlapping"}  # all tokens begin as one of the others ends


@given(body=st.binary(max_size=300) | st.text(max_size=100).map(str.encode))
def test_no_body_is_more_than_untokenizable(body: bytes) -> None:
    try:
        read(body)
    except UntokenizableError as error:
        assert str(error)
