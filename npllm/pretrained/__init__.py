"""Public models: GGUF files and transformers' directories, to npllm's GPT, Llama, BERT and back."""

from npllm.pretrained.chat import Chat
from npllm.pretrained.directory import save_pretrained
from npllm.pretrained.gguf import GGUFFile
from npllm.pretrained.loading import Pretrained, load_pretrained, smollm2_path
from npllm.pretrained.sentences import SentenceEncoder, minilm_path, sentence_encoder
from npllm.safetensors_file import SafetensorsFile
from npllm.tensor_file import TensorInfo

__all__ = [
    "Chat",
    "GGUFFile",
    "Pretrained",
    "SafetensorsFile",
    "SentenceEncoder",
    "TensorInfo",
    "load_pretrained",
    "minilm_path",
    "save_pretrained",
    "sentence_encoder",
    "smollm2_path",
]
