#!/usr/bin/env python3
"""Trains one network of the suite with PyTorch on the CPU and prints one line of JSON: time, memory and losses.

`zoo bench-train --torch PYTHON` runs it. Without --weights it draws weights, data and noise with the same counter-based
generator as zoo (Philox4x32-10, keyed by names), so that both start from the same numbers.

usage: torch_suite.py MODEL STEPS WARMUP [--threads N] [--fusedadam] [--weights FILE] [--save DIR] ...
"""

import argparse
import json
import math
import os
import resource
import time

NAMES = {"mlp-vae": "mlp", "conv-vae": "convvae", "dcgan": "dcgan", "gated-pixelcnn": "pixelcnn", "row-lstm": "rowlstm"}


def options():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("model", choices=[*NAMES, *(short for name, short in NAMES.items() if name != short)])
    p.add_argument("steps", type=int, help="steps to measure")
    p.add_argument("warmup", type=int, help="steps before")
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--fusedadam", action="store_true", help="torch.optim.Adam(fused=True)")
    p.add_argument("--weights", metavar="FILE", help="start from this safetensors file")
    p.add_argument("--save", metavar="DIR", help="write initial weights, data and noise to DIR/MODEL.safetensors")
    p.add_argument("--seed", type=int, default=0, help="of drawn weights and data")
    p.add_argument("--B", type=int, default=64, help="images a step, where they are drawn")
    p.add_argument("--pixels", type=int, default=28, help="height and width of an image, where they are drawn")
    p.add_argument("--golden", action="store_true", help="print what zoo's test compares: gradients in short, five losses")
    p.add_argument("--gradients", metavar="FILE", help="write the first step's gradients to this safetensors file")
    p.add_argument("--profile", action="store_true", help="print where the time goes instead")
    return p.parse_args()


def peak_rss_mb():
    """The largest resident memory so far. Linux' getrusage also counts what the parent held at the start; this does not."""
    try:
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:")) / 1024
    except (OSError, StopIteration):
        scale = 2**20 if os.uname().sysname == "Darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale


a = options()
a.model = NAMES.get(a.model, a.model)
os.environ["OMP_NUM_THREADS"] = str(a.threads)

import torch  # noqa: E402, the number of threads must be set before
import torch.nn as nn  # noqa: E402
import torch.nn.functional as F  # noqa: E402

torch.set_num_threads(a.threads)
START_RSS = peak_rss_mb()


# --- The generator of zoo_sdk::Stream -------------------------------------------------------------------------------

M32, M64 = 2**32 - 1, 2**64 - 1


def mix(z):
    """The finaliser of SplitMix64."""
    z = (z + 0x9E3779B97F4A7C15) & M64
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & M64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & M64
    return z ^ (z >> 31)


class Stream:
    """A key, from which numbers follow."""

    def __init__(self, seed=0, key=None):
        self.key = mix(seed ^ 0x7A6F6F2D7265616C) if key is None else key

    def named(self, purpose):
        h = 0xCBF29CE484222325  # FNV-1a
        for byte in purpose.encode():
            h = ((h ^ byte) * 0x100000001B3) & M64
        rotated = ((self.key << 17) | (self.key >> 47)) & M64
        return Stream(key=mix(rotated ^ h))

    def words(self, blocks):
        """Four words of 32 bits for each block, by Philox4x32-10; in 64-bit integers, whose products wrap as they should."""
        index = torch.arange(blocks, dtype=torch.int64)
        c = [index & M32, index >> 32, torch.zeros_like(index), torch.zeros_like(index)]
        key = [self.key & M32, self.key >> 32]
        for _ in range(10):
            p, q = c[0] * 0xD2511F53, c[2] * 0xCD9E8D57
            c = [((q >> 32) & M32) ^ c[1] ^ key[0], q & M32, ((p >> 32) & M32) ^ c[3] ^ key[1], p & M32]
            key = [(key[0] + 0x9E3779B9) & M32, (key[1] + 0xBB67AE85) & M32]
        return torch.stack(c, 1)

    def uniform(self, *shape):
        """U[0, 1) of 24 bits."""
        count = math.prod(shape)
        words = self.words((count + 3) // 4).flatten()[:count]
        return ((words >> 8).float() / 2**24).view(shape)

    def normal(self, *shape):
        """N(0, 1) by Box-Muller, in f64."""
        count = math.prod(shape)
        w = self.words((count + 3) // 4).double()
        radius = torch.sqrt(-2 * torch.log((w[:, 0::2] + 1) / 2**32))
        angle = w[:, 1::2] * (math.tau / 2**32)
        pairs = torch.stack([radius * torch.cos(angle), radius * torch.sin(angle)], 2)
        return pairs.flatten()[:count].float().view(shape)


# --- The networks ---------------------------------------------------------------------------------------------------


def vae_loss(logits, mu, lv, x):
    bce = F.binary_cross_entropy_with_logits(logits, x.flatten(1), reduction="sum")
    kld = -0.5 * torch.sum(1 + lv - mu * mu - lv.exp())
    return (bce + kld) / x.shape[0]


class MlpVae(nn.Module):
    def __init__(self, side):
        super().__init__()
        pixels = side * side
        self.fc1, self.mu, self.lv = nn.Linear(pixels, 400), nn.Linear(400, 20), nn.Linear(400, 20)
        self.fc3, self.fc4 = nn.Linear(20, 400), nn.Linear(400, pixels)

    def forward(self, x, eps):
        h = F.relu(self.fc1(x.flatten(1)))
        mu, lv = self.mu(h), self.lv(h)
        z = mu + torch.exp(0.5 * lv) * eps
        return vae_loss(self.fc4(F.relu(self.fc3(z))), mu, lv, x)


class ConvVae(nn.Module):
    def __init__(self, side):
        super().__init__()
        self.side = side // 4
        flat = 64 * self.side**2
        self.c1, self.c2 = nn.Conv2d(1, 32, 4, 2, 1), nn.Conv2d(32, 64, 4, 2, 1)
        self.fc, self.mu, self.lv = nn.Linear(flat, 256), nn.Linear(256, 20), nn.Linear(256, 20)
        self.d1, self.d2 = nn.Linear(20, 256), nn.Linear(256, flat)
        self.t1, self.t2 = nn.ConvTranspose2d(64, 32, 4, 2, 1), nn.ConvTranspose2d(32, 1, 4, 2, 1)

    def forward(self, x, eps):
        h = F.relu(self.c2(F.relu(self.c1(x))))
        h = F.relu(self.fc(h.flatten(1)))
        mu, lv = self.mu(h), self.lv(h)
        z = mu + torch.exp(0.5 * lv) * eps
        h = F.relu(self.d2(F.relu(self.d1(z)))).view(-1, 64, self.side, self.side)
        return vae_loss(self.t2(F.relu(self.t1(h))).flatten(1), mu, lv, x)


class Generator(nn.Module):
    def __init__(self, side):
        super().__init__()
        self.side = side // 4
        self.fc, self.bn1 = nn.Linear(100, 128 * self.side**2, bias=False), nn.BatchNorm2d(128)
        self.t1, self.bn2 = nn.ConvTranspose2d(128, 64, 4, 2, 1, bias=False), nn.BatchNorm2d(64)
        self.t2 = nn.ConvTranspose2d(64, 1, 4, 2, 1)

    def forward(self, z):
        h = F.relu(self.bn1(self.fc(z).view(-1, 128, self.side, self.side)))
        return torch.tanh(self.t2(F.relu(self.bn2(self.t1(h)))))


class Discriminator(nn.Module):
    def __init__(self, side):
        super().__init__()
        self.c1, self.c2 = nn.Conv2d(1, 64, 4, 2, 1), nn.Conv2d(64, 128, 4, 2, 1, bias=False)
        self.bn, self.fc = nn.BatchNorm2d(128), nn.Linear(128 * (side // 4) ** 2, 1)

    def forward(self, x):
        h = F.leaky_relu(self.c1(x), 0.2)
        h = F.leaky_relu(self.bn(self.c2(h)), 0.2)
        return self.fc(h.flatten(1))


class MaskedConv(nn.Conv2d):
    def __init__(self, inputs, outputs, kernel, strict):
        """A mask over rows for k x k windows, over columns for 1 x k."""
        super().__init__(inputs, outputs, kernel, 1, (kernel[0] // 2, kernel[1] // 2))
        mask, middle = torch.ones(1, 1, *kernel), kernel[1] // 2
        last = mask if kernel[0] > 1 else mask.transpose(2, 3)
        last[:, :, middle + (not strict) :] = 0
        self.register_buffer("mask", mask)

    def forward(self, x):
        return F.conv2d(x, self.weight * self.mask, self.bias, 1, self.padding)


class GatedLayer(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.v, self.h = MaskedConv(c, 2 * c, (3, 3), False), MaskedConv(c, 2 * c, (1, 3), False)
        self.v2h, self.h1 = nn.Conv2d(2 * c, 2 * c, 1), nn.Conv2d(c, c, 1)

    def forward(self, v, h):
        features = self.v(v)
        p, q = features.chunk(2, 1)
        next_v = torch.tanh(p) * torch.sigmoid(q)
        p, q = (self.h(h) + self.v2h(features)).chunk(2, 1)
        return next_v, self.h1(torch.tanh(p) * torch.sigmoid(q)) + h


class PixelCnn(nn.Module):
    def __init__(self, c=32, layers=7):
        super().__init__()
        self.vin, self.hin = MaskedConv(1, c, (7, 7), True), MaskedConv(1, c, (1, 7), True)
        self.layers = nn.ModuleList([GatedLayer(c) for _ in range(layers)])
        self.out = nn.Conv2d(c, 1, 1)

    def forward(self, x):
        v, h = self.vin(x), self.hin(x)
        for layer in self.layers:
            v, h = layer(v, h)
        return F.binary_cross_entropy_with_logits(self.out(F.elu(h)), x)


class RowLstm(nn.Module):
    def __init__(self, c=32):
        super().__init__()
        self.c = c
        self.iin, self.i2s = MaskedConv(1, c, (1, 7), True), MaskedConv(c, 4 * c, (1, 3), False)
        self.s2s, self.out = nn.Conv1d(c, 4 * c, 3, 1, 1), nn.Conv2d(c, 1, 1)

    def forward(self, x):
        u = self.i2s(self.iin(x))
        h = x.new_zeros(x.shape[0], self.c, x.shape[3])
        cell, rows = h, []
        for r in range(x.shape[2]):
            i, f, o, g = (u[:, :, r] + self.s2s(h)).chunk(4, 1)
            cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(cell)
            rows.append(h)
        return F.binary_cross_entropy_with_logits(self.out(torch.stack(rows, 2)), x)


# --- Weights, data, steps -------------------------------------------------------------------------------------------


def start():
    """Modules by prefix, and data, with the weights given or drawn."""
    if a.weights:
        from safetensors.torch import load_file

        given = load_file(a.weights)
        data = {name: given[name] for name in ("x", "eps", "z") if name in given}
        side = data["x"].shape[2]
    else:
        data, side = {}, a.pixels
        stream = Stream(a.seed).named("data")
        data["x"] = (stream.named("x").uniform(a.B, 1, side, side) > 0.5).float()
        for name, width in {"mlp": [("eps", 20)], "convvae": [("eps", 20)], "dcgan": [("z", 100)]}.get(a.model, []):
            data[name] = stream.named(name).normal(a.B, width)
    if a.model == "dcgan":
        modules = {"g": Generator(side), "d": Discriminator(side)}
    else:
        make = {"mlp": lambda: MlpVae(side), "convvae": lambda: ConvVae(side), "pixelcnn": PixelCnn, "rowlstm": RowLstm}
        modules = {"m": make[a.model]()}
    params = Stream(a.seed).named("params")
    for prefix, module in modules.items():
        if a.weights:
            own = {n[len(prefix) + 1 :]: t for n, t in given.items() if n.startswith(prefix + ".")}
            missing, extra = module.load_state_dict(own, strict=False)
            wrong = extra + [n for n in missing if not n.endswith((".mask", "num_batches_tracked"))]
            if wrong:
                raise SystemExit(f"{a.weights}: tensors missing or unknown: {', '.join(wrong)}")
            continue
        for path, layer in module.named_modules():
            weight = getattr(layer, "weight", None)
            if weight is None or isinstance(layer, nn.BatchNorm2d):
                continue
            # The fan-in as PyTorch counts it; a transposed convolution's is that of its second dimension.
            bound = 1 / math.sqrt(weight[0].numel())
            for name, p in layer.named_parameters(recurse=False):
                drawn = params.named(f"{prefix}.{path}.{name}").uniform(*p.shape).double()
                p.data = ((2 * drawn - 1) * bound).float()
    return modules, data


modules, data = start()
if a.save:
    from safetensors.torch import save_file

    tensors = dict(data)
    for prefix, module in modules.items():
        for name, t in [*module.named_parameters(), *module.named_buffers()]:
            if t.dtype == torch.float32:
                tensors[f"{prefix}.{name}"] = t.detach().clone().contiguous()
    save_file(tensors, os.path.join(a.save, f"{a.model}.safetensors"))


def adam(module):
    return torch.optim.Adam(module.parameters(), lr=1e-3, fused=True if a.fusedadam else None)


bce = F.binary_cross_entropy_with_logits
optimisers = {prefix: adam(module) for prefix, module in modules.items()}
gradients = {}


def update(prefix, loss):
    """Gradients and the new weights of one module."""
    optimisers[prefix].zero_grad(set_to_none=True)
    loss.backward()
    if gradients is not None:
        for name, p in modules[prefix].named_parameters():
            gradients[f"{prefix}.{name}"] = p.grad.clone()
    optimisers[prefix].step()


def step():
    """One step, and its loss."""
    if a.model == "dcgan":
        g, d = modules["g"], modules["d"]
        ones, zeros = torch.ones(len(data["x"]), 1), torch.zeros(len(data["x"]), 1)
        fake = g(data["z"])
        d_loss = bce(d(data["x"]), ones) + bce(d(fake.detach()), zeros)
        update("d", d_loss)
        g_loss = bce(d(fake), ones)
        update("g", g_loss)
        return d_loss + g_loss
    loss = modules["m"](**data)
    update("m", loss)
    return loss


def brief():
    """A few numbers for each gradient: its norm, and products with random vectors that the other side draws too."""
    short = {}
    for name, gradient in gradients.items():
        stream, flat = Stream(a.seed).named("golden").named(name), gradient.flatten().double()
        # A bias before a batch normalisation has no gradient but rounding, nor has a tap under a mask.
        products = [float(flat @ stream.named(str(i)).normal(flat.numel()).double()) for i in range(4)]
        short[name] = [float(flat.norm()), *products]
    return short


if a.golden or a.gradients:
    losses = [step().item()]
    if a.gradients:
        from safetensors.torch import save_file

        save_file(gradients, a.gradients)
    if a.golden:
        short = brief()
        losses += [step().item() for _ in range(4)]
        print(json.dumps({"torch": torch.__version__, "model": a.model, "losses": losses, "gradients": short}))
    raise SystemExit()

gradients = None
losses = [step().item() for _ in range(a.warmup)]
if a.profile:
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU]) as prof:
        for _ in range(a.steps):
            step().item()
    print(prof.key_averages().table(sort_by="self_cpu_time_total", row_limit=25))
    raise SystemExit()
r0, t0 = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
times = []
for _ in range(a.steps):
    t = time.perf_counter()
    losses.append(step().item())
    times.append(time.perf_counter() - t)
wall, r1 = time.perf_counter() - t0, resource.getrusage(resource.RUSAGE_SELF)
peak = peak_rss_mb()
losses += [step().item() for _ in range(5 - len(losses))]
times.sort()
print(
    json.dumps(
        {
            "fw": "torch",
            "version": torch.__version__,
            "model": a.model,
            "steps": a.steps,
            "wall": wall / a.steps,
            "med": times[len(times) // 2],
            "user": (r1.ru_utime - r0.ru_utime) / a.steps,
            "sys": (r1.ru_stime - r0.ru_stime) / a.steps,
            "rss_mb": peak,
            "start_rss_mb": START_RSS,
            "loss": losses[:5],
        }
    )
)
