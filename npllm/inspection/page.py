"""An inspection as one page of HTML that needs no network, and no script for its tables.

What the user or the model wrote reaches the page through :func:`visible` or ``html.escape`` only.
The script draws the attention maps, from weights in a byte each, and shows one place at a time. A
policy in the page forbids whatever is not in it, and any script but this one, known by its hash.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import zlib
from collections.abc import Iterator
from html import escape
from importlib.resources import files
from itertools import chain

import numpy as np

from npllm.inspection.measures import Inspection
from npllm.layers.arrays import Array

_HOTTEST = 12.0  # bits from which on a token has the full colour
_CONTEXT = 8  # tokens before a place that are shown with it
_SIGNS = {" ": "·", "\n": "↵", "\t": "⇥", "\r": "␍"}
_GATES = ("input", "forget", "output")


def page(found: Inspection, name: str) -> str:
    """Return the page of an inspection.

    Args:
        found: what is shown.
        name: of the model, as the user gave it.
    """
    script = _beside("page.js")
    parts = [
        *beginning(
            f"{name} reads a text",
            f"What <b>{escape(name)}</b> makes of a text",
            found.model,
            script,
        ),
        _facts(found),
        *_text(found),
        *_places(found),
        *(_attention(found) if found.attention else _gates(found)),
        *_table(found),
        "</main>",
        f"<script>{script}</script>",
        "</body></html>",
    ]
    return "\n".join(parts) + "\n"


def beginning(title: str, heading: str, model: str, script: str | None = None) -> list[str]:
    """Return how a page begins, up to its first section.

    Args:
        title: plain text.
        heading: HTML.
        model: what it is, in a line.
        script: the only one that may run; none where None.
    """
    allowed = "'none'" if script is None else f"'sha256-{_digest(script)}'"
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src {allowed}"
    return [
        "<!DOCTYPE html>",
        '<html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark">',
        f"<title>{escape(title)}</title>",
        f"<style>{_beside('page.css')}</style></head><body>",
        f"<header><h1>{heading}</h1>",
        f"<p>{escape(model)}</p></header><main>",
    ]


def visible(text: str) -> str:
    """Return a token's text as HTML, with a sign for whatever would not be seen.

    >>> visible("a b")
    'a<i>·</i>b'
    >>> visible("<b>"), visible(chr(0)), visible(chr(0xDCE9))
    ('&lt;b&gt;', '<i>U+0000</i>', '<i>xE9</i>')
    """
    return "".join(map(_visible_character, text)) or "<i>none</i>"


def packed(weights: tuple[Array, ...]) -> str:
    """Return attention weights in a byte each: round(255 w), deflated, in base64.

    Layer by layer, head by head, row t of a head is its tokens 0 to t: none sees a later one.

    >>> whole = np.array([[[1.0, 0.0], [0.25, 0.75]]])  # a head that reads two tokens
    >>> list(zlib.decompress(base64.b64decode(packed((whole,)))))
    [255, 64, 191]
    """
    seen = np.tril_indices(weights[0].shape[-1])
    rows = [np.rint(255 * layer[:, seen[0], seen[1]]).astype(np.uint8) for layer in weights]
    return base64.b64encode(zlib.compress(np.stack(rows).tobytes())).decode("ascii")


def _chip(token: str) -> str:
    return f'<span class="t">{visible(token)}</span>'


def _visible_character(c: str) -> str:
    if c in _SIGNS:
        return f"<i>{_SIGNS[c]}</i>"
    if "\udc80" <= c <= "\udcff":  # a byte that is no UTF-8 by itself
        return f"<i>x{ord(c) - 0xDC00:02X}</i>"
    return escape(c) if c.isprintable() else f"<i>U+{ord(c):04X}</i>"


def _facts(found: Inspection) -> str:
    """Return the measures of the whole text."""
    whole = found.whole
    facts = {
        "tokens": str(len(found.ids)),
        "mean loss": f"{_number(whole.loss)} nats",
        "in bits": f"{_number(whole.loss / math.log(2))} a token",
        "over the characters": f"{_number(whole.bits_per_character)} bits each",
        "perplexity": _number(whole.perplexity),
    }
    rows = (f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts.items())
    return f"<dl>{''.join(rows)}</dl>"


def _text(found: Inspection) -> Iterator[str]:
    """Yield the text as a strip of tokens, coloured by their bits; each leads to its place."""
    yield '<section><h2>The text</h2><p class="hint">The stronger its colour, the less the model'
    yield f' expected a token: <span class="scale"></span> 0 to {_HOTTEST:.0f} bits and more.'
    yield ' The first is not predicted. <span class="js-only">Choose a token, or go on with the'
    yield ' arrow keys.</span></p><p class="strip" id="text">'
    yield f'<a class="t first" href="#p1" title="id {found.ids[0]}">{visible(found.tokens[0])}</a>'
    yield _break(found.tokens[0])
    for place, (token, bits) in enumerate(zip(found.tokens[1:], found.bits, strict=True), 1):
        hot = min(bits / _HOTTEST, 1)
        title = (
            f"id {found.ids[place]}: {bits:.2f} bits = {found.nats[place - 1]:.2f} nats, "
            f"rank {found.ranks[place - 1]}"
        )
        yield f'<a class="t" href="#p{place}" style="--w:{hot:.2f}" title="{title}">'
        yield f"{visible(token)}</a>{_break(token)}"
    yield f'<a class="t end" href="#p{len(found.ids)}" title="what comes next?">?</a></p></section>'


def _break(token: str) -> str:
    return "<br>" if "\n" in token else ""


def _places(found: Inspection) -> Iterator[str]:
    """Yield what was expected at each place but the first; the last is what comes next."""
    yield '<section id="places"><h2>What it expected</h2>'
    for place in range(1, len(found.ids) + 1):
        before = found.tokens[max(0, place - _CONTEXT) : place]
        yield f'<article id="p{place}"><h3>'
        yield f"Place {place}, after{' …' if place > _CONTEXT else ''} "
        yield f"{''.join(map(_chip, before))}</h3>"
        yield '<table class="top"><thead><tr><th>rank<th>token<th>id<th>probability<th>bits'
        yield "<tbody>"
        came = int(found.ids[place]) if place < len(found.ids) else -1
        rows = list(
            zip(
                range(1, found.top_ids.shape[1] + 1),
                found.top_tokens[place - 1],
                found.top_ids[place - 1].tolist(),
                found.top_log_probabilities[place - 1].tolist(),
                strict=True,
            )
        )
        if came >= 0 and (rank := int(found.ranks[place - 1])) > len(rows):
            log_p = float(found.log_probabilities[place - 1])
            rows.append((rank, found.tokens[place], came, log_p))
        for rank, token, i, log_p in rows:
            mark = ' class="came"' if i == came else ""
            p = math.exp(log_p)
            yield f"<tr{mark}><td>{rank}<td>{_chip(token)}"
            yield f'{" <b>came</b>" if mark else ""}<td>{i}<td class="bar" style="--w:{p:.3f}">'
            yield f"{_percent(p)}<td>{_number(-log_p / math.log(2))}"
        yield "</table></article>"
    yield "</section>"


def _attention(found: Inspection) -> Iterator[str]:
    """Yield the place where the script draws the attention maps, and the weights."""
    layers, (heads, steps, _) = len(found.attention), found.attention[0].shape
    shape = json.dumps({"layers": layers, "heads": heads, "steps": steps})
    yield '<section id="attention"><h2>What it looked at</h2>'
    yield '<noscript><p class="hint">The attention maps need JavaScript.</p></noscript>'
    yield '<div class="js-only"><p class="hint">A row is a token that looks, a column a token that'
    yield " is looked at; what comes later is hidden. The colour grows with the square root of the"
    yield " weight, so that small ones show. Choose a layer, a head, and a token that looks.</p>"
    yield f'<p><label>Layer <input type="range" id="layer" min="0" max="{layers - 1}" value="0">'
    yield f'</label> <output id="layer-shown">0</output> / {layers - 1}</p>'
    yield '<div id="heads"></div><div class="pair"><div><canvas id="map" role="img"></canvas>'
    yield '<p class="hint" id="cell">&nbsp;</p></div><div><p id="looks"></p>'
    yield '<ol id="most"></ol><p class="strip" id="seen"></p></div></div>'
    yield '<p class="hint" id="failed" hidden>This browser cannot unpack the maps: it lacks'
    yield " DecompressionStream.</p></div>"
    yield f'<script type="application/json" id="shape">{shape}</script>'
    yield f'<script type="text/plain" id="weights">{packed(found.attention)}</script></section>'


def _gates(found: Inspection) -> Iterator[str]:
    """Yield what a model without attention has in its place."""
    yield "<section><h2>What it kept</h2>"
    if not found.gates:
        yield '<p class="hint">This model has no attention, and no gates.</p></section>'
        return
    yield '<p class="hint">An LSTM has no attention: all it knows of the text is its state. After'
    yield " each token these are the means of its gates over a layer's cells: how much of the token"
    yield " it lets in, of the old state it keeps (forget: 1 keeps all), and of the new one it"
    yield ' shows.</p><div class="wide"><table class="gates"><thead><tr><th><th>'
    yield "".join(f'<th colspan="3">layer {n}' for n in range(len(found.gates)))
    yield "<tr><th>place<th>token"
    yield "".join(f"<th>{gate}" for _ in found.gates for gate in _GATES)
    yield "<tbody>"
    for place, token in enumerate(found.tokens):
        yield f"<tr><td>{place}<td>{_chip(token)}"
        values = chain.from_iterable(layer[place].tolist() for layer in found.gates)
        yield "".join(f'<td class="bar" style="--w:{value:.3f}">{value:.3f}' for value in values)
    yield "</table></div></section>"


def _table(found: Inspection) -> Iterator[str]:
    """Yield the numbers of all tokens."""
    yield "<section><details><summary>All tokens in a table</summary>"
    yield '<div class="wide"><table id="all"><thead><tr><th>place<th>id<th>token<th>nats<th>bits'
    yield "<th>probability<th>rank<th>likeliest<tbody>"
    for place, token in enumerate(found.tokens):
        yield f"<tr><td>{place}<td>{found.ids[place]}<td>{_chip(token)}"
        if place == 0:
            yield "<td>-" * 5
            continue
        nats, bits = (float(x[place - 1]) for x in (found.nats, found.bits))
        yield f'<td>{nats:.4f}<td class="bar" style="--w:{min(bits / _HOTTEST, 1):.2f}">{bits:.4f}'
        yield f"<td>{_percent(math.exp(-nats))}<td>{found.ranks[place - 1]}"
        yield f"<td>{_chip(found.top_tokens[place - 1][0])}"
    yield "</table></div></details></section>"


def _number(value: float) -> str:
    """Return a number in a few digits; a dash for none.

    >>> _number(1.23456), _number(-0.0), _number(123456.7), _number(math.nan)
    ('1.235', '0.000', '1.235e+05', '-')
    """
    if math.isnan(value):
        return "-"
    value += 0.0  # no -0
    return f"{value:.3f}" if abs(value) < 10_000 else f"{value:.3e}"


def _percent(p: float) -> str:
    """Return a probability in percent.

    >>> _percent(0.1234), _percent(0.00012)
    ('12.34 %', '1.2e-02 %')
    """
    return f"{100 * p:.2f} %" if p >= 0.001 or p == 0 else f"{100 * p:.1e} %"


def _beside(name: str) -> str:
    """Return the text of a file beside this one, as it stands in its element: on its own lines."""
    return "\n" + (files(__package__) / name).read_text("utf-8")


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
