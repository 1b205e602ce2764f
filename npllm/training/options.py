"""What a training run is determined by."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from npllm.models import MODELS, LanguageModel
from npllm.optim import (
    SGD,
    Adam,
    AdamW,
    Optimizer,
    RMSprop,
    Schedule,
    constant,
    step_decay,
    warmup_cosine,
)
from npllm.text import Batches, BytePairTokenizer, ContiguousBatches, ShuffledWindows
from npllm.text.tokenizers import CharacterTokenizer, Ids, TrainedTokenizer, WordTokenizer


def _option(default: Any, group: str, text: str, choices: tuple[str, ...] = ()) -> Any:
    return field(default=default, metadata={"group": group, "help": text, "choices": choices})


# what a value may be, by the type of the default; None stands for a default found out later
_KINDS: dict[type, tuple[type, ...]] = {
    str: (str,),
    bool: (bool,),
    int: (int,),
    float: (float, int),
    type(None): (str,),
}


@dataclass(frozen=True)
class Options:
    """The options of a run, each with its default, what it means and what it may be.

    Raises:
        ValueError: a value is out of its range.
    """

    data: str | None = _option(
        None,
        "text",
        "UTF-8 text to learn from (default: the Python language reference, if none is named)",
    )
    model: str = _option(
        "lstm",
        "model",
        "architecture: lstm is section 5's; gpt and llama are Transformers",
        tuple(MODELS),
    )
    tokenizer: str = _option(
        "character",
        "text",
        "what a token is: a character; a frequent word, with rare ones spelled out; or a frequent "
        "piece of a word, in bytes (bpe)",
        ("character", "word", "bpe"),
    )
    vocab_size: int = _option(10_000, "text", "tokens at most, for words and bpe")
    embed_size: int = _option(256, "model", "width E of the embedding, of lstm")
    hidden_size: int = _option(256, "model", "width H of the LSTM, of lstm")
    width: int = _option(128, "model", "width E of gpt and llama")
    heads: int = _option(4, "model", "attention heads, of gpt and llama")
    kv_heads: int | None = _option(
        None, "model", "key and value heads that the heads share, of llama (default: as many)"
    )
    sliding_window: int | None = _option(
        None, "model", "how far back a token sees, itself included, of llama (default: all the way)"
    )
    context: int = _option(64, "model", "positions of gpt and llama, and the length of a window")
    layers: int = _option(1, "model", "layers, or blocks, on top of one another")
    dropout: float = _option(0.0, "model", "share of activations zeroed while training")
    tie_weights: bool = _option(
        False,
        "model",
        "use one matrix for embedding and output, of lstm (needs E = H) and llama; gpt always does",
    )
    optimizer: str = _option(
        "adam", "optimizer", "update rule", ("adam", "adamw", "sgd", "rmsprop")
    )
    lr: float = _option(4e-3, "optimizer", "learning rate, the highest of the schedule")
    momentum: float = _option(0.0, "optimizer", "of sgd and rmsprop")
    nesterov: bool = _option(False, "optimizer", "look ahead, with sgd and a momentum")
    weight_decay: float = _option(0.0, "optimizer", "pull of the weights towards zero")
    schedule: str = _option(
        "cosine",
        "optimizer",
        "of the learning rate: constant; step, a fall every decay_every steps; "
        "or cosine, a linear rise and a fall to a hundredth",
        ("constant", "step", "cosine"),
    )
    warmup: float = _option(0.02, "optimizer", "share of the steps in which cosine rises")
    decay: float = _option(0.1, "optimizer", "factor of the step schedule")
    decay_every: int = _option(200, "optimizer", "steps between two factors")
    clip: float = _option(
        1.0, "optimizer", "longest gradient (Euclidean norm over all parameters); 0: any"
    )
    batch_size: int = _option(32, "text", "B, sequences side by side")
    length: int = _option(64, "text", "T, tokens that a gradient reaches back, of lstm")
    windows: str | None = _option(
        None,
        "text",
        "batches: contiguous reads on with the state carried, shuffled draws windows (default: "
        "contiguous for lstm, shuffled for gpt and llama, which carry no state)",
        ("contiguous", "shuffled"),
    )
    held_out: float = _option(0.1, "text", "share of the text, its end, kept for validation")
    steps: int = _option(800, "run", "updates of the parameters")
    seed: int = _option(
        0, "run", "seed of every random draw: the same seed and threads give the same bits"
    )
    dtype: str = _option("float32", "run", "of all arithmetic", ("float32", "float64"))
    threads: int | None = _option(
        None,
        "run",
        "cores to use: shards of a batch, each on its thread (default: all, at most 4; 1 if small)",
    )
    log_every: int = _option(10, "run", "steps between two lines of metrics")
    eval_every: int = _option(100, "run", "steps between two validations")
    checkpoint_every: int = _option(100, "run", "steps between two checkpoints")

    def __post_init__(self) -> None:
        for option in fields(self):
            value, choices = getattr(self, option.name), option.metadata["choices"]
            whole = option.name in ("threads", "kv_heads", "sliding_window")
            kinds = (int,) if whole else _KINDS[type(option.default)]
            if type(value) not in kinds and value is not option.default:
                expected = " or ".join(kind.__name__ for kind in kinds)
                raise ValueError(f"{option.name} must be {expected}, got {value!r}")
            if choices and value not in choices and value is not option.default:
                raise ValueError(f"{option.name} must be one of {', '.join(choices)}, got {value}")
        positive = (
            "vocab_size embed_size hidden_size width heads kv_heads sliding_window context layers "
            "batch_size length steps threads log_every eval_every checkpoint_every decay_every"
        )
        for name in positive.split():
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        for name in ("clip", "lr", "momentum", "weight_decay", "decay", "seed"):
            if not 0 <= getattr(self, name) < np.inf:
                raise ValueError(f"{name} must be 0 or more, and finite, got {getattr(self, name)}")
        for name in ("warmup", "dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must lie in [0, 1), got {getattr(self, name)}")
        if not 0 < self.held_out < 1:
            raise ValueError(f"held_out must lie strictly between 0 and 1, got {self.held_out}")
        if self.momentum and self.optimizer not in ("sgd", "rmsprop"):
            raise ValueError(f"momentum is for sgd and rmsprop, not for {self.optimizer}")
        if self.nesterov and self.optimizer != "sgd":
            raise ValueError(f"nesterov is for sgd, not for {self.optimizer}")
        transformers = ("gpt", "llama")
        for name, chosen, wanted in (
            ("vocab_size", self.tokenizer, ("word", "bpe")),
            ("warmup", self.schedule, ("cosine",)),
            ("decay", self.schedule, ("step",)),
            ("decay_every", self.schedule, ("step",)),
            ("embed_size", self.model, ("lstm",)),
            ("hidden_size", self.model, ("lstm",)),
            ("length", self.model, ("lstm",)),
            ("tie_weights", self.model, ("lstm", "llama")),
            ("width", self.model, transformers),
            ("heads", self.model, transformers),
            ("context", self.model, transformers),
            ("kv_heads", self.model, ("llama",)),
            ("sliding_window", self.model, ("llama",)),
        ):
            if chosen not in wanted and getattr(self, name) != getattr(Options, name):
                known = " and ".join(wanted)
                raise ValueError(f"{name} is for {known}, and has no effect with {chosen}")
        if self.sliding_window is not None and self.sliding_window >= self.context:
            raise ValueError(
                f"sliding_window must be below context={self.context} to have an effect, got "
                f"{self.sliding_window}"
            )

    @property
    def window(self) -> int:
        """T, how many tokens a window has."""
        return self.length if self.model == "lstm" else self.context

    def make_tokenizer(self, train: str, text: str) -> TrainedTokenizer:
        """Return the tokenizer: words of the training part, characters of the whole text."""
        if self.tokenizer == "bpe":
            return BytePairTokenizer.train(train, self.vocab_size)
        if self.tokenizer == "word":
            return WordTokenizer.train(train, self.vocab_size, alphabet=text)
        return CharacterTokenizer.train(text)

    def model_config(self, vocab_size: int) -> dict[str, Any]:
        """Return what the model is made with."""
        common = {"vocab_size": vocab_size, "num_layers": self.layers, "dropout": self.dropout}
        if self.model == "lstm":
            sizes = {"embed_size": self.embed_size, "hidden_size": self.hidden_size}
            return {**common, **sizes, "tie_weights": self.tie_weights}
        sizes = {"width": self.width, "heads": self.heads, "context": self.context}
        if self.model == "gpt":
            return common | sizes
        own = {"window": self.sliding_window, "tie_weights": self.tie_weights}
        kv_heads = self.heads if self.kv_heads is None else self.kv_heads
        return {**common, **sizes, "kv_heads": kv_heads, **own}

    def make_model(self, vocab_size: int, rng: np.random.Generator) -> LanguageModel:
        """Return the model with fresh weights."""
        config = self.model_config(vocab_size)
        return MODELS[self.model](**config, seed=rng, dtype=np.dtype(self.dtype))

    def make_batches(self, ids: Ids, batch_size: int) -> Batches:
        """Return the batches of a text."""
        kind = self.windows or ("contiguous" if self.model == "lstm" else "shuffled")
        if kind == "shuffled":
            return ShuffledWindows(ids, batch_size, self.window, self.seed)
        return ContiguousBatches(ids, batch_size, self.window)

    def make_optimizer(self, model: LanguageModel) -> Optimizer:
        """Return the update rule of a model's parameters."""
        p, decay = model.parameters, self.weight_decay
        if self.optimizer == "sgd":
            return SGD(p, self.lr, self.momentum, weight_decay=decay, nesterov=self.nesterov)
        if self.optimizer == "rmsprop":
            return RMSprop(p, self.lr, weight_decay=decay, momentum=self.momentum)
        return {"adam": Adam, "adamw": AdamW}[self.optimizer](p, self.lr, weight_decay=decay)

    def make_schedule(self) -> Schedule:
        """Return the learning rate of each step."""
        if self.schedule == "constant":
            return constant(self.lr)
        if self.schedule == "step":
            return step_decay(self.lr, self.decay_every, self.decay)
        return warmup_cosine(self.lr, int(self.warmup * self.steps), self.steps, self.lr / 100)
