"""Each block of docs/your-own-network.md runs."""

import re
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad
from torch.utils.checkpoint import checkpoint

import bench
from bench.errors import UsageError

PAGE = Path(__file__).parents[1] / "docs/your-own-network.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_a_block_of_the_page(block):
    if "transformers" in block:
        pytest.importorskip("transformers")
    torch.manual_seed(0)
    exec(block, {"__name__": "block"})


def test_four_quarters_of_a_batch_are_one_step_on_the_whole():
    """After the division, within what the centring of each quarter leaves."""
    inside = {}
    torch.manual_seed(0)
    block = next(block for block in BLOCKS if "pieces" in block)
    exec(block.replace("for part in inputs", "import copy; whole = copy.deepcopy(network)\nfor part in inputs"), inside)
    inside["whole"](inside["inputs"]).square().mean().backward()
    for name, parameter in inside["whole"].named_parameters():
        grad = inside["network"].get_parameter(name).grad
        if parameter.grad is not None:
            assert torch.nn.functional.cosine_similarity(grad.flatten(), parameter.grad.flatten(), 0) > 0.98, name
            assert 0.9 < grad.norm() / parameter.grad.norm() < 1.1, name


X = torch.randn(5, 8, generator=torch.Generator().manual_seed(1))


def network(rule):
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4))
    return bench.convert(plain, rule)


def gradients(network, forward):
    forward(X).square().sum().backward()
    return {name: p.grad for name, p in network.named_parameters() if p.grad is not None}


def compiled(network):
    return torch.compile(network, backend="aot_eager")


def checkpointed(network):
    return lambda x: network[3:](checkpoint(network[1:3], network[0](x), use_reentrant=False))


@pytest.mark.parametrize("way", [compiled, checkpointed])
@pytest.mark.parametrize("rule", ["ldfa", "dfa"])
def test_what_the_table_says_of_training(rule, way):
    plain, under = network(rule), network(rule)
    torch.testing.assert_close(gradients(under, way(under)), gradients(plain, plain))


def test_what_the_table_says_of_export_and_of_torch_func():
    under = network("ldfa")
    assert torch.equal(torch.export.export(under, (X,)).module()(X), under(X))
    expected = gradients(under, under)

    def loss(parameters):
        return functional_call(under, parameters, (X,)).square().sum()

    found = grad(loss)(dict(under.named_parameters()))
    torch.testing.assert_close({name: found[name] for name in expected}, expected)


def test_an_exported_network_does_not_train_unnoticed_and_the_network_stays_watched():
    under = network("fa")
    exported = torch.export.export(under, (X,)).module()
    with pytest.raises(UsageError, match="are read by other code"):
        exported(X).sum().backward()
    under.zero_grad()
    with pytest.raises(UsageError, match="are read by other code"):
        (under(X).sum() + under[0].weight.square().sum()).backward()


def test_weights_of_a_plain_network_load():
    under = network("ldfa")
    plain = bench.revert(network("ldfa")).state_dict()
    missing, unexpected = under.load_state_dict(plain, strict=False)
    assert all(".feedback." in name for name in missing) and not unexpected
