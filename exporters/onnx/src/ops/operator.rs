//! The operators that files may hold, with what each of them takes at opset 17.

use zoo_graph::{Attribute, Node};

/// The kind of an attribute's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Int,
    Float,
    Text,
    Ints,
    Graph,
}

/// One operator: numbers of inputs and outputs, attributes it may have.
pub(crate) struct Op {
    pub name: &'static str,
    /// Least and most; `MANY` for a variadic end.
    pub inputs: (usize, usize),
    pub outputs: (usize, usize),
    pub attributes: &'static [(&'static str, Kind)],
}

const MANY: usize = usize::MAX;

use Kind::{Float, Graph, Int, Ints, Text};

const fn op(
    name: &'static str,
    inputs: (usize, usize),
    outputs: (usize, usize),
    attributes: &'static [(&'static str, Kind)],
) -> Op {
    Op {
        name,
        inputs,
        outputs,
        attributes,
    }
}

const ONE: (usize, usize) = (1, 1);
const TWO: (usize, usize) = (2, 2);
const NONE: &[(&str, Kind)] = &[];
const AXIS: &[(&str, Kind)] = &[("axis", Int)];
const CONV: &[(&str, Kind)] = &[
    ("auto_pad", Text),
    ("dilations", Ints),
    ("group", Int),
    ("kernel_shape", Ints),
    ("pads", Ints),
    ("strides", Ints),
];
const CONV_TRANSPOSE: &[(&str, Kind)] = &[
    ("auto_pad", Text),
    ("dilations", Ints),
    ("group", Int),
    ("kernel_shape", Ints),
    ("output_padding", Ints),
    ("output_shape", Ints),
    ("pads", Ints),
    ("strides", Ints),
];
const REDUCE: &[(&str, Kind)] = &[("axes", Ints), ("keepdims", Int)];
const ARG: &[(&str, Kind)] = &[("axis", Int), ("keepdims", Int), ("select_last_index", Int)];
const SCAN: &[(&str, Kind)] = &[
    ("body", Graph),
    ("num_scan_inputs", Int),
    ("scan_input_axes", Ints),
    ("scan_input_directions", Ints),
    ("scan_output_axes", Ints),
    ("scan_output_directions", Ints),
];

/// Sorted by name.
pub(crate) const OPS: &[Op] = &[
    op("Abs", ONE, ONE, NONE),
    op("Add", TWO, ONE, NONE),
    op("And", TWO, ONE, NONE),
    op("ArgMax", ONE, ONE, ARG),
    op("ArgMin", ONE, ONE, ARG),
    op(
        "AveragePool",
        ONE,
        ONE,
        &[
            ("auto_pad", Text),
            ("ceil_mode", Int),
            ("count_include_pad", Int),
            ("kernel_shape", Ints),
            ("pads", Ints),
            ("strides", Ints),
        ],
    ),
    op(
        "BatchNormalization",
        (5, 5),
        ONE,
        &[
            ("epsilon", Float),
            ("momentum", Float),
            ("training_mode", Int),
        ],
    ),
    op("Cast", ONE, ONE, &[("to", Int)]),
    op("Ceil", ONE, ONE, NONE),
    op("Clip", (1, 3), ONE, NONE),
    op("Concat", (1, MANY), ONE, AXIS),
    op("Conv", (2, 3), ONE, CONV),
    op("ConvTranspose", (2, 3), ONE, CONV_TRANSPOSE),
    op("Cos", ONE, ONE, NONE),
    op("CumSum", TWO, ONE, &[("exclusive", Int), ("reverse", Int)]),
    op(
        "DepthToSpace",
        ONE,
        ONE,
        &[("blocksize", Int), ("mode", Text)],
    ),
    op("Div", TWO, ONE, NONE),
    op("Elu", ONE, ONE, &[("alpha", Float)]),
    op("Equal", TWO, ONE, NONE),
    op("Erf", ONE, ONE, NONE),
    op("Exp", ONE, ONE, NONE),
    op("Expand", TWO, ONE, NONE),
    op("Floor", ONE, ONE, NONE),
    op("Gather", TWO, ONE, AXIS),
    op("GatherElements", TWO, ONE, AXIS),
    op(
        "Gemm",
        (2, 3),
        ONE,
        &[
            ("alpha", Float),
            ("beta", Float),
            ("transA", Int),
            ("transB", Int),
        ],
    ),
    op("GlobalAveragePool", ONE, ONE, NONE),
    op("Greater", TWO, ONE, NONE),
    op("GreaterOrEqual", TWO, ONE, NONE),
    // Of opset 18: read, and taken apart by the lowering; the checker refuses it in a file.
    op(
        "GroupNormalization",
        (3, 3),
        ONE,
        &[("epsilon", Float), ("num_groups", Int)],
    ),
    op("Identity", ONE, ONE, NONE),
    op(
        "If",
        ONE,
        (1, MANY),
        &[("else_branch", Graph), ("then_branch", Graph)],
    ),
    op("InstanceNormalization", (3, 3), ONE, &[("epsilon", Float)]),
    op(
        "LayerNormalization",
        (2, 3),
        ONE,
        &[("axis", Int), ("epsilon", Float), ("stash_type", Int)],
    ),
    op("LeakyRelu", ONE, ONE, &[("alpha", Float)]),
    op("Less", TWO, ONE, NONE),
    op("LessOrEqual", TWO, ONE, NONE),
    op("Log", ONE, ONE, NONE),
    op("LogSoftmax", ONE, ONE, AXIS),
    op("Loop", (2, MANY), (1, MANY), &[("body", Graph)]),
    op("MatMul", TWO, ONE, NONE),
    op("Max", (1, MANY), ONE, NONE),
    op(
        "MaxPool",
        ONE,
        ONE,
        &[
            ("auto_pad", Text),
            ("ceil_mode", Int),
            ("dilations", Ints),
            ("kernel_shape", Ints),
            ("pads", Ints),
            ("storage_order", Int),
            ("strides", Ints),
        ],
    ),
    op("Min", (1, MANY), ONE, NONE),
    op("Mul", TWO, ONE, NONE),
    op("Neg", ONE, ONE, NONE),
    op("Not", ONE, ONE, NONE),
    op("Or", TWO, ONE, NONE),
    op("Pad", (2, 3), ONE, &[("mode", Text)]),
    op("Pow", TWO, ONE, NONE),
    op("PRelu", TWO, ONE, NONE),
    op("ReduceMax", ONE, ONE, REDUCE),
    op("ReduceMean", ONE, ONE, REDUCE),
    op("ReduceMin", ONE, ONE, REDUCE),
    op(
        "ReduceSum",
        (1, 2),
        ONE,
        &[("keepdims", Int), ("noop_with_empty_axes", Int)],
    ),
    op("Relu", ONE, ONE, NONE),
    op("Reshape", TWO, ONE, &[("allowzero", Int)]),
    op(
        "Resize",
        (3, 4),
        ONE,
        &[
            ("coordinate_transformation_mode", Text),
            ("mode", Text),
            ("nearest_mode", Text),
        ],
    ),
    op("Scan", (1, MANY), (1, MANY), SCAN),
    op("ScatterND", (3, 3), ONE, &[("reduction", Text)]),
    op("Sigmoid", ONE, ONE, NONE),
    op("Sign", ONE, ONE, NONE),
    op("Sin", ONE, ONE, NONE),
    op("Slice", (3, 5), ONE, NONE),
    op("Softmax", ONE, ONE, AXIS),
    op("Softplus", ONE, ONE, NONE),
    op("Split", (1, 2), (1, MANY), AXIS),
    op("Sqrt", ONE, ONE, NONE),
    op("Squeeze", (1, 2), ONE, NONE),
    op("Sub", TWO, ONE, NONE),
    op("Tanh", ONE, ONE, NONE),
    op("Tile", TWO, ONE, NONE),
    op("Transpose", ONE, ONE, &[("perm", Ints)]),
    op("Unsqueeze", TWO, ONE, NONE),
    op("Where", (3, 3), ONE, NONE),
];

/// Holds a node against the table: operator known, counts right, attributes known and of their kind, required inputs there.
pub(crate) fn conforms(node: &Node) -> Result<(), String> {
    let Some(op) = OPS.iter().find(|op| op.name == node.op) else {
        return Err("the operator is unknown".into());
    };
    for (what, n, (least, most)) in [
        ("inputs", node.inputs.len(), op.inputs),
        ("outputs", node.outputs.len(), op.outputs),
    ] {
        if n < least || n > most {
            let range = match (least, most) {
                (least, MANY) => format!("at least {least}"),
                (least, most) if least == most => format!("{least}"),
                (least, most) => format!("{least} to {most}"),
            };
            return Err(format!("it has {n} {what}, the operator takes {range}"));
        }
    }
    // Resize's second input is a region that only another mode reads; Clip's bounds are each optional, and so are a Loop's count and condition.
    let required = match node.op.as_str() {
        "Resize" => 1,
        "Clip" => 1,
        "Loop" => 0,
        _ => op.inputs.0,
    };
    if let Some(i) = node.inputs.iter().take(required).position(String::is_empty) {
        return Err(format!("input {i} is left out"));
    }
    if node.outputs[0].is_empty() {
        return Err("its first output has no name".into());
    }
    for (name, value) in &node.attributes {
        let Some((_, kind)) = op.attributes.iter().find(|(known, _)| known == name) else {
            return Err(format!("the operator has no attribute {name:?}"));
        };
        let got = match value {
            Attribute::Int(_) => Some(Int),
            Attribute::Float(_) => Some(Float),
            Attribute::Text(_) => Some(Text),
            Attribute::Ints(_) => Some(Ints),
            Attribute::Graph(_) => Some(Graph),
            Attribute::Floats(_) | Attribute::Tensor(_) => None,
        };
        if got != Some(*kind) {
            return Err(format!("attribute {name:?} is not of the kind {kind:?}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_no_operator_twice() {
        for (i, op) in OPS.iter().enumerate() {
            assert!(
                OPS[..i].iter().all(|other| other.name != op.name),
                "{}",
                op.name
            );
            assert!(
                op.inputs.0 <= op.inputs.1 && op.outputs.0 >= 1,
                "{}",
                op.name
            );
        }
    }
}
