"""The page of an inspection: it holds what it shows, and no more."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import zlib
from configparser import ConfigParser
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from inspected import CHARACTERS, MODELS, TEXT, V, filled, gpt, lstm

from npllm.inspection import inspect, measures, page
from npllm.inspection.page import packed, visible
from npllm.models import GPT
from npllm.text import BytePairTokenizer, CharacterTokenizer, WordTokenizer


class Page(HTMLParser):
    """A page as a browser would read it: its elements must nest, but for those HTML lets open."""

    OPEN = frozenset({"meta", "br", "input", "td", "tr", "th", "thead", "tbody", "!doctype"})

    def __init__(self, html):
        super().__init__()
        self.html, self.stack, self.ids, self.hidden, self.attributes = html, [], {}, {}, []
        self.text = ""
        self.feed(html)
        self.close()
        assert self.stack == []

    def handle_starttag(self, tag, attrs):
        self.attributes += [(tag, name, value) for name, value in attrs]
        given = dict(attrs)
        if "id" in given:
            assert given["id"] not in self.ids
            self.ids[given["id"]] = tag
        if tag not in self.OPEN:
            self.stack.append((tag, given.get("id")))

    def handle_endtag(self, tag):
        assert self.stack.pop()[0] == tag

    def handle_data(self, data):
        if self.stack and self.stack[-1][0] in ("script", "style"):
            self.hidden[self.stack[-1]] = data
        else:
            self.text += data


ATTACK = "<script>alert(1)</script>&amp;\"' style=x </table><!-- \x00\u202e\r\nhttp:"
TOKENIZERS = {
    "character": CharacterTokenizer.train(ATTACK),
    "word": WordTokenizer.train(ATTACK * 2, 60),
    "bpe": BytePairTokenizer.train(ATTACK * 3, 280),
}


@pytest.mark.parametrize("kind", ["gpt", "lstm"])
@pytest.mark.parametrize("tokenizer", TOKENIZERS.values(), ids=TOKENIZERS)
def test_a_page_holds_what_it_shows_and_no_more(tokenizer, kind):
    size = len(tokenizer.vocabulary)
    model = filled(GPT(size, 80, 6, 2, 3)) if kind == "gpt" else lstm(size)
    found = inspect(model, tokenizer, ATTACK)
    html = page(found, "<b onload='x'>&\"")
    read = Page(html)
    assert "<script>alert" not in html
    assert "<b onload" not in html
    assert "What <b onload='x'>&\" makes of a text" in read.text
    tags = {tag for tag, _, _ in read.attributes} | set(read.ids.values())
    assert "table" in tags
    assert {name for _, name, _ in read.attributes if name.startswith("on")} == set()
    assert {name for _, name, _ in read.attributes} & {"src", "srcset", "action", "data"} == set()
    links = [value for _, name, value in read.attributes if name == "href"]
    assert links == ["#p1", *(f"#p{n}" for n in range(1, len(found.ids) + 1))]
    assert {value[1:] for value in links} <= set(read.ids)
    # no reference to anything outside
    assert not re.search(r"https?://|['\"]//\w|url\(|@import|import\(|fetch\(", html)
    # what cannot be seen is shown by a sign
    for hidden in ("\x00", "\u202e", "\r"):
        assert hidden not in html
    for sign in ("U+0000", "␍", "↵", "·", "&lt;"):
        assert sign in html
    for number in (*found.nats, *found.bits):
        assert f"{number:.4f}" in read.text


def test_bytes_that_are_no_character_by_themselves_are_shown():
    tokenizer = BytePairTokenizer.train("", 256)
    found = inspect(lstm(256), tokenizer, "é!")
    assert found.tokens == ("\udcc3", "\udca9", "!")
    html = page(found, "m")
    html.encode()
    assert "<i>xC3</i>" in html
    assert visible(found.tokens[1]) == "<i>xA9</i>"


def test_an_id_that_is_no_token_is_shown_as_none():
    found = inspect(gpt(V + 40), CHARACTERS, TEXT, top=50)
    assert any("" in row for row in found.top_tokens)
    assert "<i>none</i>" in page(found, "m")


def test_the_script_is_the_one_the_policy_lets_run():
    read = Page(page(inspect(MODELS["gpt"], CHARACTERS, TEXT), "m"))
    script = read.hidden[("script", None)]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = (v for _, name, v in read.attributes if name == "content" and "default-src" in v)
    assert policy == (
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-" + digest + "'"
    )


@pytest.mark.parametrize("name", ["gpt", "llama"])
def test_the_maps_on_the_page_are_the_weights(name):
    found = inspect(MODELS[name], CHARACTERS, TEXT)
    read = Page(page(found, "m"))
    shape = json.loads(read.hidden[("script", "shape")])
    steps = len(found.ids)
    layers, heads = len(found.attention), len(found.attention[0])
    assert shape == {"layers": layers, "heads": heads, "steps": steps}
    data = zlib.decompress(base64.b64decode(read.hidden[("script", "weights")]))
    assert len(data) == layers * heads * steps * (steps + 1) // 2
    for layer in range(layers):
        for head in range(heads):
            for q in range(steps):
                for k in range(q + 1):  # where the script looks
                    row = ((layer * heads + head) * (steps + 1) * steps) // 2 + q * (q + 1) // 2
                    weight = found.attention[layer][head, q, k]
                    assert abs(data[row + k] / 255 - weight) <= 0.5 / 255 + 1e-12


def test_a_page_stays_small():
    rng = np.random.default_rng(0)
    weights = tuple(rng.random((9, 60, 60)) for _ in range(30))  # which nothing can shorten
    assert len(packed(weights)) < 700_000


def test_the_token_that_came_is_marked():
    found = inspect(MODELS["gpt"], CHARACTERS, TEXT, top=3)
    articles = re.findall(r'<article id="p(\d+)">(.*?)</article>', page(found, "m"), re.DOTALL)
    assert [int(n) for n, _ in articles] == list(range(1, len(found.ids) + 1))
    for n, article in articles[:-1]:
        (row,) = re.findall(r'<tr class="came"><td>(\d+)<td>.*?<td>(\d+)<td', article, re.DOTALL)
        rank, i = (int(number) for number in row)
        assert (rank, i) == (found.ranks[int(n) - 1], found.ids[int(n)])
        assert article.count("<tr") == 1 + (3 if rank <= 3 else 4)
    assert "came" not in articles[-1][1]
    assert any(rank > 3 for rank in found.ranks)


def test_of_one_token_there_is_a_place_for_what_comes_next():
    read = Page(page(inspect(MODELS["gpt"], CHARACTERS, "t"), "m"))
    assert "p1" in read.ids
    assert "p0" not in read.ids


def test_what_lies_beside_the_page_is_installed_with_it():
    folder = Path(measures.__file__).parent
    setup = ConfigParser()
    setup.read(folder.parent.parent / "setup.cfg", "utf-8")
    beside = {path.name for path in folder.iterdir() if path.is_file() and path.suffix != ".py"}
    assert beside == set(setup["options.package_data"]["npllm.inspection"].split(", "))
