"""Vocabularies that come in packages of files."""

import fuzz_bpe
import pytest
from left_out import need


@pytest.fixture(scope="session")
def vocabulary():
    """What a function of fuzz_bpe gives; skips where its package is missing, unless required."""

    def of(name):
        try:
            return getattr(fuzz_bpe, name)()
        except ModuleNotFoundError as error:
            need(error.name)
            raise

    return of
