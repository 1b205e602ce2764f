"""What a model makes of a text: its measures, and the page that shows them."""

from npllm.inspection.measures import MOST_TOKENS, Inspection, inspect
from npllm.inspection.page import page
from npllm.inspection.translation import inspect_translation, translation_page

__all__ = [
    "MOST_TOKENS",
    "Inspection",
    "inspect",
    "inspect_translation",
    "page",
    "translation_page",
]
