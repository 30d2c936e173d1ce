"""Checks every ONNX file of a bundle with tools that share no code with the exporter.

Usage: check_bundle.py BUNDLE. Prints a line for each file; exit code 1 if any check fails.
"""

import json
import pathlib
import sys

import numpy as np
import onnx
import onnx.numpy_helper
import onnx.reference
import onnx.shape_inference
import onnxruntime

ABSOLUTE, RELATIVE = 1e-5, 1e-4


def tensor(path):
    proto = onnx.TensorProto.FromString(path.read_bytes())
    return proto.name, onnx.numpy_helper.to_array(proto)


def vectors(bundle, graph):
    """(name of the set, inputs, outputs) for each set of test vectors."""
    for folder in sorted(bundle.glob(f"onnx/test_data_set_*/{graph}")):

        def read(kind):
            files = sorted(folder.glob(f"{kind}_*.pb"), key=lambda f: int(f.stem.split("_")[1]))
            return dict(tensor(file) for file in files)

        yield folder.parent.name, read("input"), read("output")


def differences(expected, got):
    """What is wrong with outputs, by name."""
    for name, want in expected.items():
        have = got[name]
        if have.dtype != want.dtype or have.shape != want.shape:
            yield f"{name} is {have.dtype}{have.shape}, expected {want.dtype}{want.shape}"
            continue
        difference = np.abs(have.astype(np.float64) - want)
        # Written so that NaN is a difference.
        if not np.all(difference <= ABSOLUTE + RELATIVE * np.abs(want)):
            yield f"{name} differs by {difference.max()}"


def dims(value):
    return [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]


def problems(bundle, name, graph, variant):
    """Everything wrong with one file, as text."""
    path = bundle / variant["file"]
    model = onnx.load(path)
    try:
        onnx.checker.check_model(model, full_check=True)
    except onnx.checker.ValidationError as error:
        yield f"checker: {error}"
    try:
        inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    except onnx.shape_inference.InferenceError as error:
        yield f"shape inference: {error}"
        return
    for kind, declared, values in [
        ("input", graph["inputs"], inferred.graph.input),
        ("output", graph["outputs"], inferred.graph.output),
    ]:
        if [port["name"] for port in declared] != [value.name for value in values]:
            yield f"{kind}s are {[value.name for value in values]}, the manifest says {declared}"
            continue
        for port, value in zip(declared, values):
            if dims(value) != port["shape"]:
                yield f"{kind} {value.name} has shape {dims(value)}, the manifest says {port['shape']}"
            if dims(value)[:1] != ["N"]:
                yield f"{kind} {value.name} has no symbolic N"
    if not model.metadata_props:
        yield "no metadata"

    sets = list(vectors(bundle, name))
    if not sets:
        yield "no test vectors"
    try:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        reference = onnx.reference.ReferenceEvaluator(model)
    except Exception as error:  # Each has exceptions of its own, without a common base.
        yield f"cannot be loaded: {error}"
        return
    outputs = [port["name"] for port in graph["outputs"]]
    for title, inputs, expected in sets:
        if sorted(expected) != sorted(outputs) or sorted(inputs) != sorted(port["name"] for port in graph["inputs"]):
            yield f"{title}: the ports of the test vectors are not those of the graph"
            continue
        for judge, run in [("onnxruntime", session.run), ("onnx.reference", reference.run)]:
            got = dict(zip(outputs, run(outputs, inputs)))
            for difference in differences(expected, got):
                yield f"{title}: {judge}: {difference}"


def main():
    bundle = pathlib.Path(sys.argv[1])
    manifest = json.loads((bundle / "manifest.json").read_text())
    failed = False
    for name, graph in manifest["graphs"].items():
        for variant in graph["variants"]:
            found = list(problems(bundle, name, graph, variant))
            failed = failed or bool(found)
            print(f"{variant['file']}: {'; '.join(found) or 'ok'}")
    sys.exit(1 if failed else 0)


main()
