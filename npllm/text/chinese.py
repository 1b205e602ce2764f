"""Chinese words: a text without spaces is cut by jieba's dictionary."""

from __future__ import annotations

import functools
import logging
import warnings
from collections.abc import Callable, Iterable

from npllm.extras import missing
from npllm.text.tokenizers import WordTokenizer


class JiebaTokenizer(WordTokenizer):
    """Frequent words a token each, where white space does not tell them apart.

    jieba (an extra) cuts the text, what is no Chinese likewise; a rare word is spelled in
    characters.

    >>> tokenizer = JiebaTokenizer(["北", "京", "大", "学", "北京"])
    >>> tokenizer.decode([4, 2, 3])
    '北京大学'
    """

    kind = "jieba"

    @staticmethod
    def pieces(text: str) -> Iterable[str]:
        """Return the words of a text, which together are the text.

        Raises:
            ValueError: jieba is missing.
        """
        return _cut()(text)


@functools.cache
def _cut() -> Callable[[str], Iterable[str]]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its source has escapes that newer Pythons warn of
            import jieba
    except ImportError:
        raise missing("Chinese words need jieba", "jieba", "chinese") from None
    jieba.setLogLevel(logging.WARNING)  # it tells of its dictionary
    cut: Callable[[str], Iterable[str]] = jieba.cut
    return cut
