"""Chinese: characters, words and bytes, all of which come back; and how wide it is."""

import builtins

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npllm.cli.table import table_lines, width
from npllm.figures import fonts_for
from npllm.text import BytePairTokenizer, CharacterTokenizer, WordTokenizer, chinese
from npllm.text.chinese import JiebaTokenizer
from npllm.text.made import known, make_tokenizer
from npllm.text.saved import tokenizer_from_dict

LINES = (
    "白日依山盡，黃河入海流。欲窮千里目，更上一層樓。",  # noqa: RUF001
    "我爱北京大学，北京大学在北京。Yes, 2026年！",  # noqa: RUF001
)
TEXT = "\r\n".join(3 * LINES)


@pytest.fixture(scope="module")
def jieba(oracle):
    return oracle("jieba")


@pytest.mark.parametrize("kind", ["character", "word", "bpe"])
def test_a_text_comes_back(kind):
    tokenizer = make_tokenizer(kind, TEXT, TEXT, 400)
    assert tokenizer.decode(tokenizer.encode(TEXT)) == TEXT
    again = tokenizer_from_dict(tokenizer.to_dict())
    assert again.vocabulary == tokenizer.vocabulary


def test_words_are_cut_by_a_dictionary(jieba):
    tokenizer = make_tokenizer("jieba", TEXT, TEXT, 400)
    assert isinstance(tokenizer_from_dict(tokenizer.to_dict()), JiebaTokenizer)
    assert tokenizer.decode(tokenizer.encode(TEXT)) == TEXT
    cut = [tokenizer.vocabulary[i] for i in tokenizer.encode("我爱北京大学")]
    assert cut == ["我", "爱", "北京大学"]
    # the negative control: by white space alone it is all one word, which is spelled out
    plain = WordTokenizer.train(TEXT, 400)
    assert len(plain.encode("我爱北京大学。北京大学")) == 1 + 1 + 4


@given(st.text(st.sampled_from("我爱北京大学a b,。\r\n\t1é😀\x00\u3000"), max_size=40))
def test_the_pieces_are_the_text(jieba, text):
    assert "".join(JiebaTokenizer.pieces(text)) == text


def test_without_jieba_one_line_says_what_to_install(monkeypatch):
    real = builtins.__import__

    def missing(name, *arguments, **options):
        if name == "jieba":
            raise ImportError(name)
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", missing)
    chinese._cut.cache_clear()
    try:
        with pytest.raises(
            ValueError, match=r"Chinese words need jieba: pip install '\.\[chinese\]'"
        ):
            JiebaTokenizer.train(TEXT, 400)
    finally:
        chinese._cut.cache_clear()


def test_what_a_vocabulary_lacks_is_left_out():
    tokenizer = CharacterTokenizer.train("山海")
    assert known(tokenizer, "山x海") == "山海"
    assert known(BytePairTokenizer.train("山海", 256), "山x海") == "山x海"


def test_tables_are_aligned_by_what_characters_take():
    lines = table_lines([("词", "1"), ("word", "22"), ("é\u0301", "3")])
    assert [width(line) for line in lines] == [8, 8, 8]
    assert len({len(line) for line in lines}) > 1  # by their number they are not
    assert width("a\x07b") == 3


def test_fonts_are_chosen_by_what_there_is(oracle, monkeypatch):
    oracle("matplotlib")
    from matplotlib import font_manager

    class Font:
        def __init__(self, name):
            self.name = name

    assert fonts_for(["word"]) == ["DejaVu Sans"]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", [Font("DejaVu Sans")])
    with pytest.raises(ValueError, match="no font here has Chinese characters"):
        fonts_for(["word", "词"])
    fonts = [Font("Noto Sans CJK SC"), Font("DejaVu Sans")]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", fonts)
    assert fonts_for(["词"]) == ["DejaVu Sans", "Noto Sans CJK SC"]
