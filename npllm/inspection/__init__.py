"""What a model makes of a text: its measures, and the page that shows them."""

from npllm.inspection.measures import MOST_TOKENS, Inspection, inspect
from npllm.inspection.page import page

__all__ = ["MOST_TOKENS", "Inspection", "inspect", "page"]
