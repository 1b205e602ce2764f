"""Public models: GGUF files and transformers' directories, to npllm's GPT and Llama and back."""

from npllm.pretrained.chat import Chat
from npllm.pretrained.directory import save_pretrained
from npllm.pretrained.gguf import GGUFFile
from npllm.pretrained.loading import Pretrained, load_pretrained, smollm2_path
from npllm.safetensors_file import SafetensorsFile
from npllm.tensor_file import TensorInfo

__all__ = [
    "Chat",
    "GGUFFile",
    "Pretrained",
    "SafetensorsFile",
    "TensorInfo",
    "load_pretrained",
    "save_pretrained",
    "smollm2_path",
]
