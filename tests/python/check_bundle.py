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
        judges = [("onnxruntime", onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]))]
        # onnx.reference joins a Loop's outputs where ONNX stacks them, and its Scan knows no axis but the first.
        if not any(node.op_type in ("Loop", "Scan") for node in model.graph.node):
            judges.append(("onnx.reference", onnx.reference.ReferenceEvaluator(model)))
    except Exception as error:  # Each has exceptions of its own, without a common base.
        yield f"cannot be loaded: {error}"
        return
    outputs = [port["name"] for port in graph["outputs"]]
    for title, inputs, expected in sets:
        if sorted(expected) != sorted(outputs) or sorted(inputs) != sorted(port["name"] for port in graph["inputs"]):
            yield f"{title}: the ports of the test vectors are not those of the graph"
            continue
        for judge, session in judges:
            got = dict(zip(outputs, session.run(outputs, inputs)))
            for difference in differences(expected, got):
                yield f"{title}: {judge}: {difference}"


def sound(path):
    """Everything wrong with one file by itself, as text."""
    model = onnx.load(path)
    try:
        onnx.checker.check_model(model, full_check=True)
        inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        yield f"checker: {error}"
        return
    for value in [*inferred.graph.input, *inferred.graph.output]:
        if dims(value)[:1] != ["N"]:
            yield f"{value.name} has no symbolic N"
    if not model.metadata_props:
        yield "no metadata"


class Host:
    """Follows the program of step graphs, as manifest.json's driver "steps" means it."""

    def __init__(self, folder, steps):
        self.folder, self.steps, self.sessions = folder, steps, {}

    def run(self, outputs, inputs):
        values = dict(inputs)
        self.batch = len(next(iter(inputs.values())))
        self.follow(self.steps["program"], values)
        results = {port["name"]: values[name] for port, name in zip(self.steps["outputs"], self.steps["results"])}
        return [results[name] for name in outputs]

    def follow(self, program, values):
        for step in program:
            if "run" in step:
                self.call(step["run"], values)
            else:
                self.scan(step["scan"], values)

    def call(self, file, values):
        if file not in self.sessions:
            self.sessions[file] = onnxruntime.InferenceSession(self.folder / file, providers=["CPUExecutionProvider"])
        session = self.sessions[file]
        names = [output.name for output in session.get_outputs()]
        got = session.run(names, {port.name: values[port.name] for port in session.get_inputs()})
        values.update(zip(names, got))

    def scan(self, scan, values):
        values.update({state["name"]: values[state["start"]] for state in scan["states"]})
        collected = [[] for _ in scan["outputs"]]
        for i in range(count(scan["steps"], values)):
            for part in scan["inputs"]:
                values[part["name"]] = np.take(values[part["of"]], i, axis=part["axis"])
            if "index" in scan:
                values[scan["index"]] = np.full(self.batch, i, dtype=np.int64)
            self.follow(scan["body"], values)
            after = {state["name"]: values[state["next"]] for state in scan["states"]}
            for parts, output in zip(collected, scan["outputs"]):
                parts.append(values[output["from"]])
            values.update(after)
        values.update({state["end"]: values[state["name"]] for state in scan["states"]})
        for parts, output in zip(collected, scan["outputs"]):
            values[output["name"]] = np.stack(parts, axis=output["axis"])


def count(steps, values):
    """How often a loop runs: a number, the name of the value that says it, or the length of a value along an axis."""
    if isinstance(steps, dict):
        return values[steps["length_of"]].shape[steps["axis"]]
    return steps if isinstance(steps, int) else int(values[steps])


def files(program):
    """The files that a program runs, each once."""
    for step in program:
        yield from [step["run"]] if "run" in step else files(step["scan"]["body"])


def driven_problems(bundle, name, graph, variant):
    """Everything wrong with step graphs and their program, as text."""
    path = bundle / variant["file"]
    steps = json.loads(path.read_text())
    for file in dict.fromkeys(files(steps["program"])):
        found = list(sound(path.parent / file))
        print(f"onnx/{file}: {'; '.join(found) or 'ok'}")
        yield from found
    sets = list(vectors(bundle, name))
    if not sets:
        yield "no test vectors"
    host = Host(path.parent, steps)
    outputs = [port["name"] for port in graph["outputs"]]
    for title, inputs, expected in sets:
        got = dict(zip(outputs, host.run(outputs, inputs)))
        for difference in differences(expected, got):
            yield f"{title}: driven: {difference}"


def main():
    bundle = pathlib.Path(sys.argv[1])
    manifest = json.loads((bundle / "manifest.json").read_text())
    failed = False
    for name, graph in manifest["graphs"].items():
        for variant in graph["variants"]:
            check = {None: problems, "steps": driven_problems}[variant.get("driver")]
            found = list(check(bundle, name, graph, variant))
            failed = failed or bool(found)
            print(f"{variant['file']}: {'; '.join(found) or 'ok'}")
    sys.exit(1 if failed else 0)


main()
