"""The rows by name, one file a subject; beside each row, how every contender does it."""

from benchmarks.row import Row
from benchmarks.rows import adamw, attention, lstm, pieces, product, transformers

ROWS: dict[str, Row] = {
    row.name: row
    for module in (product, lstm, transformers, attention, pieces, adamw)
    for row in module.ROWS
}
