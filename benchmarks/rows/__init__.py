"""The rows by name, one file a subject; beside each row, how every contender does it."""

from benchmarks.row import Row
from benchmarks.rows import (
    adamw,
    attention,
    bpe,
    decoding,
    lstm,
    pieces,
    product,
    transformers,
)

ROWS: dict[str, Row] = {
    row.name: row
    for module in (product, lstm, transformers, attention, pieces, adamw, bpe, decoding)
    for row in module.ROWS
}
