"""`python -m export import KIND`: one command for each kind of file that others' projects give."""

from pathlib import Path
from typing import Annotated, Literal

import typer
from pydantic import TypeAdapter, ValidationError

from genfast.bundles.manifest import Name as NameOfBundle

app = typer.Typer(help="Turn other projects' weights into bundles.", no_args_is_help=True)


def _checked(name: str | None) -> str | None:
    """The name of a bundle, if it can be one: now, rather than after minutes."""
    try:
        return name and TypeAdapter(NameOfBundle).validate_python(name)
    except ValidationError as error:
        raise typer.BadParameter(f"{name} is not made of a-z, 0-9, '.', '_' and '-'") from error


File = Annotated[Path, typer.Argument(metavar="FILE", help="The weights, as their project gives them.")]
Out = Annotated[Path, typer.Argument(help="Folder of the bundle; it must not exist.")]
Name = Annotated[
    str | None, typer.Option(help="Name of the bundle; by default told from what it is.", callback=_checked)
]
Licence = Annotated[str | None, typer.Option(help="Licence of the weights, for the card.")]
Source = Annotated[str | None, typer.Option(help="Where the weights were got, for the card.")]
Half = Annotated[bool, typer.Option("--half", help="Round weights to half precision, for half the size.")]


@app.command("nvlabs-ddgan")
def nvlabs_ddgan(
    file: File,
    out: Out,
    preset: Annotated[
        Literal["cifar10", "celebahq256", "lsun-church"] | None, typer.Option(help="Whose options it was trained with.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="JSON file of the options it was trained with, by the original's names.")
    ] = None,
    half: Half = False,
    name: Name = None,
    licence: Licence = None,
    source: Source = None,
) -> None:
    """Import a generator of NVlabs' denoising-diffusion-gan, netG_EPOCH.pth or content.pth."""
    from export.importers.nvlabs import nvlabs_ddgan

    nvlabs_ddgan(file, out, preset, config, half, name, licence, source)


@app.command("taming-vqgan")
def taming_vqgan(
    file: File,
    out: Out,
    config: Annotated[Path, typer.Option(help="The YAML file beside the weights, such as model.yaml.")],
    name: Name = None,
    licence: Licence = None,
    source: Source = None,
) -> None:
    """Import a VQ-GAN of taming-transformers, alone or in the checkpoint of its transformer, for pictures to tokens."""
    from export.importers.taming import taming_vqgan

    taming_vqgan(file, out, config, name, licence, source)


@app.command()
def sundae(
    file: File,
    out: Out,
    vqgan: Annotated[Path, typer.Option(help="Folder of the bundle of its VQ-GAN: import that first.")],
    config: Annotated[
        Path | None, typer.Option(help="Its configuration, JSON or TOML, to be checked against the weights.")
    ] = None,
    name: Name = None,
    licence: Licence = None,
    source: Source = None,
) -> None:
    """Import a prior of sundae-vqgan, as its trainer writes it, for the tokens of an imported VQ-GAN."""
    from export.importers.sundae_vqgan import sundae

    sundae(file, out, vqgan, config, name, licence, source)


@app.command()
def inception(
    file: File,
    out: Annotated[
        Path | None, typer.Argument(help="Folder of the bundle; by default, where genfast fid looks for it.")
    ] = None,
    licence: Licence = None,
    source: Source = None,
    any_weights: Annotated[
        bool, typer.Option("--any-weights", help="Take another file than the public one, of the same network.")
    ] = False,
) -> None:
    """Import FID's Inception, pt_inception-2015-12-05-6726825d.pth of pytorch-fid."""
    from export.importers.inception import NAME, inception
    from genfast.bundles import hub

    inception(file, out or hub.bundles() / NAME, source, licence, any_weights)


@app.command()
def lama(
    file: File,
    out: Out,
    name: Name = None,
    licence: Licence = None,
    source: Source = None,
) -> None:
    """Import an inpainter in ONNX that fills holes in one call, such as lama_fp32.onnx."""
    from export.importers.inpainter import lama

    lama(file, out, name or "lama", licence or "Apache-2.0", source or "")
