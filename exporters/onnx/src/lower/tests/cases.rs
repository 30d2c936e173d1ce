//! Graphs of one node, with the operators that they are lowered to.

use zoo_graph::{Array, Attribute, Graph, Port};

use crate::testing::{Net, random};
use Attribute::{Float, Int, Ints, Text};

/// A graph of one node over `x`, with further constant inputs.
pub(super) fn single(
    op: &str,
    shape: &[usize],
    constants: Vec<Array>,
    attributes: &[(&str, Attribute)],
) -> Graph {
    let mut net = Net::new("op");
    net.input(Port::batched("x", shape));
    let mut inputs = vec!["x".to_string()];
    for (i, value) in constants.into_iter().enumerate() {
        inputs.push(net.constant(&format!("c{i}"), value));
    }
    let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
    net.node("y", op, &inputs, attributes);
    net.outputs(&["y"])
}

fn list(values: &[i64]) -> Array {
    Array::i64([values.len()], values).unwrap()
}

fn scalar(value: f32) -> Array {
    Array::f32([], [value]).unwrap()
}

/// Graph, operators for the portable target, and for candle-onnx where they differ.
pub(super) type Case = (Graph, &'static str, Option<&'static str>);

pub(super) fn cases() -> Vec<Case> {
    let same = |graph, ops| (graph, ops, None);
    vec![
        same(
            single("Elu", &[4], vec![], &[("alpha", Float(0.5))]),
            "Min Exp Sub Mul Greater Where",
        ),
        same(
            single("Elu", &[4], vec![], &[]),
            "Min Exp Sub Greater Where",
        ),
        same(
            single("Softplus", &[4], vec![], &[]),
            "Abs Neg Exp Add Log Relu Add",
        ),
        same(single("Max", &[4], vec![scalar(0.5)], &[]), "Clip"),
        same(
            single("Max", &[4], vec![random(&[4], 9), scalar(-1.0)], &[]),
            "Greater Where Clip",
        ),
        same(single("Max", &[4], vec![], &[]), ""),
        same(
            single("Min", &[4], vec![random(&[4], 9), scalar(-1.0)], &[]),
            "Min Min",
        ),
        same(single("Pow", &[4], vec![scalar(2.0)], &[]), "Mul"),
        same(single("Cast", &[4], vec![], &[("to", Int(9))]), "Equal Not"),
        same(
            single(
                "ReduceSum",
                &[4, 2],
                vec![list(&[-1])],
                &[("keepdims", Int(0))],
            ),
            "ReduceSum",
        ),
        same(
            single("ReduceSum", &[4, 2], vec![list(&[2, 1])], &[]),
            "ReduceSum",
        ),
        same(
            single(
                "ReduceMean",
                &[4, 2],
                vec![],
                &[("axes", Ints(vec![-1, 1])), ("keepdims", Int(0))],
            ),
            "ReduceMean",
        ),
        same(
            single("GlobalAveragePool", &[2, 3, 3], vec![], &[]),
            "ReduceMean",
        ),
        same(
            single("CumSum", &[5], vec![list(&[-1])], &[("exclusive", Int(1))]),
            "CumSum Sub",
        ),
        same(single("Softmax", &[5], vec![], &[]), "Softmax"),
        same(
            single(
                "LayerNormalization",
                &[3, 4],
                vec![random(&[4], 1), random(&[4], 2)],
                &[],
            ),
            "ReduceMean Sub Mul ReduceMean Add Sqrt Div Mul Add",
        ),
        same(
            single(
                "LayerNormalization",
                &[3, 4],
                vec![random(&[3, 4], 1)],
                &[("axis", Int(1))],
            ),
            "ReduceMean Sub Mul ReduceMean Add Sqrt Div Mul",
        ),
        same(
            single(
                "GroupNormalization",
                &[4, 2, 3],
                vec![random(&[4], 1), random(&[4], 2)],
                &[("num_groups", Int(2))],
            ),
            "Reshape ReduceMean Sub Mul ReduceMean Add Sqrt Div Reshape Mul Add",
        ),
        same(
            single(
                "InstanceNormalization",
                &[4, 2, 3],
                vec![random(&[4], 1), random(&[4], 2)],
                &[],
            ),
            "Reshape ReduceMean Sub Mul ReduceMean Add Sqrt Div Reshape Mul Add",
        ),
        same(
            single("DepthToSpace", &[8, 2, 3], vec![], &[("blocksize", Int(2))]),
            "Reshape Transpose Reshape",
        ),
        same(
            single(
                "DepthToSpace",
                &[8, 2, 3],
                vec![],
                &[("blocksize", Int(2)), ("mode", Text("CRD".into()))],
            ),
            "Reshape Transpose Reshape",
        ),
        same(
            single("Pad", &[2, 3], vec![list(&[0, 1, 0, 0, 0, 2])], &[]),
            "Gather Where Concat Gather Where Concat",
        ),
        same(
            single(
                "Pad",
                &[2, 3],
                vec![list(&[0, 0, 1, 0, 0, 0]), scalar(-3.0)],
                &[],
            ),
            "Gather Where Concat",
        ),
        same(
            single(
                "Pad",
                &[2, 3],
                vec![list(&[0, 0, 2, 0, 0, 1])],
                &[("mode", Text("reflect".into()))],
            ),
            "Gather",
        ),
        same(
            single(
                "Pad",
                &[2, 3],
                vec![list(&[0, 0, 2, 0, 0, 1])],
                &[("mode", Text("edge".into()))],
            ),
            "Gather",
        ),
        same(
            single(
                "MaxPool",
                &[2, 4, 4],
                vec![],
                &[
                    ("kernel_shape", Ints(vec![2, 2])),
                    ("strides", Ints(vec![2, 2])),
                ],
            ),
            "MaxPool",
        ),
        same(
            single(
                "MaxPool",
                &[2, 4, 4],
                vec![],
                &[
                    ("kernel_shape", Ints(vec![3, 3])),
                    ("strides", Ints(vec![2, 2])),
                    ("pads", Ints(vec![1, 1, 1, 1])),
                ],
            ),
            "Gather Where Gather Where Concat Gather Where Gather Where Concat MaxPool",
        ),
        same(
            single(
                "AveragePool",
                &[2, 4, 4],
                vec![],
                &[
                    ("kernel_shape", Ints(vec![3, 3])),
                    ("pads", Ints(vec![1, 0, 0, 0])),
                    ("count_include_pad", Int(1)),
                ],
            ),
            "Gather Where Concat AveragePool",
        ),
        same(
            single(
                "Gemm",
                &[3],
                vec![random(&[5, 3], 1)],
                &[("transB", Int(1))],
            ),
            "Gemm",
        ),
        same(
            single(
                "Gemm",
                &[3],
                vec![random(&[3, 5], 1), random(&[5], 2)],
                &[("alpha", Float(0.5)), ("beta", Float(2.0))],
            ),
            "Gemm",
        ),
        same(
            single(
                "Slice",
                &[4, 3],
                vec![list(&[-3]), list(&[i64::MAX]), list(&[1]), list(&[2])],
                &[],
            ),
            "Slice",
        ),
        same(
            single(
                "Slice",
                &[4, 3],
                vec![
                    list(&[-1, 0]),
                    list(&[i64::MIN, 2]),
                    list(&[1, 2]),
                    list(&[-1, 1]),
                ],
                &[],
            ),
            "Gather Slice",
        ),
        same(
            single("Slice", &[4, 3], vec![list(&[0]), list(&[i64::MAX])], &[]),
            "",
        ),
        same(
            single("Unsqueeze", &[4, 3], vec![list(&[-1, 1])], &[]),
            "Unsqueeze Unsqueeze",
        ),
        same(
            single("Squeeze", &[1, 3], vec![list(&[-2])], &[]),
            "Squeeze",
        ),
        same(
            single(
                "Transpose",
                &[4, 3],
                vec![],
                &[("perm", Ints(vec![0, 2, 1]))],
            ),
            "Transpose",
        ),
        (
            single(
                "Gather",
                &[4],
                vec![Array::i64([1, 2, 2], [3, 0, 1, -2]).unwrap()],
                &[("axis", Int(-1))],
            ),
            "Gather",
            Some("Gather Reshape"),
        ),
        (
            single(
                "ConvTranspose",
                &[2, 3, 3],
                vec![random(&[2, 3, 4, 4], 1)],
                &[
                    ("strides", Ints(vec![2, 2])),
                    ("pads", Ints(vec![1, 1, 1, 1])),
                ],
            ),
            "ConvTranspose",
            Some("Conv Reshape Transpose Reshape"),
        ),
        (
            single(
                "ConvTranspose",
                &[2, 3, 3],
                vec![random(&[2, 3, 3, 3], 1)],
                &[],
            ),
            "ConvTranspose",
            Some("Conv"),
        ),
    ]
}
