#!/usr/bin/env python3
"""Draws images with PyTorch from an exported pixelcnn or gated-pixelcnn: the whole network for each pixel, and with kept rows and pixels.

usage: torch_sampling.py BUNDLE NOISE.npy IMAGES.npy [--threads N] [--seconds S]

Writes the images drawn with kept states, and prints one line of JSON: milliseconds of one evaluation of the whole network for all images, and of
drawing all images with kept states.
"""
import argparse
import json
import os
import time

arguments = argparse.ArgumentParser()
arguments.add_argument("bundle")
arguments.add_argument("noise")
arguments.add_argument("images")
arguments.add_argument("--threads", type=int, default=1)
arguments.add_argument("--seconds", type=float, default=1.0)
arguments = arguments.parse_args()
os.environ.setdefault("OMP_NUM_THREADS", str(arguments.threads))

import numpy
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

torch.set_num_threads(arguments.threads)
torch.set_grad_enabled(False)


class Masked:
    """A masked convolution, and its two parts for drawing: rows above, and pixels to the left."""

    def __init__(self, weights, name, mask):
        weight, self.bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
        _, _, height, width = weight.shape
        rows, self.columns = height // 2, width // 2
        alive = torch.ones(height, width)
        alive[rows + 1 :] = 0
        if mask in "AB":
            alive[rows, self.columns + (mask == "B") :] = 0
        elif mask == "above":
            alive[rows] = 0
        self.weight = weight * alive
        self.padding = (rows, self.columns)
        seen = rows + (mask == "above and own")
        self.rows = self.weight[:, :, :seen].contiguous()
        self.left = self.weight[:, :, rows, : self.columns + 1].flatten(1).contiguous()

    def whole(self, x):  # [N,C,H,W] -> [N,O,H,W]
        return F.conv2d(x, self.weight, self.bias, padding=self.padding)

    def start(self, n, width):
        inputs, seen = self.weight.shape[1], self.rows.shape[2]
        self.above = torch.zeros(n, inputs, seen, width)
        self.row = torch.zeros(n, inputs, self.columns + width)

    def next_row(self, newest):
        """The context of a row of pixels [N,O,W], or nothing, from the newest row seen [N,C,W]."""
        self.row.zero_()
        if self.rows.shape[2] == 0:
            return None
        self.above = torch.cat([self.above[:, :, 1:], newest.unsqueeze(2)], 2)
        return F.conv2d(self.above, self.rows, padding=(0, self.columns)).squeeze(2)

    def pixel(self, x, column):  # [N,C] -> [N,O]
        if self.columns == 0:
            return F.linear(x, self.left, self.bias)
        self.row[:, :, self.columns + column] = x
        seen = self.row[:, :, column : column + self.columns + 1].flatten(1)
        return F.linear(seen, self.left, self.bias)


class PixelCnn:
    def __init__(self, weights, config):
        self.first = Masked(weights, "first", "A")
        part = lambda i, name: Masked(weights, f"blocks.{i}.{name}", "B")
        self.blocks = [[part(i, name) for name in ("reduce", "context", "expand")] for i in range(config["blocks"])]
        self.head, self.out = Masked(weights, "head", "B"), Masked(weights, "out", "B")

    def whole(self, x):  # [N,1,H,W] -> logits [N,1,H,W]
        h = self.first.whole(x)
        for reduce, context, expand in self.blocks:
            h = h + expand.whole(F.relu(context.whole(F.relu(reduce.whole(F.relu(h))))))
        return self.out.whole(F.relu(self.head.whole(F.relu(h))))

    def draw(self, noise):  # [N,1,H,W] -> [N,1,H,W]
        n, _, height, width = noise.shape
        x = torch.zeros_like(noise)
        windows = [self.first] + [block[1] for block in self.blocks]
        for window in windows:
            window.start(n, width)
        for row in range(height):
            # Each window's row above is what it was given there.
            contexts = [window.next_row(window.row[:, :, window.columns :].clone()) for window in windows]
            for column in range(width):
                h = self.first.pixel(torch.zeros(n, 1), column) + contexts[0][:, :, column]
                for (reduce, context, expand), above in zip(self.blocks, contexts[1:]):
                    inner = F.relu(reduce.pixel(F.relu(h), column))
                    h = h + expand.pixel(F.relu(context.pixel(inner, column) + above[:, :, column]), column)
                p = torch.sigmoid(self.out.pixel(F.relu(self.head.pixel(F.relu(h), column)), column))
                x[:, :, row, column] = (noise[:, :, row, column] < p).float()
                self.first.row[:, :, self.first.columns + column] = x[:, :, row, column]
        return x


def gate(x):
    a, b = x.chunk(2, 1)
    return torch.tanh(a) * torch.sigmoid(b)


class GatedPixelCnn:
    def __init__(self, weights, config):
        self.vertical = Masked(weights, "vertical", "above")
        self.horizontal = Masked(weights, "horizontal", "A")
        parts = {"vertical": "above and own", "across": "above and own", "horizontal": "B", "residual": "B"}
        self.layers = [{name: Masked(weights, f"layers.{i}.{name}", mask) for name, mask in parts.items()} for i in range(config["layers"])]
        self.head, self.out = Masked(weights, "head", "B"), Masked(weights, "out", "B")

    def whole(self, x):  # [N,1,H,W] -> logits [N,1,H,W]
        v, h = self.vertical.whole(x), self.horizontal.whole(x)
        for layer in self.layers:
            features = layer["vertical"].whole(v)
            gates = layer["horizontal"].whole(h) + layer["across"].whole(features)
            v, h = gate(features), h + layer["residual"].whole(gate(gates))
        return self.out.whole(F.relu(self.head.whole(F.relu(h))))

    def draw(self, noise):  # [N,1,H,W] -> [N,1,H,W]
        n, _, height, width = noise.shape
        x = torch.zeros_like(noise)
        above = [self.vertical] + [layer["vertical"] for layer in self.layers]
        left = [self.horizontal] + [layer["horizontal"] for layer in self.layers]
        for part in above + left:
            part.start(n, width)
        for row in range(height):
            newest = x[:, :, row - 1] if row > 0 else torch.zeros(n, 1, width)
            v, contexts = self.vertical.next_row(newest) + self.vertical.bias[:, None], []
            for layer in self.layers:
                features = layer["vertical"].next_row(v) + layer["vertical"].bias[:, None]
                across = layer["across"]
                contexts.append(F.conv1d(features, across.weight[:, :, 0], across.bias))
                v = gate(features)
            for part in left:
                part.next_row(None)
            for column in range(width):
                h = self.horizontal.pixel(torch.zeros(n, 1), column)
                for layer, context in zip(self.layers, contexts):
                    gates = layer["horizontal"].pixel(h, column) + context[:, :, column]
                    h = h + layer["residual"].pixel(gate(gates), column)
                p = torch.sigmoid(self.out.pixel(F.relu(self.head.pixel(F.relu(h), column)), column))
                x[:, :, row, column] = (noise[:, :, row, column] < p).float()
                self.horizontal.row[:, :, self.horizontal.columns + column] = x[:, :, row, column]
        return x


def milliseconds(compute, fewest):
    compute()
    times, begin = [], time.perf_counter()
    while len(times) < fewest or (time.perf_counter() - begin < arguments.seconds and len(times) < 1000):
        start = time.perf_counter()
        compute()
        times.append((time.perf_counter() - start) * 1e3)
    return sorted(times)[len(times) // 2]


with open(os.path.join(arguments.bundle, "manifest.json")) as file:
    manifest = json.load(file)
networks = {"pixelcnn": PixelCnn, "gated-pixelcnn": GatedPixelCnn}
network = networks[manifest["model"]](load_file(os.path.join(arguments.bundle, "model.safetensors")), manifest["config"])
noise = torch.from_numpy(numpy.load(arguments.noise))
images = network.draw(noise)
numpy.save(arguments.images, images.numpy())
# The images are what the whole network draws, too: no pixel of them would change.
whole = (noise < torch.sigmoid(network.whole(images))).float()
if (whole != images).float().mean() > 1e-3:
    raise SystemExit("drawing with kept states and with the whole network disagree")
print(json.dumps({
    "version": torch.__version__,
    "whole_ms": milliseconds(lambda: network.whole(images), 3),
    "cached_ms": milliseconds(lambda: network.draw(noise), 2),
}))
