"""Words in lines, as the tools of n-gram models take a text."""

import pytest

from npllm.text import WhitespaceTokenizer, tokenizer_from_dict

TEXT = "to be\nor not to be\n"


def test_words_are_what_white_space_of_ascii_sets_apart():
    tokenizer = WhitespaceTokenizer.train("a\u00a0b \tc\vd\u3000e\n")
    assert sorted(tokenizer.vocabulary) == sorted(["</s>", "<unk>", "a\u00a0b", "c", "d\u3000e"])


def test_what_is_rare_is_unknown_and_a_line_ends():
    tokenizer = WhitespaceTokenizer.train(TEXT, size=4)
    assert tokenizer.vocabulary == ("</s>", "<unk>", "be", "to")
    assert tokenizer.encode(TEXT).tolist() == [3, 2, 0, 1, 1, 3, 2, 0]
    assert tokenizer.encode("\n\nto").tolist() == [0, 0, 3]
    assert tokenizer.decode([3, 2, 0, 1]) == "to be \n<unk> "
    assert tokenizer.encode("").size == 0


def test_it_is_kept_as_it_is():
    tokenizer = WhitespaceTokenizer.train(TEXT)
    again = tokenizer_from_dict(tokenizer.to_dict())
    assert isinstance(again, WhitespaceTokenizer)
    assert again.vocabulary == tokenizer.vocabulary


@pytest.mark.parametrize("size", [-1, 0, 1, 2])
def test_a_vocabulary_needs_a_word(size):
    with pytest.raises(ValueError, match=f"needs 3 words or more, got {size}"):
        WhitespaceTokenizer.train(TEXT, size)


def test_what_is_refused():
    with pytest.raises(ValueError, match="must hold </s>"):
        WhitespaceTokenizer(["<unk>", "to"])
    with pytest.raises(ValueError, match="lacks the word 'or', and has no <unk>"):
        WhitespaceTokenizer(["</s>", "to"]).encode("to or")
    with pytest.raises(ValueError, match="ids must lie in"):
        WhitespaceTokenizer(["</s>", "to"]).decode([2])
