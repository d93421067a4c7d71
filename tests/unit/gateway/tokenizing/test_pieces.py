"""Cutting, and the bounded cache of pieces."""

from array import array

import pytest
from tokenizers import AddedToken

from gateway.tokenizing.pieces import Pieces, TokenIds, cutting_tokens
from tests.support.trained_tokenizers import END, START, special, trained


def letters(text: str) -> TokenIds:
    """Ids of a tokenizer whose tokens are characters."""
    return array("I", map(ord, text))


def cut_at(*added: AddedToken, template: str = "<a><b><ab>a b") -> list[str]:
    return cutting_tokens(added, template)


def test_texts_are_cut_at_tokens_of_the_template() -> None:
    added = trained().get_added_tokens_decoder().values()
    assert cutting_tokens(added, START + END) == [START, END]
    assert cutting_tokens(added, "") == []


@pytest.mark.parametrize(
    "token",
    [
        special("<a>", lstrip=True),
        special("<a>", single_word=True),
        special("<a>", normalized=True),
        special("a"),
        special(" b"),
    ],
)
def test_a_token_that_its_surroundings_decide_about_is_not_cut_at(token: AddedToken) -> None:
    assert cut_at(token) == []


def test_a_token_that_others_may_hide_is_not_cut_at() -> None:
    assert cut_at(special("<a>"), special("<a>\n")) == []
    assert cut_at(special("<a>"), special("x<")) == []
    assert cut_at(special("<a>"), special("<"), special("<b>")) == ["<a>", "<b>"]
    assert cut_at(special("<a>", rstrip=True)) == ["<a>"]


def test_a_text_begins_with_the_pieces_of_its_beginning() -> None:
    pieces = Pieces(letters, ["<e>"], room=10_000, least_characters=5)
    assert pieces.cut("hello<e>a<e>bcdefg<e>") == ["hello", "<e>a<e>bcdefg", "<e>"]
    assert pieces.cut("hello<e>a<e>bcdefg<e>hi")[:-1] == pieces.cut("hello<e>a<e>bcdefg<e>")[:-1]
    assert pieces.cut("") == [""]


def test_known_pieces_are_not_tokenized_again() -> None:
    asked: list[str] = []

    def encode(text: str) -> TokenIds:
        asked.append(text)
        return letters(text)

    pieces = Pieces(encode, ["<e>"], room=10_000, least_characters=5)
    asked.clear()
    assert pieces.ids("hello<e>there") == letters("hello<e>there")
    assert pieces.ids("hello<e>there<e>again") == letters("hello<e>there<e>again")
    assert asked == ["hello", "<e>there", "<e>again"]
    assert (pieces.hits, pieces.misses) == (13, 13 + 8)


def test_the_cache_keeps_to_its_room_and_to_what_is_used() -> None:
    pieces = Pieces(letters, [], room=2_000)
    for number in range(100):
        pieces.ids("kept")
        pieces.ids(f"text number {number}")
        assert 0 <= pieces.free_bytes <= 2_000
    assert pieces.look_up("kept").unknown == 0
    assert pieces.look_up("text number 0").unknown > 0


def test_a_piece_larger_than_the_room_is_not_kept() -> None:
    pieces = Pieces(letters, [], room=1_000)
    assert len(pieces.ids("x" * 5_000)) == 5_000
    assert pieces.free_bytes == 1_000


def test_a_tokenizer_that_reaches_across_is_not_cut() -> None:
    def encode(text: str) -> TokenIds:
        return array("I", [len(text)])

    assert not Pieces(encode, ["<e>"], room=1_000).cuts
    assert Pieces(letters, ["<e>"], room=1_000).cuts
