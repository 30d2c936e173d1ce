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
