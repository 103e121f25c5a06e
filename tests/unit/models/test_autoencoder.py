"""The encoder's fixed channels, and what the decoder is judged on."""

from __future__ import annotations

import torch
from torch.nn.functional import avg_pool2d

from models.scenes.autoencoder import (
    CENTRE,
    FIXED,
    SPREAD,
    build,
    cut_outs,
    edge_windows,
    edges,
    outlines,
    reconstruction_loss,
)


def test_three_channels_are_block_averages() -> None:
    """Latents hold the mean of each 8 x 8 block, exactly."""
    pictures = torch.rand(2, 3, 128, 128)
    latents = build().encode(pictures * 2 - 1).latents
    averages = (avg_pool2d(pictures, 8) - CENTRE) / SPREAD
    torch.testing.assert_close(latents[:, :FIXED], averages, atol=1e-5, rtol=0)


def test_training_leaves_them_alone() -> None:
    """A step of training changes the fourth channel and none of the first three."""
    model, pictures = build(), torch.rand(2, 3, 128, 128) * 2 - 1
    before = model.encode(pictures).latents.detach()
    optimizer = torch.optim.Adam(model.parameters(), 0.1)
    reconstruction_loss(model.decoder(model.encoder(pictures)), pictures).backward()
    optimizer.step()
    after = model.encode(pictures).latents.detach()
    torch.testing.assert_close(after[:, :FIXED], before[:, :FIXED])
    assert not torch.allclose(after[:, FIXED:], before[:, FIXED:])


def test_windows_are_cut_where_there_is_an_edge() -> None:
    """A picture with one small thing is always cut around it."""
    pictures = torch.zeros(20, 3, 128, 128)
    pictures[:, :, 90:100, 20:30] = 1
    cut, judged = cut_outs(pictures, edge_windows(pictures, 10))
    assert cut.shape == (20, 3, 80, 80)
    assert (cut.amax((1, 2, 3)) == 1).all()
    assert judged.any()


def test_pixels_beside_a_cut_are_not_judged() -> None:
    """A window's border counts at the picture's rim and nowhere else."""
    _, judged = cut_outs(torch.zeros(1, 3, 128, 128), [(slice(0, 10), slice(3, 13))])
    assert judged[0, 0, :, 40].tolist() == [True] * 72 + [False] * 8
    assert judged[0, 0, 20].tolist() == [False] * 8 + [True] * 64 + [False] * 8


def test_outlines_are_found_whatever_the_range() -> None:
    """Pictures in [0, 1] give the same edges as in [-1, 1], in three equal channels."""
    pictures = torch.rand(2, 3, 32, 32)
    found = outlines(pictures)
    assert torch.equal(found, edges(pictures * 2 - 1).expand(-1, 3, -1, -1))
    faint = torch.full((1, 3, 32, 32), 0.5)
    faint[..., 16:] = 0.65  # too faint a change in [0, 1], not in [-1, 1]
    assert outlines(faint).any()
