"""How often a face shows what was asked for.

    python -m benchmarks.attributes [--model avatars1024] [-n 100]

Each sample is compared with DiceBear's own picture of the same attributes, and with those of which one attribute is
changed, by turns each of them: it obeys where the first is nearer, in squared error of pixels at 256x256. Reported are
the share by attribute, and the mean over attributes. Chance is one half.
"""

from collections import defaultdict

import numpy as np

from benchmarks import common
from genfast.attributes import AttributeTable
from genfast.images.sheets import shrink
from genfast.models.tokens import TokenModel
from training.data import avatars

SIDE = 256  # pixels


def changed(table: AttributeTable, label: int, told: dict[str, str], rng: np.random.Generator) -> dict[str, str]:
    """For each attribute that pictures of a label differ in, another value."""
    others = {}
    for place, attribute in enumerate(table.attributes):
        values = {attribute.values[number - 1] for number in table.values(label, place)} - {told.get(attribute.name)}
        if attribute.name in told and values:
            others[attribute.name] = str(rng.choice(sorted(values)))
    return others


def obeyed(model: TokenModel, n: int, seed: int) -> dict[str, float]:
    """The share of n samples that are nearer to what was asked for than to one attribute changed, by attribute."""
    table, rng = model.drafts().table, np.random.default_rng(seed)
    found: dict[str, list[bool]] = defaultdict(list)
    for index in range(n):
        style = model.label(index)
        assert style is not None
        label = avatars.CLASSES.index(style)
        row = table.choose(np.array([label]), seed=seed, indices=[index])[0]
        told = table.named(row)
        (sample,) = model.sample(1, seed=seed, start=index)
        small = shrink(sample, SIDE).astype(float)

        def error(attributes: dict[str, str], style: str = style, small: np.ndarray = small) -> float:
            return float(np.square(avatars.picture(style, attributes, SIDE) - small).mean())

        true = error(told)
        for name, value in changed(table, label, told, rng).items():
            other = error(told | {name: value})
            if other != true:  # a colour that nothing of this face has changes nothing
                found[name].append(true < other)
    shares = {f"obeyed, {name}": float(np.mean(each)) for name, each in sorted(found.items())}
    return shares | {"obeyed, mean over attributes": float(np.mean(list(shares.values())))}


def main() -> None:
    shared = "--model -n --seed --device --threads --json"
    options = common.parser(__doc__, shared, model="avatars1024", n=100, seed=0, device="cpu").parse_args()
    model = common.token_model(options.model, options.device, options.threads)
    common.report(obeyed(model, options.n, options.seed), options.json)


if __name__ == "__main__":
    main()
