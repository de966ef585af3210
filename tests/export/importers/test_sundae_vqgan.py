"""export/importers/sundae_vqgan.py: the original's quirks one by one, its own logits, and what is refused.

The original's files are too large to lie here; GENFAST_REFERENCE names a folder that has them, in sv-a.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from export.importers.sundae_net import NetConfig, SundaePrior
from export.importers.sundae_vqgan import described, load, sundae, write_graphs
from genfast.bundles import bundle
from genfast.errors import InputError, UsageError
from genfast.runtime.session import Session
from genfast.samplers.options import SundaeOptions
from tests.export.importers.reference import whole

ROOT = Path(__file__).parents[3]
SIDE, VOCABULARY, DIM, HEADS, SHORTEN = 4, 12, 8, 2, 4
NET = {"dim": DIM, "heads": HEADS, "depth": [1, 2, 1], "shorten_factor": SHORTEN, "dim_head": 64}


def prior(side: int = SIDE, vocabulary: int = VOCABULARY, classes: int = 0) -> SundaePrior:
    """A prior of random weights, large enough that every quirk is seen in its logits."""
    torch.manual_seed(0)
    config = NetConfig(
        vocabulary=vocabulary,
        dim=DIM,
        heads=HEADS,
        depths=(1, 2, 1),
        shorten=SHORTEN,
        side=side,
        resampling=True,
        rotary=True,
        classes=classes,
    )
    network = SundaePrior(config)
    for name, value in network.named_buffers():
        value.copy_(torch.linspace(1, (2 if "valley_transformer" in name else 16) / 2, 16) * torch.pi)
    return network.eval().requires_grad_(False)


def save(path: Path, network: SundaePrior, **more: object) -> Path:
    torch.save({"net": network.state_dict(), "opt": {"state": {}}, "nb_updates": 7, **more}, path)
    return path


# An implementation by loops over tokens and numbers, of the facts as they are written down.


def norm(x: np.ndarray, state: dict[str, np.ndarray], name: str) -> np.ndarray:
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt(x.var(-1, keepdims=True) + 1e-5) * state[f"{name}.weight"] + state[f"{name}.bias"]


def linear(x: np.ndarray, state: dict[str, np.ndarray], name: str) -> np.ndarray:
    return x @ state[f"{name}.weight"].T + state.get(f"{name}.bias", 0)


def turned(vectors: np.ndarray, freqs: np.ndarray) -> np.ndarray:
    """The first 64 numbers of each vector, before heads: 32 by its row, 32 by its column, in neighbouring pairs."""
    side = round(len(vectors) ** 0.5)
    result = vectors.copy()
    for place in range(len(vectors)):
        for axis, position in enumerate(np.linspace(-1, 1, side)[list(divmod(place, side))]):
            for pair, frequency in enumerate(freqs):
                first = 32 * axis + 2 * pair
                a, b = vectors[place, first : first + 2]
                angle = position * frequency
                result[place, first] = a * np.cos(angle) - b * np.sin(angle)
                result[place, first + 1] = b * np.cos(angle) + a * np.sin(angle)
    return result


def layer(x: np.ndarray, context: np.ndarray | None, state: dict[str, np.ndarray], name: str) -> np.ndarray:
    """Attention and a feed-forward net, of vectors (N, C)."""
    normal = norm(x, state, f"{name}.0.norm")
    q, kv = linear(normal, state, f"{name}.0.fn.to_q"), normal if context is None else context
    k, v = np.split(linear(kv, state, f"{name}.0.fn.to_kv"), 2, axis=1)
    if context is None:
        freqs = state[name.partition(".layers")[0] + ".rotary_pos_emb.freqs"]
        q, k = turned(q, freqs), turned(k, freqs)
    heads = []
    for h in range(HEADS):
        part = slice(64 * h, 64 * h + 64)
        weights = np.exp(q[:, part] @ k[:, part].T / 8)
        heads.append(weights / weights.sum(1, keepdims=True) @ v[:, part])
    x = x + linear(np.concatenate(heads, 1), state, f"{name}.0.fn.to_out")
    hidden = torch.nn.functional.gelu(
        torch.from_numpy(linear(norm(x, state, f"{name}.1.norm"), state, f"{name}.1.fn.0"))
    )
    return x + linear(hidden.numpy(), state, f"{name}.1.fn.3")


def logits(tokens: np.ndarray, state: dict[str, np.ndarray]) -> np.ndarray:
    x = layer(state["token_emb.weight"][tokens], None, state, "transformer.pre_transformer.layers.0")
    grid = x.reshape(SIDE, SIDE, DIM)
    squares = [
        [grid[2 * row + r, 2 * column + c, d] for d in range(DIM) for r in range(2) for c in range(2)]
        for row in range(SIDE // 2)
        for column in range(SIDE // 2)
    ]
    short = linear(np.array(squares), state, "transformer.downsample.proj")
    pre, post = (f"transformer.attn_resampling_{which}_valley.layers.0" for which in ("pre", "post"))
    short = np.concatenate([layer(short[i : i + 1], x[4 * i : 4 * i + 4], state, pre) for i in range(len(short))])
    for i in range(2):
        short = layer(short, None, state, f"transformer.valley_transformer.layers.{i}")
    wide = linear(short, state, "transformer.upsample.proj")
    added = np.zeros((SIDE, SIDE, DIM))
    for i, numbers in enumerate(wide):
        row, column = divmod(i, SIDE // 2)
        for d in range(DIM):
            for r in range(2):
                for c in range(2):
                    added[2 * row + r, 2 * column + c, d] = numbers[4 * d + 2 * r + c]
    x = x + added.reshape(-1, DIM)
    x = np.concatenate([layer(x[4 * i : 4 * i + 4], short[i : i + 1], state, post) for i in range(len(short))])
    x = layer(x, None, state, "transformer.post_transformer.layers.0")
    return linear(norm(x, state, "transformer.norm_out"), state, "to_logits")


def test_logits_are_those_of_a_plain_implementation() -> None:
    network = prior()
    tokens = torch.randint(VOCABULARY, (2, SIDE**2))
    state = {name: value.double().numpy() for name, value in network.state_dict().items()}
    wanted = np.stack([logits(row, state) for row in tokens.numpy()])
    np.testing.assert_allclose(network(tokens), wanted, atol=1e-5)


def test_what_follows_the_valley_does_not_ask() -> None:
    network = prior()
    tokens = torch.randint(VOCABULARY, (1, SIDE**2))
    before = network(tokens)
    resampling = network.transformer.attn_resampling_post_valley
    resampling.layers[0][0].fn.to_q.weight.mul_(7)
    torch.testing.assert_close(network(tokens), before)


def test_logits_are_the_originals() -> None:
    folder = whole("sv-a")
    network = load(folder / "sundae.pt", folder / "config.json", 16)
    with np.load(folder / "io.npz") as io:
        np.testing.assert_allclose(network(torch.from_numpy(io["tokens"])), io["logits"], atol=1e-4)


def test_weights_tell_what_the_network_is(tmp_path: Path) -> None:
    network = prior(classes=3)
    path = save(tmp_path / "prior.pt", network)
    assert load(path, None, SIDE).config == network.config
    assert described(network.state_dict(), path, SIDE) == network.config


def test_the_last_label_adds_nothing(tmp_path: Path) -> None:
    network = load(save(tmp_path / "prior.pt", prior(classes=3)), None, SIDE)
    tokens = torch.randint(VOCABULARY, (2, SIDE**2))
    network.class_emb.weight[2].zero_()
    torch.testing.assert_close(network(tokens, torch.tensor([3, 3])), network(tokens, torch.tensor([2, 2])))
    assert not torch.allclose(network(tokens, torch.tensor([0, 0])), network(tokens, torch.tensor([1, 1])))


def test_graphs_compute_logits_exactly(tmp_path: Path) -> None:
    """The output layer is not rounded, as that of our own priors is."""
    network = prior(classes=2)
    write_graphs(network, tmp_path)
    tokens = torch.randint(VOCABULARY, (1, SIDE**2)).repeat(2, 1)
    label = np.array([0, 2])
    inputs = {"tokens": tokens.numpy(), "label": label}
    hidden = Session(tmp_path / "predict.onnx", "cpu").run(**inputs, known=np.zeros((2, SIDE**2), bool))["hidden"]
    distribution = network(tokens, torch.from_numpy(label)).double().softmax(2).cumsum(2).numpy()  # (2, N, V)
    graph = Session(tmp_path / "draw.onnx", "cpu")
    for share in (0.001, 0.3, 0.6, 0.999):
        drawn = graph.run(
            hidden=hidden,
            tokens=tokens.numpy(),
            update=np.ones((2, SIDE**2), bool),
            temperature=np.ones(2, np.float32),
            uniform=np.full((2, SIDE**2), share, np.float32),
            return_prob=np.ones(2, bool),
            logit_bias=np.zeros((2, SIDE**2, 1), np.float32),
        )
        expected = (distribution < share).sum(2)
        np.testing.assert_array_equal(drawn["drawn"], expected)
        before = np.concatenate([np.zeros((2, SIDE**2, 1)), distribution], 2)
        mass = np.take_along_axis(np.diff(before, axis=2), expected[..., None], 2)[..., 0]
        np.testing.assert_allclose(drawn["probability"], mass, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"net": {}}, "holds no tensors"),
        ({"net": [1]}, "holds a list where tensors by name were expected"),
        ({"net": {"a": torch.zeros(1)}}, "holds no prior of sundae-vqgan: it has no matrix token_emb.weight"),
        ({"net": {"token_emb.weight": torch.zeros(1)}}, "it has no matrix token_emb.weight"),
        ("transformer.downsample.proj.weight", "it has no matrix transformer.downsample.proj.weight"),
        ("to_logits.bias", "it lacks to_logits.bias"),
        (
            "transformer.post_transformer.rotary_pos_emb.freqs",
            "it lacks transformer.post_transformer.rotary_pos_emb.fr",
        ),
        ("extra", "it holds the unknown extra"),
    ],
)
def test_a_file_of_another_network(tmp_path: Path, change: dict[str, object] | str, message: str) -> None:
    path = save(tmp_path / "prior.pt", network := prior())
    if isinstance(change, str):
        state = network.state_dict()
        state[change] = state.pop(change, torch.zeros(1)) if change == "extra" else None
        change = {"net": {name: value for name, value in state.items() if value is not None}}
    save(path, network, **change)
    with pytest.raises(InputError, match=message) as caught:
        load(path, None, SIDE)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_grid_that_cannot_be_shortened(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="shortens by 4 tokens, which a grid of 5x5 cannot be cut into"):
        load(save(tmp_path / "prior.pt", prior()), None, 5)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.json", "{", "is no configuration of sundae-vqgan: a JSON or TOML file with"),
        ("a.toml", "net = [", "is no configuration of sundae-vqgan"),
        ("a.json", "[1]", "is no configuration of sundae-vqgan"),
        ("a.json", '{"net": 3}', "is no configuration of sundae-vqgan"),
        (
            "a.json",
            json.dumps({"net": NET | {"dim": "wide"}}),
            "is not understood: net.dim: Input should be a valid int",
        ),
        ("a.json", json.dumps({"net": NET | {"depth": [2, [2, 4, 2], 2]}}), "is not understood: net.depth"),
        ("a.json", json.dumps({"net": NET | {"dim": 16}}), "says dim 16, and .*prior.pt holds a network of 8"),
        ("a.toml", "[net]\nnb_heads = 4", "says heads 4, and .*prior.pt holds a network of 2"),
        ("a.toml", "[net]\ndim = 8\n[data]\nvocab_size = 99", "says vocabulary 99, and .* of 12"),
        ("a.json", json.dumps({"net": NET | {"depth": [1, 3, 1]}}), r"says depths \(1, 3, 1\), and .* of \(1, 2, 1\)"),
    ],
)
def test_a_configuration_that_does_not_fit(tmp_path: Path, name: str, text: str, message: str) -> None:
    path = save(tmp_path / "prior.pt", prior())
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        load(path, tmp_path / name, SIDE)
    assert "\n" not in str(caught.value)


def test_configurations_that_fit(tmp_path: Path) -> None:
    path = save(tmp_path / "prior.pt", prior())
    (tmp_path / "a.json").write_text(json.dumps({"net": NET, "vqgan": {}}))
    (tmp_path / "a.toml").write_text("[net]\ndim = 8\nnb_heads = 2\nuse_rotary = true\n[data]\nvocab_size = 12")
    for name in "a.json", "a.toml":
        assert load(path, tmp_path / name, SIDE).config == prior().config


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "export", "import", "sundae", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.mark.slow
def test_a_prior_and_an_imported_vqgan_draw_and_fill(vq: Path, tmp_path: Path, cli) -> None:
    checkpoint = save(tmp_path / "prior.pt", prior(side=16, vocabulary=64))
    (tmp_path / "config.json").write_text(json.dumps({"net": NET}))
    out = tmp_path / "pair"
    done = run(checkpoint, out, "--vqgan", vq, "--config", tmp_path / "config.json", "--name", "pair")
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    manifest = bundle.load(out).manifest
    assert (manifest.family, manifest.sampling.options) == ("vq-sundae", SundaeOptions(steps=50))
    assert max(manifest.parity.max_abs_difference.values()) <= manifest.parity.tolerance == 1e-4
    assert "CC0-1.0 (the VQ-GAN)" in manifest.licence and "made here" in manifest.provenance.notes
    for sampler in ([], ["--sampler", "maskgit"], ["--sampler", "random-order"]):
        drawn = cli("sample", "--model", out, "-n", 2, "--steps", 4, "--out", "drawn", "--overwrite", *sampler)
        assert (drawn.returncode, drawn.stderr) == (0, "")
    folder = tmp_path / "cwd"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)).save(folder / "a.png")
    mask = np.zeros((32, 32), np.uint8)
    mask[8:20, 8:20] = 255
    Image.fromarray(mask).save(folder / "mask.png")
    filled = cli("inpaint", "a.png", "mask.png", "--model", out, "--steps", 4, "-n", 2)
    assert (filled.returncode, filled.stderr) == (0, "")
    pixels, original = (np.asarray(Image.open(folder / name)) for name in ("a.inpainted-1.png", "a.png"))
    np.testing.assert_array_equal(pixels[mask == 0], original[mask == 0])
    assert (pixels != original).any()


def test_vqgans_that_do_not_fit(vq: Path, token_bundle: Path, tmp_path: Path) -> None:
    checkpoint = save(tmp_path / "prior.pt", prior(side=16))
    done = run(checkpoint, tmp_path / "out", "--vqgan", vq)
    assert done.returncode == 3 and done.stderr.count("\n") == 1
    assert "prior.pt is a prior over 12 tokens, and " in done.stderr and "noise has 64" in done.stderr
    with pytest.raises(UsageError, match="squares is of family vq-sundae, not vq"):
        sundae(checkpoint, tmp_path / "out", token_bundle)
    assert not (tmp_path / "out").exists()
