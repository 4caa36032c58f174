"""Vectors of the built program beside a reference that shares no code with it: the published weights (model.safetensors) and
tokenizer (tokenizer.json) that the model's GGUF was converted from, run through Hugging Face's tokenizer and a BERT in float64.

    BERT: Devlin et al. 2018. Mean over tokens, then length 1: Reimers and Gurevych 2019. GELU with the error function, as published.
"""
import json
import math
import os
import pathlib
import subprocess
import sys

SKIPPED = 77
MODEL, BINARY = os.environ.get("DW_TEST_EMBEDDING_MODEL", ""), os.environ.get("DW_TEST_DRIFTWOOD", "")
if not MODEL or not pathlib.Path(BINARY).exists():
    print("skipped: no embedding model (DW_TEST_EMBEDDING_MODEL), or no program")
    sys.exit(SKIPPED)

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # products this small only wait for other threads
import numpy
import safetensors.numpy
import tokenizers

LEAST_COSINE = 0.999
# libllama's WordPiece drops all marks where BERT's drops only those without a width of their own, so Indic scripts lose vowel signs. This
# is shown beside the hundred, and must not get worse.
SPACING_MARKS, SPACING_MARKS_COSINE = "नई दिल्ली भारत की राजधानी है।", 0.95
N_HEADS, EPSILON = 12, 1e-12
error_function = numpy.vectorize(math.erf, otypes=[numpy.float64])


class Reference:
    def __init__(self, folder):
        self.tensors = {name: tensor.astype(numpy.float64) for name, tensor in safetensors.numpy.load_file(folder / "model.safetensors").items()
                        if tensor.dtype.kind == "f"}
        self.n_layers = 1 + max(int(name.split(".")[2]) for name in self.tensors if name.startswith("encoder.layer."))
        self.tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()
        self.tokenizer.encode_special_tokens = True  # "[MASK]" in a text is text, as it is for us

    def linear(self, name, x):
        return x @ self.tensors[name + ".weight"].T + self.tensors[name + ".bias"]

    def norm(self, name, x):
        centred = x - x.mean(axis=-1, keepdims=True)
        scaled = centred / numpy.sqrt((centred ** 2).mean(axis=-1, keepdims=True) + EPSILON)
        return scaled * self.tensors[name + ".weight"] + self.tensors[name + ".bias"]

    def attention(self, prefix, x):
        n, width = x.shape
        q, k, v = (self.linear(f"{prefix}.self.{part}", x).reshape(n, N_HEADS, -1).transpose(1, 0, 2) for part in ("query", "key", "value"))
        scores = q @ k.transpose(0, 2, 1) / math.sqrt(width // N_HEADS)
        weights = numpy.exp(scores - scores.max(axis=-1, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        y = self.linear(f"{prefix}.output.dense", (weights @ v).transpose(1, 0, 2).reshape(n, width))
        return self.norm(f"{prefix}.output.LayerNorm", x + y)

    def vector(self, tokens):
        t = self.tensors
        x = t["embeddings.word_embeddings.weight"][tokens] + t["embeddings.position_embeddings.weight"][:len(tokens)]
        x = self.norm("embeddings.LayerNorm", x + t["embeddings.token_type_embeddings.weight"][0])
        for i in range(self.n_layers):
            prefix = f"encoder.layer.{i}"
            x = self.attention(f"{prefix}.attention", x)
            y = self.linear(f"{prefix}.intermediate.dense", x)
            y = self.linear(f"{prefix}.output.dense", y * (1 + error_function(y / math.sqrt(2))) / 2)
            x = self.norm(f"{prefix}.output.LayerNorm", x + y)
        mean = x.mean(axis=0)
        return mean / numpy.linalg.norm(mean)


def main():
    sentences = pathlib.Path(__file__).with_name("sentences.txt").read_text(encoding="utf-8").splitlines()
    assert len(sentences) == 100 and len(set(sentences)) == 100
    reference = Reference(pathlib.Path(MODEL).parent)
    done = subprocess.run([BINARY, "embed", "--model", MODEL, "--threads", "1", "--json", "--", *sentences, SPACING_MARKS], capture_output=True, text=True, timeout=600)
    if done.returncode != 0:
        sys.exit(done.stderr)
    ours = json.loads(done.stdout)
    assert ours["normalized"] and ours["pooling"] == "mean" and ours["dimensions"] == 384 and len(ours["texts"]) == 101

    cosines, other_tokens = [], []
    for sentence, text in zip([*sentences, SPACING_MARKS], ours["texts"]):
        tokens = reference.tokenizer.encode(sentence).ids
        if len(tokens) != text["tokens"] and sentence != SPACING_MARKS:
            other_tokens.append((sentence, len(tokens), text["tokens"]))
        cosines.append(float(numpy.dot(reference.vector(tokens), numpy.array(text["vector"], numpy.float64))))
    marked = cosines.pop()
    least = min(range(100), key=cosines.__getitem__)
    print(f"100 sentences beside float64: cosine min {min(cosines):.7f}, mean {sum(cosines) / 100:.7f}; least: {sentences[least]!r}")
    for sentence, theirs, mine in other_tokens:
        print(f"  tokenized otherwise: {sentence!r}: {theirs} tokens in the reference, {mine} here")
    wrong = [(cosine, sentence) for cosine, sentence in zip(cosines, sentences) if not cosine >= LEAST_COSINE]
    for cosine, sentence in wrong:
        print(f"  {cosine:.6f}  {sentence!r}")
    print(f"  spacing marks, which libllama drops: {marked:.6f}")
    # The test would also see a wrong model: unlike sentences are far from each other.
    unlike = numpy.array(ours["cosine"])[numpy.triu_indices(100, 1)]
    assert unlike.mean() < 0.5
    return 1 if wrong or other_tokens or marked < SPACING_MARKS_COSINE else 0


if __name__ == "__main__":
    sys.exit(main())
