//! Small ONNX files, encoded by hand.

#![allow(dead_code)] // Not every test file needs all of it.

use prost::Message;
use tract_onnx::pb::{
    self, attribute_proto::AttributeType, tensor_proto::DataType,
    tensor_shape_proto::dimension::Value as DimValue, type_proto,
};

/// A port: name, element type, dimensions as text.
pub type PortText<'a> = (&'a str, DataType, &'a [&'a str]);

pub fn value_info((name, dtype, dims): PortText<'_>) -> pb::ValueInfoProto {
    let dim = |text: &&str| pb::tensor_shape_proto::Dimension {
        value: match text.parse() {
            Ok(size) => Some(DimValue::DimValue(size)),
            Err(_) if text.is_empty() => None,
            Err(_) => Some(DimValue::DimParam(text.to_string())),
        },
        ..Default::default()
    };
    let shape = pb::TensorShapeProto {
        dim: dims.iter().map(dim).collect(),
    };
    let tensor = type_proto::Tensor {
        elem_type: dtype as i32,
        shape: Some(shape),
    };
    pb::ValueInfoProto {
        name: name.into(),
        r#type: Some(pb::TypeProto {
            value: Some(type_proto::Value::TensorType(tensor)),
            ..Default::default()
        }),
        ..Default::default()
    }
}

pub fn floats(name: &str, dims: &[i64], values: &[f32]) -> pb::TensorProto {
    pb::TensorProto {
        name: name.into(),
        dims: dims.to_vec(),
        data_type: DataType::Float as i32,
        raw_data: values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        ..Default::default()
    }
}

pub fn ints(name: &str, dims: &[i64], values: &[i64]) -> pb::TensorProto {
    pb::TensorProto {
        name: name.into(),
        dims: dims.to_vec(),
        data_type: DataType::Int64 as i32,
        int64_data: values.to_vec(),
        ..Default::default()
    }
}

pub fn int(name: &str, value: i64) -> pb::AttributeProto {
    pb::AttributeProto {
        name: name.into(),
        r#type: AttributeType::Int as i32,
        i: value,
        ..Default::default()
    }
}

pub fn node(
    op: &str,
    inputs: &[&str],
    outputs: &[&str],
    attributes: Vec<pb::AttributeProto>,
) -> pb::NodeProto {
    pb::NodeProto {
        name: format!("the.{}", outputs[0]),
        op_type: op.into(),
        input: inputs.iter().map(|s| s.to_string()).collect(),
        output: outputs.iter().map(|s| s.to_string()).collect(),
        attribute: attributes,
        ..Default::default()
    }
}

pub fn model(
    inputs: &[PortText<'_>],
    outputs: &[PortText<'_>],
    initializer: Vec<pb::TensorProto>,
    node: Vec<pb::NodeProto>,
) -> pb::ModelProto {
    pb::ModelProto {
        ir_version: 8,
        opset_import: vec![pb::OperatorSetIdProto {
            domain: String::new(),
            version: 17,
        }],
        graph: Some(pb::GraphProto {
            name: "test".into(),
            input: inputs.iter().map(|&p| value_info(p)).collect(),
            output: outputs.iter().map(|&p| value_info(p)).collect(),
            initializer,
            node,
            ..Default::default()
        }),
        ..Default::default()
    }
}

pub const F32: DataType = DataType::Float;

/// x (N,2) -> y = relu(x W' + b) (N,3), s (N)
pub fn mlp() -> pb::ModelProto {
    model(
        &[("x", F32, &["N", "2"])],
        &[("y", F32, &["N", "3"]), ("s", F32, &["N"])],
        vec![
            floats("w", &[3, 2], &[1.0, 2.0, -1.0, 0.5, 0.0, -3.0]),
            floats("b", &[3], &[0.5, 0.0, 1.0]),
            ints("axes", &[1], &[1]),
        ],
        vec![
            node("Gemm", &["x", "w", "b"], &["h"], vec![int("transB", 1)]),
            node("Relu", &["h"], &["y"], vec![]),
            node(
                "ReduceSum",
                &["y", "axes"],
                &["s"],
                vec![int("keepdims", 0)],
            ),
        ],
    )
}

pub fn bytes(model: &pb::ModelProto) -> Vec<u8> {
    model.encode_to_vec()
}

/// z (N,100) -> y (N,1,28,28), two transposed convolutions, to measure with.
pub fn generator() -> pb::ModelProto {
    let weights = |name: &str, dims: &[i64]| {
        let count = dims.iter().product::<i64>();
        let value = |i: i64| ((i * 7919) % 1000) as f32 / 1e5 - 0.005;
        floats(name, dims, &(0..count).map(value).collect::<Vec<f32>>())
    };
    let up = |x: &str, w: &str, y: &str| {
        let attributes = [
            ("kernel_shape", vec![4, 4]),
            ("strides", vec![2, 2]),
            ("pads", vec![1, 1, 1, 1]),
        ];
        let attributes = attributes.map(|(name, ints)| pb::AttributeProto {
            name: name.into(),
            r#type: AttributeType::Ints as i32,
            ints,
            ..Default::default()
        });
        node("ConvTranspose", &[x, w], &[y], attributes.to_vec())
    };
    model(
        &[("z", F32, &["N", "100"])],
        &[("y", F32, &["N", "1", "28", "28"])],
        vec![
            weights("a.w", &[3136, 100]),
            weights("a.b", &[3136]),
            ints("shape", &[4], &[0, 64, 7, 7]),
            weights("b.w", &[64, 32, 4, 4]),
            weights("c.w", &[32, 1, 4, 4]),
        ],
        vec![
            node("Gemm", &["z", "a.w", "a.b"], &["p"], vec![int("transB", 1)]),
            node("Relu", &["p"], &["q"], vec![]),
            node("Reshape", &["q", "shape"], &["r"], vec![]),
            up("r", "b.w", "s"),
            node("Relu", &["s"], &["t"], vec![]),
            up("t", "c.w", "u"),
            node("Sigmoid", &["u"], &["y"], vec![]),
        ],
    )
}

/// x (N,784) -> y (N,784) through two layers of 400, to measure with.
pub fn wide_mlp() -> pb::ModelProto {
    let layer = |name: &str, from: i64, to: i64| {
        let values: Vec<f32> = (0..from * to)
            .map(|i| ((i * 7919) % 1000) as f32 / 1e5 - 0.005)
            .collect();
        let bias = vec![0.01; to as usize];
        [
            floats(&format!("{name}.w"), &[to, from], &values),
            floats(&format!("{name}.b"), &[to], &bias),
        ]
    };
    let gemm = |name: &str, x: &str, y: &str| {
        let (w, b) = (format!("{name}.w"), format!("{name}.b"));
        node("Gemm", &[x, &w, &b], &[y], vec![int("transB", 1)])
    };
    model(
        &[("x", F32, &["N", "784"])],
        &[("y", F32, &["N", "784"])],
        [
            layer("a", 784, 400),
            layer("b", 400, 400),
            layer("c", 400, 784),
        ]
        .concat(),
        vec![
            gemm("a", "x", "p"),
            node("Relu", &["p"], &["q"], vec![]),
            gemm("b", "q", "r"),
            node("Relu", &["r"], &["s"], vec![]),
            gemm("c", "s", "t"),
            node("Sigmoid", &["t"], &["y"], vec![]),
        ],
    )
}
