import torch

from training.nets.classifier import Classifier


def test_logits_are_linear_in_the_features() -> None:
    network, x = Classifier().eval(), torch.randn(3, 1, 28, 28)
    features = network.features(x)
    assert features.shape == (3, 128) and network(x).shape == (3, 10)
    torch.testing.assert_close(network(x), features @ network.head.weight.T + network.head.bias)


def test_dropout_is_for_training_alone() -> None:
    network, x = Classifier(), torch.randn(3, 1, 28, 28)
    assert not torch.equal(network(x), network(x))
    network.eval()
    assert torch.equal(network(x), network(x))
