//! Scans within scans, in the form of each target.

use zoo_graph::{Attribute, Graph, Node, Port, RuntimeId};

use super::super::*;
use crate::{
    Error, check, encode, optimize,
    testing::{Net, assert_same, ops, random},
};
use Attribute::{Int, Ints};

const HEIGHT: usize = 3;
const WIDTH: usize = 4;

fn sub_graph(body: Graph) -> (&'static str, Attribute) {
    ("body", Attribute::Graph(Box::new(body)))
}

/// A sampler in small: a row mixes what is above it by a matrix; a pixel adds what is left of it and its noise, and tells the next row of itself and of twice itself.
/// `tail` is one more operation of the row after its pixels.
fn sampler(tail: bool) -> Graph {
    sampler_of(WIDTH, tail)
}

fn sampler_of(width: usize, tail: bool) -> Graph {
    let outer = [
        Port::batched("noise", &[2, HEIGHT, width]),
        Port::new("mix", zoo_graph::DType::F32, [2.into(), 2.into()]),
        Port::new("bias", zoo_graph::DType::F32, [2.into(), width.into()]),
    ];
    let state = Port::batched("above", &[2, width]);
    let twice = Port::batched("above2", &[2, width]);
    let line = Port::batched("line", &[2, width]);
    let in_row = [&outer[..], &[state.clone(), twice.clone(), line.clone()]].concat();

    let seen = [
        &in_row[..],
        &[
            Port::batched("context", &[2, width]),
            Port::batched("left0", &[2]),
        ],
    ]
    .concat();
    let mut pixel = Net::inside("pixel", &seen);
    pixel.input(Port::batched("left", &[2]));
    pixel.input(Port::batched("u", &[2]));
    pixel.input(Port::batched("c", &[2]));
    pixel.input(Port::new("b", zoo_graph::DType::F32, [2.into()]));
    pixel.node("s1", "Add", &["left", "u"], &[]);
    pixel.node("s2", "Add", &["s1", "c"], &[]);
    pixel.node("s3", "Add", &["s2", "b"], &[]);
    pixel.node("s", "Tanh", &["s3"], &[]);
    pixel.node("x", "Identity", &["s"], &[]);
    pixel.node("double", "Add", &["s", "s"], &[]);
    let pixel = pixel.outputs(&["s", "x", "double"]);

    let mut row = Net::inside("row", &outer);
    row.input(state);
    row.input(twice);
    row.input(line);
    row.node("mixed", "MatMul", &["mix", "above"], &[]);
    row.node("context", "Add", &["mixed", "above2"], &[]);
    row.node(
        "left0",
        "ReduceMean",
        &["context"],
        &[("axes", Ints(vec![2])), ("keepdims", Int(0))],
    );
    row.nodes(
        &["left_end", "xs", "doubles"],
        "Scan",
        &["left0", "line", "context", "bias"],
        &[
            sub_graph(pixel),
            ("num_scan_inputs", Int(3)),
            ("scan_input_axes", Ints(vec![2, 2, 1])),
            ("scan_output_axes", Ints(vec![2, 2])),
        ],
    );
    if tail {
        row.node("kept", "Abs", &["doubles"], &[]);
    } else {
        row.node("kept", "Identity", &["doubles"], &[]);
    }
    row.node("row", "Identity", &["xs"], &[]);
    let row = row.outputs(&["xs", "kept", "row"]);

    let mut net = Net::new("sample");
    net.input(outer[0].clone());
    net.constant("mix", random(&[2, 2], 3));
    net.constant("bias", random(&[2, width], 4));
    net.constant("zero", zoo_graph::Array::f32([], [0.0]).unwrap());
    net.constant("i0", zoo_graph::Array::i64([1], [0]).unwrap());
    net.constant("i1", zoo_graph::Array::i64([1], [1]).unwrap());
    net.constant("i2", zoo_graph::Array::i64([1], [2]).unwrap());
    net.node("top", "Slice", &["noise", "i0", "i1", "i2"], &[]);
    net.node("top_row", "Squeeze", &["top", "i2"], &[]);
    net.node("start", "Mul", &["top_row", "zero"], &[]);
    net.nodes(
        &["last", "last2", "x"],
        "Scan",
        &["start", "start", "noise"],
        &[
            sub_graph(row),
            ("num_scan_inputs", Int(1)),
            ("scan_input_axes", Ints(vec![2])),
            ("scan_output_axes", Ints(vec![2])),
        ],
    );
    net.outputs(&["x"])
}

fn form(graph: &Graph, target: Target) -> Graph {
    let simple = optimize(graph).unwrap();
    optimize(&lower(&simple, target).unwrap_or_else(|e| panic!("{e}"))).unwrap()
}

#[test]
fn rows_of_pixels_become_loops_in_loops_or_one_scan() {
    for tail in [false, true] {
        let graph = sampler(tail);
        for target in [Target::Ort, Target::Tract] {
            let written = form(&graph, target);
            assert_same(&graph, &written, &target.to_string());
            check(&encode(&written, &[])).unwrap_or_else(|e| panic!("{target}: {e}\n{written}"));
            let loops = |graph: &Graph| -> Vec<String> {
                let all = graph.nodes.iter().filter(|n| n.bodies().next().is_some());
                all.map(|n| n.op.clone()).collect()
            };
            let outer = loops(&written);
            let body = written.nodes.iter().flat_map(Node::bodies).next().unwrap();
            match target {
                Target::Ort => assert_eq!(
                    (outer, loops(body)),
                    (vec!["Loop".into()], vec!["Loop".into()])
                ),
                _ => assert_eq!((outer, loops(body)), (vec!["Scan".into()], vec![])),
            }
        }
    }
}

#[test]
fn the_forms_of_a_sampler() {
    let graph = sampler(false);
    insta::assert_snapshot!("nested_loops", form(&graph, Target::Ort));
    insta::assert_snapshot!("flat_scan", form(&graph, Target::Tract));
}

#[test]
fn only_what_is_alike_is_packed() {
    // A step reads a and b along axis 1, c along axis 0 and d of another rank, and gives parts of unequal sizes.
    let mut step = Net::new("step");
    step.input(Port::batched("s", &[2]));
    step.input(Port::batched("a", &[4]));
    step.input(Port::batched("b", &[2]));
    step.input(Port::batched("c", &[2]));
    step.input(Port::batched("d", &[2, 2]));
    step.node("bc", "Add", &["b", "c"], &[]);
    step.node("next", "Add", &["s", "bc"], &[]);
    step.node("wide", "Concat", &["a", "next"], &[("axis", Int(1))]);
    step.node("turned", "MatMul", &["d", "d"], &[]);
    step.node("narrow", "Tanh", &["next"], &[]);
    step.node("front", "Neg", &["b"], &[]);
    let step = step.outputs(&["next", "wide", "turned", "narrow", "front"]);

    let mut net = Net::new("net");
    net.input(Port::batched("s0", &[2]));
    net.input(Port::batched("as", &[3, 4]));
    net.input(Port::batched("bs", &[3, 2]));
    net.input(Port::batched("cs", &[3, 2]));
    net.input(Port::batched("ds", &[2, 2, 3]));
    let perm = ("perm", Ints(vec![1, 0, 2]));
    net.node("first", "Transpose", &["cs"], &[perm]);
    net.nodes(
        &["end", "wides", "turns", "narrows", "fronts"],
        "Scan",
        &["s0", "as", "bs", "first", "ds"],
        &[
            sub_graph(step),
            ("num_scan_inputs", Int(4)),
            ("scan_input_axes", Ints(vec![1, 1, 0, 3])),
            ("scan_output_axes", Ints(vec![1, 2, 1, 0])),
        ],
    );
    let graph = net.outputs(&["end", "wides", "turns", "narrows"]);
    let written = form(&graph, Target::Ort);
    assert_same(&graph, &written, "packs");
    check(&encode(&written, &[])).unwrap_or_else(|e| panic!("{e}\n{written}"));
    let body = written.nodes.iter().flat_map(Node::bodies).next().unwrap();
    let count = |graph: &Graph, op: &str| graph.nodes.iter().filter(|n| n.op == op).count();
    // Of the inputs a and b come together, of the outputs wide and narrow.
    assert_eq!((count(body, "Gather"), count(body, "Split")), (3, 1));
    assert_eq!((count(&written, "Split"), body.outputs.len()), (1, 5));
}

#[test]
fn rows_of_one_pixel_are_served_by_step_graphs() {
    let graph = sampler_of(1, false);
    assert_same(&graph, &form(&graph, Target::Ort), "ort");
    let error = lower(&optimize(&graph).unwrap(), Target::Tract).unwrap_err();
    assert!(matches!(error, Error::Lower { .. }), "{error}");
    let forms = crate::export(&graph, &crate::Options::default()).unwrap();
    let serves = |v: &&crate::Variant| v.serves(&RuntimeId::Tract);
    let tract: Vec<_> = forms.iter().filter(serves).collect();
    assert!(
        matches!(tract[..], [one] if matches!(one.content, crate::Content::Steps { .. })),
        "{forms:?}"
    );
}

#[test]
fn steps_without_states_become_a_loop_too() {
    let mut step = Net::new("step");
    step.input(Port::batched("u", &[2]));
    step.node("x", "Tanh", &["u"], &[]);
    let step = step.outputs(&["x"]);
    let mut net = Net::new("net");
    net.input(Port::batched("noise", &[3, 2]));
    net.nodes(
        &["xs"],
        "Scan",
        &["noise"],
        &[
            sub_graph(step),
            ("num_scan_inputs", Int(1)),
            ("scan_input_axes", Ints(vec![1])),
            ("scan_output_axes", Ints(vec![1])),
        ],
    );
    let graph = net.outputs(&["xs"]);
    for target in [Target::Ort, Target::Tract] {
        let written = form(&graph, target);
        assert_same(&graph, &written, &target.to_string());
        check(&encode(&written, &[])).unwrap_or_else(|e| panic!("{target}: {e}\n{written}"));
    }
}

#[test]
fn what_has_no_loops_says_so() {
    let error = lower(&sampler(false), Target::CandleOnnx).unwrap_err();
    assert!(matches!(error, Error::Lower { .. }), "{error}");
}

/// A state that moves by what the number of the step says, as often as `steps` says: a number of the file, or else an input.
fn repeated(steps: Option<i64>) -> Graph {
    let outer = [Port::batched("x", &[2])];
    let mut body = Net::inside("step", &outer);
    body.input(Port::new("t", zoo_graph::DType::I64, []));
    body.input(Port::new("more", zoo_graph::DType::Bool, []));
    body.input(Port::batched("s", &[2]));
    body.constant("rates", random(&[2], 5));
    body.node("on", "Identity", &["more"], &[]);
    body.node("goes_on", "Identity", &["on"], &[]);
    body.node("time", "Cast", &["t"], &[("to", Int(1))]);
    body.node("angles", "Mul", &["time", "rates"], &[]);
    body.node("turned", "Add", &["s", "angles"], &[]);
    body.node("next", "Tanh", &["turned"], &[]);
    let body = body.outputs(&["goes_on", "next"]);
    let mut net = Net::new("net");
    net.input(outer[0].clone());
    match steps {
        None => net.input(Port::count("steps", 0, 4)),
        Some(n) => net.constant("steps", zoo_graph::Array::i64([], [n]).unwrap()),
    };
    let inputs = ["steps", "", "x"];
    net.nodes(&["end"], "Loop", &inputs, &[sub_graph(body)]);
    net.node("y", "Neg", &["end"], &[]);
    net.outputs(&["y"])
}

#[test]
fn loops_of_a_known_number_of_steps_become_a_scan_for_tract() {
    let graph = repeated(Some(3));
    for target in [Target::Ort, Target::Tract] {
        let written = form(&graph, target);
        assert_same(&graph, &written, &target.to_string());
        check(&encode(&written, &[])).unwrap_or_else(|e| panic!("{target}: {e}\n{written}"));
        let scans = ops(&written).contains("Scan");
        assert_eq!(scans, target == Target::Tract, "{written}");
    }
}

#[test]
fn loops_of_a_number_that_is_an_input_are_loops_or_step_graphs() {
    let graph = repeated(None);
    let message = lower(&graph, Target::Tract).unwrap_err().to_string();
    assert_eq!(
        message,
        "in node \"end\" (Loop) at net.rs:1: tract cannot run it: it runs a Scan without loops inside, and no Loop; drive the \
         steps from the host"
    );
    let forms = crate::export(&graph, &crate::Options::default()).unwrap();
    let named: Vec<String> = forms
        .iter()
        .map(|form| {
            format!(
                "{}: {}",
                form.file_name("net"),
                RuntimeId::list(&form.runtimes)
            )
        })
        .collect();
    assert_eq!(
        named,
        [
            "net.onnx: ort, web",
            "net.steps.json: ort, tract, candle-onnx"
        ]
    );
    let crate::Content::Steps { steps, .. } = &forms[1].content else {
        panic!("{forms:?}")
    };
    insta::assert_snapshot!(
        "repeated_steps",
        format!("{:#}", serde_json::to_value(steps).unwrap())
    );
    let Some(zoo_graph::Attribute::Graph(mut body)) =
        graph.nodes[0].attributes.get("body").cloned()
    else {
        panic!("{graph}")
    };
    // The condition is computed: no host counts on it.
    let on = body
        .nodes
        .iter_mut()
        .find(|n| n.outputs[0] == "on")
        .unwrap();
    on.op = "Not".into();
    let mut early = graph.clone();
    early.nodes[0].attributes = [("body".to_string(), Attribute::Graph(body))].into();
    let message = crate::export(&early, &crate::Options::default())
        .unwrap_err()
        .to_string();
    assert!(message.contains("its condition may end it"), "{message}");
    let only_ort = crate::Options {
        targets: vec![RuntimeId::Ort, RuntimeId::Web],
        ..crate::Options::default()
    };
    assert_eq!(crate::export(&early, &only_ort).unwrap().len(), 1);
}
