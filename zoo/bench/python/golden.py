#!/usr/bin/env python3
"""Writes PyTorch's first gradients and losses for zoo/bench/tests/torch.rs: golden.py > fixtures/torch/suite.json

Run it with a Python that has PyTorch. Weights and data are drawn by the generator that both sides have, so nothing large is kept.
"""

import json
import subprocess
import sys
from pathlib import Path

BATCH, PIXELS = 16, 12
script = Path(__file__).with_name("torch_suite.py")


def network(model):
    command = [sys.executable, script, model, "1", "0", "--golden", f"--B={BATCH}", f"--pixels={PIXELS}"]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    short = {name: [float(f"{x:.8g}") for x in values] for name, values in found["gradients"].items()}
    lines = ",\n".join(f"    {json.dumps(name)}: {json.dumps(values)}" for name, values in short.items())
    version, losses = json.dumps(found["torch"]), json.dumps(found["losses"])
    return f'  {{"model": "{model}", "torch": {version}, "losses": {losses}, "gradients": {{\n{lines}\n  }}}}'


networks = ",\n".join(network(m) for m in ["mlp-vae", "conv-vae", "dcgan", "gated-pixelcnn", "row-lstm"])
print(f'{{"batch": {BATCH}, "pixels": {PIXELS}, "networks": [\n{networks}\n]}}')
