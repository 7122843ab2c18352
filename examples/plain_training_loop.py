"""The same training without the runner: nothing is hidden in it. A test shows that both reach the same loss.

python examples/plain_training_loop.py model_configs/unet3d.yaml
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from torch.nn.utils import clip_grad_norm_

from skoots.api.prepare import prepare, training_crops
from skoots.config import load_config
from skoots.data.loaders import train_loader
from skoots.training.optimizers import build_optimizer
from skoots.training.schedules import build_scheduler, step_scheduler


def train_plainly(config_path: str, overrides: Sequence[str] = ()) -> list[float]:
    """Train the model of a config in a bare loop.

    Args:
        config_path: a config file.
        overrides: ``key.path=value``.

    Returns:
        The mean loss of each epoch.
    """
    prepared = prepare(load_config(config_path, overrides))
    config, model, device = prepared.config, prepared.model, prepared.device
    settings = config.train_settings
    loader = train_loader(training_crops(prepared), settings.batch_size, settings.seed)
    optimizer = build_optimizer(config.runner.optimizer, model)
    scheduler = build_scheduler(config.runner.scheduler, optimizer) if config.runner.scheduler else None

    epoch_losses = []
    for epoch in range(1, settings.epochs + 1):
        model.train()
        loader.sampler.set_epoch(epoch)
        losses = []
        for batch in loader:
            batch = batch.to(device)
            loss, _ = model.loss(model(batch.images), model.targets(batch), batch, epoch)
            optimizer.zero_grad()
            loss.backward()
            if config.runner.clip_gradient is not None:
                clip_grad_norm_(model.parameters(), config.runner.clip_gradient)
            optimizer.step()
            losses.append(loss.detach())
        if scheduler is not None:
            step_scheduler(scheduler)
        epoch_losses.append(float(sum(losses)) / len(losses))
    return epoch_losses


if __name__ == "__main__":
    for number, value in enumerate(train_plainly(sys.argv[1], sys.argv[2:]), start=1):
        print(f"epoch {number}: loss {value:.4f}")
