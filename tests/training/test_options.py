"""Options: each is checked, and none goes unexplained."""

from dataclasses import fields

import numpy as np
import pytest

from npllm import optim
from npllm.models import LSTMLanguageModel
from npllm.text import CharacterTokenizer, ContiguousBatches, ShuffledWindows, WordTokenizer
from npllm.training import LanguageModellingOptions as Options

NAN, INF = float("nan"), float("inf")
SIZES = [
    *("vocab_size", "embed_size", "hidden_size", "layers", "batch_size", "length", "steps"),
    *("threads", "log_every", "eval_every", "checkpoint_every", "decay_every"),
    "accumulate",
]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, value) for name in SIZES for value in (0, -1)),
        *(
            (name, value)
            for name in ("clip", "lr", "momentum", "weight_decay", "decay")
            for value in (-0.1, NAN, INF)
        ),
        *((name, value) for name in ("warmup", "dropout") for value in (-0.1, 1.0, NAN)),
        *(("held_out", value) for value in (0.0, 1.0, -0.1, NAN)),
        ("seed", -1),
        *(
            (name, "other")
            for name in ("model", "tokenizer", "optimizer", "schedule", "windows", "dtype")
        ),
    ],
)
def test_values_out_of_range_are_refused(name, value):
    with pytest.raises(ValueError, match=name) as error:
        Options(**{name: value})
    assert str(value) in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_a_batch_has_no_more_parts_than_rows():
    assert Options(batch_size=4, accumulate=4).accumulate == 4
    with pytest.raises(ValueError, match="accumulate must be at most batch_size=4, got 5"):
        Options(batch_size=4, accumulate=5)


def test_every_option_is_explained_and_in_a_group():
    for option in fields(Options):
        assert option.metadata["help"], option.name
        assert option.metadata["group"] in {"text", "model", "optimizer", "run"}, option.name
        choices = option.metadata["choices"]
        assert not choices or option.default in (*choices, None), option.name
    assert Options() == Options()


@pytest.mark.parametrize(
    ("name", "kind", "options"),
    [
        ("adam", optim.Adam, {}),
        ("adamw", optim.AdamW, {"weight_decay": 0.1}),
        ("sgd", optim.SGD, {"momentum": 0.9, "nesterov": True}),
        ("rmsprop", optim.RMSprop, {"momentum": 0.9}),
    ],
)
def test_optimizers(name, kind, options):
    model = LSTMLanguageModel(3, 2, 2)
    made = Options(optimizer=name, lr=0.5, **options).make_optimizer(model)
    assert type(made) is kind
    assert made.lr == 0.5
    assert made.vector is model.parameters.vector
    assert {option: getattr(made, option) for option in options} == options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"vocab_size": 500},
            "vocab_size is for word and jieba and bpe and whitespace, and has no effect",
        ),
        ({"width": 64}, "width is for gpt and llama, and has no effect with lstm"),
        ({"kv_heads": 2, "model": "gpt"}, "kv_heads is for llama, and has no effect with gpt"),
        ({"sliding_window": 8, "model": "gpt"}, "sliding_window is for llama, and has no effect"),
        ({"sliding_window": 64, "model": "llama"}, "sliding_window must be below context=64"),
        ({"hidden_size": 64, "model": "llama"}, "hidden_size is for lstm"),
        ({"length": 32, "model": "gpt"}, "length is for lstm, and has no effect with gpt"),
        ({"tie_weights": True, "model": "gpt"}, "tie_weights is for lstm and llama"),
        ({"decay": 0.5}, "decay is for step, and has no effect with cosine"),
        ({"decay_every": 5, "schedule": "constant"}, "decay_every is for step"),
        ({"warmup": 0.5, "schedule": "step"}, "warmup is for cosine, and has no effect with step"),
    ],
)
def test_an_option_without_effect_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Options(**options)


def test_models():
    options = Options(
        embed_size=6, hidden_size=6, layers=2, dropout=0.1, tie_weights=True, dtype="float64"
    )
    model = options.make_model(5, np.random.default_rng(0))
    assert model.config == {
        "vocab_size": 5,
        "embed_size": 6,
        "hidden_size": 6,
        "num_layers": 2,
        "dropout": 0.1,
        "tie_weights": True,
    }
    assert model.parameters.vector.dtype == np.float64


def test_a_llama_has_heads_and_a_window_of_its_own():
    options = Options(model="llama", width=16, heads=4, kv_heads=2, sliding_window=3, context=8)
    config = options.make_model(5, np.random.default_rng(0)).config
    assert (config["kv_heads"], config["window"], config["context"]) == (2, 3, 8)
    config = Options(model="llama", width=16).make_model(5, np.random.default_rng(0)).config
    assert (config["kv_heads"], config["window"]) == (4, None)


def test_tokenizers_and_batches():
    characters = Options().make_tokenizer("aab", "aabc")
    words = Options(tokenizer="word", vocab_size=9).make_tokenizer("go go go went", "go go ?")
    assert isinstance(characters, CharacterTokenizer)
    assert characters.vocabulary == ("a", "b", "c")
    assert isinstance(words, WordTokenizer)
    assert words.vocabulary == (*" ?egnotw", " go")
    ids = np.arange(100)
    assert isinstance(Options(length=3).make_batches(ids, 2), ContiguousBatches)
    one, other = (
        Options(length=3, windows="shuffled", seed=seed).make_batches(ids, 2) for seed in (0, 1)
    )
    assert one[0].ids.shape == (2, 3)
    assert isinstance(one, ShuffledWindows)
    assert not np.array_equal(one[0].ids, other[0].ids)
