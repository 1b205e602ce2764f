"""The rows by name, one file a subject; beside each row, how every contender does it."""

from benchmarks.row import Row
from benchmarks.rows import lstm, product, transformers

ROWS: dict[str, Row] = {
    row.name: row for module in (product, lstm, transformers) for row in module.ROWS
}
