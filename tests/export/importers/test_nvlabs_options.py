"""What NVlabs' files do not say: schedules against the original's, sizes told by shapes, options that are refused."""

from pathlib import Path

import numpy as np
import pytest
import torch

from export.importers.ncsnpp import NCSNpp, NCSNppConfig
from export.importers.nvlabs_options import PRESETS, arguments, told
from genfast.errors import InputError
from tests.export.importers.reference import PART
from tests.export.importers.tiny import GIVEN, SIZES, TINY, options
from training.diffusion import Schedule


@pytest.mark.parametrize("name", ["vp1", "vp2", "vp4", "vp8", "geo2", "geo4"])
def test_schedules_are_the_original_s(name: str) -> None:
    part, steps = np.load(PART), int(name[-1])
    betas = {"use_geometric": True, "beta_min": 1e-3, "beta_max": 0.9} if name.startswith("geo") else {}
    schedule = Schedule(options(num_timesteps=steps, **betas).alpha_bar())
    wanted = {key: part[f"schedule_{name}_{key}"] for key in ("betas", "mean_coef_x0", "mean_coef_xt", "variance")}
    alpha = schedule.alpha_bar[1:] / schedule.alpha_bar[:-1]
    np.testing.assert_allclose(1 - alpha, wanted["betas"][1:], rtol=1e-5, atol=1e-7)
    t = torch.arange(1, steps + 1)
    c_0, c_t, sigma = (scale.flatten() for scale in schedule.posterior(t, t - 1))
    np.testing.assert_allclose(c_0, wanted["mean_coef_x0"], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(c_t, wanted["mean_coef_xt"], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(sigma[1:] ** 2, wanted["variance"][1:], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("fir", [True, False])
@pytest.mark.parametrize("progressive_input", ["residual", "none"])
@pytest.mark.parametrize("attn_resolutions", [(), (4,), (16, 8)])
def test_shapes_tell_the_sizes(fir: bool, progressive_input: str, attn_resolutions: tuple[int, ...]) -> None:
    sizes = {**SIZES, "ch_mult": (1, 3, 2), "num_res_blocks": 2, "n_mlp": 3}
    told_by = {"fir": fir or progressive_input == "none", "progressive_input": progressive_input}
    config = NCSNppConfig(image_size=16, attn_resolutions=attn_resolutions, **told_by, **sizes)
    network = NCSNpp(config).eval()
    found = told(network.state_dict(), 16, Path("netG.pth"))
    assert {name: tuple(value) if isinstance(value, list) else value for name, value in found.items()} == {
        **sizes,
        **told_by,
        "attn_resolutions": attn_resolutions,
    }
    with torch.inference_mode():
        x_0 = network(torch.randn(2, 3, 16, 16), torch.tensor([0, 1]), torch.randn(2, 5))
    assert x_0.shape == (2, 3, 16, 16) and x_0.abs().max() < 1


@pytest.mark.parametrize(("name", "tensors", "parameters"), [("cifar10", 384, 48.4), ("celebahq256", 548, 39.7)])
def test_presets_are_networks_of_the_published_size(name: str, tensors: int, parameters: float) -> None:
    with torch.device("meta"):
        state = NCSNpp(PRESETS[name]).state_dict()
    assert len(state) == tensors and round(sum(p.numel() for p in state.values()) / 1e6, 1) == parameters
    given = {"image_size": PRESETS[name].image_size, "num_timesteps": PRESETS[name].num_timesteps, "dataset": name}
    assert arguments(given, state, name, Path("netG.pth")) == PRESETS[name]


@pytest.mark.parametrize(
    ("given", "part"),
    [
        ({"num_timesteps": 2}, "image_size"),
        ({"image_size": 16}, "num_timesteps"),
        ({**GIVEN, "num_timestep": 4}, "num_timestep"),
        ({**GIVEN, "num_timesteps": "many"}, "num_timesteps"),
        ({**GIVEN, "resblock_type": "ddpm"}, "resblock_type"),
        ({**GIVEN, "progressive": "residual"}, "progressive"),
        ({**GIVEN, "progressive": "output_skip"}, "progressive"),
        ({**GIVEN, "progressive_input": "input_skip"}, "progressive_input"),
        ({**GIVEN, "embedding_type": "fourier"}, "embedding_type"),
        ({**GIVEN, "conditional": False}, "conditional"),
        ({**GIVEN, "fir_kernel": [1, 2, 1]}, "fir_kernel"),
        ({**GIVEN, "use_geometric": True}, "beta_min 0.1 and beta_max 20.0 make no schedule"),
        ({**GIVEN, "beta_min": -1}, "beta_min"),
        ({**GIVEN, "image_size": 15}, "image_size 15 cannot be halved"),
    ],
)
def test_options_that_make_no_network_here_are_refused_by_name(given: dict[str, object], part: str) -> None:
    with pytest.raises(InputError) as error:
        arguments(given, NCSNpp(TINY).state_dict(), "args.json", Path("netG.pth"))
    assert str(error.value).startswith("args.json: ") and part in str(error.value) and "\n" not in str(error.value)


def test_options_of_training_change_nothing() -> None:
    assert options(fir_kernel=[1, 3, 3, 1], lr_g=1.6e-4, use_ema=True, t_emb_dim=256) == options()
