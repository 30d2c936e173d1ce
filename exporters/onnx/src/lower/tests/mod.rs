use zoo_graph::{Attribute, DType, Port};

mod scans;

use super::*;
use crate::{
    optimize,
    testing::{Net, assert_same, ops, positive, random, single},
};
use Attribute::{Int, Ints};

#[test]
fn transposed_convolutions_of_every_shape_are_exact_without_them() {
    let mut count = 0;
    for kernel in [[1, 1], [2, 3], [4, 4], [5, 2]] {
        for strides in [[1, 1], [2, 2], [3, 2]] {
            for pads in [[0, 0, 0, 0], [1, 0, 0, 1], [1, 1, 1, 1], [3, 2, 0, 0]] {
                for (extra, dilations, group) in [
                    ([0, 0], [1, 1], 1),
                    ([1, 1], [2, 1], 2),
                    ([0, 1], [1, 3], 1),
                ] {
                    let limit = |i: usize| extra[i] < strides[i];
                    let size = |i: usize, n: i64| {
                        (n - 1) * strides[i] + (kernel[i] - 1) * dilations[i] + 1 + extra[i]
                            - pads[i]
                            - pads[i + 2]
                    };
                    if !limit(0) || !limit(1) || size(0, 3) < 1 || size(1, 2) < 1 {
                        continue;
                    }
                    let weights = random(&[4, 3, kernel[0] as usize, kernel[1] as usize], count);
                    let attributes = [
                        ("strides", Ints(strides.to_vec())),
                        ("pads", Ints(pads.to_vec())),
                        ("output_padding", Ints(extra.to_vec())),
                        ("dilations", Ints(dilations.to_vec())),
                        ("group", Int(group)),
                    ];
                    let bias = random(&[3 * group as usize], count + 1000);
                    let graph = single(
                        "ConvTranspose",
                        &[4, 3, 2],
                        vec![weights, bias],
                        &attributes,
                    );
                    let lowered = lower(&graph, Target::CandleOnnx).unwrap();
                    assert!(!ops(&lowered).contains("ConvTranspose"));
                    assert_same(
                        &graph,
                        &lowered,
                        &format!("kernel {kernel:?} {attributes:?}"),
                    );
                    count += 1;
                }
            }
        }
    }
    assert!(count > 60, "{count}");
    let line = single(
        "ConvTranspose",
        &[2, 5],
        vec![random(&[2, 3, 4], 1)],
        &[("strides", Ints(vec![3]))],
    );
    assert_same(
        &line,
        &lower(&line, Target::CandleOnnx).unwrap(),
        "one spatial axis",
    );
}

#[test]
fn a_generator_reads_as_text() {
    let mut net = Net::new("decode");
    net.input(Port::normal("z", &[2, 2, 2]));
    net.constant("up.weight", random(&[2, 3, 4, 4], 1));
    net.constant("up.bias", random(&[3], 2));
    net.node(
        "up",
        "ConvTranspose",
        &["z", "up.weight", "up.bias"],
        &[
            ("strides", Ints(vec![2, 2])),
            ("pads", Ints(vec![1, 1, 1, 1])),
        ],
    );
    net.node("x", "Sigmoid", &["up"], &[]);
    let graph = net.outputs(&["x"]);
    insta::assert_snapshot!("portable", lower(&graph, Target::Ort).unwrap());
    insta::assert_snapshot!(
        "candle_onnx",
        optimize(&lower(&graph, Target::CandleOnnx).unwrap()).unwrap()
    );
}

#[test]
fn what_a_target_lacks_is_an_error_that_names_node_target_and_line() {
    let conv = single(
        "Conv",
        &[2, 4, 4],
        vec![random(&[2, 2, 3, 3], 1)],
        &[("strides", Ints(vec![1, 2]))],
    );
    lower(&conv, Target::Tract).unwrap();
    let message = lower(&conv, Target::CandleOnnx).unwrap_err().to_string();
    assert_eq!(
        message,
        "in node \"y\" (Conv) at net.rs:1: candle-onnx cannot run it: strides and dilations must be equal in height and width"
    );
    let mut unknown = conv.clone();
    unknown.nodes[0].op = "Einsum".into();
    let message = lower(&unknown, Target::Tract).unwrap_err().to_string();
    assert!(
        message.contains("\"y\" (Einsum) at net.rs:1: tract cannot run it"),
        "{message}"
    );
}

#[test]
fn loops_keep_their_bodies_lowered() {
    let mut body = Net::new("step");
    body.input(Port::batched("s", &[2]));
    body.input(Port::batched("v", &[2]));
    body.node("sum", "Add", &["s", "v"], &[]);
    body.node("next", "Softplus", &["sum"], &[]);
    body.node("y", "Identity", &["next"], &[]);
    let body = body.outputs(&["next", "y"]);
    let mut net = Net::new("loop");
    net.input(Port::batched("start", &[2]));
    net.input(Port::new(
        "steps",
        DType::F32,
        ["N".parse().unwrap(), 5.into(), 2.into()],
    ));
    net.node(
        "by_step",
        "Transpose",
        &["steps"],
        &[("perm", Ints(vec![1, 0, 2]))],
    );
    let attributes = [
        ("body", Attribute::Graph(Box::new(body))),
        ("num_scan_inputs", Int(1)),
    ];
    net.nodes(&["end", "all"], "Scan", &["start", "by_step"], &attributes);
    net.node(
        "out",
        "Transpose",
        &["all"],
        &[("perm", Ints(vec![1, 0, 2]))],
    );
    let graph = net.outputs(&["end", "out"]);
    let lowered = lower(&graph, Target::Tract).unwrap();
    let body = lowered.nodes[1].bodies().next().unwrap();
    assert_eq!(ops(body), "Add Abs Neg Exp Add Log Relu Add Identity");
    crate::check(&crate::encode(&optimize(&lowered).unwrap(), &[])).unwrap();
    let message = lower(&graph, Target::CandleOnnx).unwrap_err().to_string();
    assert!(
        message.contains("(Scan)") && message.contains("drive the steps from the host"),
        "{message}"
    );
}

#[test]
fn normalization_that_cannot_be_folded_is_a_product_and_a_sum() {
    let mut net = Net::new("norm");
    net.input(Port::batched("x", &[3]));
    for (i, name) in ["s", "b", "m"].into_iter().enumerate() {
        net.constant(name, random(&[3], i as u64));
    }
    net.constant("v", positive(&[3], 5));
    net.node("y", "BatchNormalization", &["x", "s", "b", "m", "v"], &[]);
    let graph = net.outputs(&["y"]);
    for target in Target::ALL {
        let lowered = optimize(&lower(&graph, target).unwrap()).unwrap();
        assert_eq!(ops(&lowered), "Mul Add");
        assert_same(&graph, &lowered, "norm");
    }
}
