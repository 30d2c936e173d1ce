//! Graphs as ONNX models. The bytes follow from the graph and the metadata alone.

use prost::Message;
use zoo_graph::{Attribute, Dim, Distribution, Graph, Node, Port, ValueType};

use crate::{
    proto::{
        AttributeProto, Dimension, DimensionValue, GraphProto, ModelProto, NodeProto,
        OperatorSetIdProto, StringStringEntryProto, TensorShapeProto, TensorType, TypeProto,
        ValueInfoProto, attribute_type,
    },
    tensor,
};

/// The version of ONNX's IR that files have.
pub const IR_VERSION: i64 = 8;
/// The version of ONNX's default operator set that files use.
pub const OPSET: i64 = 17;

/// Encodes a graph as it stands: no lowering, no checking ([`export`](crate::export) does both).
///
/// `metadata` becomes `metadata_props` in its order, followed by what the graph says of its ports: `input.z.distribution`
/// (`normal` or `uniform`), `input.x.range` (`[0,1]`) and `input.t.description`, and `output.` likewise.
pub fn encode(graph: &Graph, metadata: &[(String, String)]) -> Vec<u8> {
    let mut props = metadata.to_vec();
    for (key, value) in port_metadata(graph) {
        if !props.iter().any(|(k, _)| *k == key) {
            props.push((key, value));
        }
    }
    let model = ModelProto {
        ir_version: IR_VERSION,
        producer_name: "zoo".into(),
        producer_version: env!("CARGO_PKG_VERSION").into(),
        opset_import: vec![OperatorSetIdProto {
            domain: String::new(),
            version: OPSET,
        }],
        graph: Some(graph_proto(graph)),
        metadata_props: props
            .into_iter()
            .map(|(key, value)| StringStringEntryProto { key, value })
            .collect(),
        ..ModelProto::default()
    };
    model.encode_to_vec()
}

/// Ranges, distributions and descriptions as key and value.
fn port_metadata(graph: &Graph) -> Vec<(String, String)> {
    let inputs = graph.inputs.iter().map(|port| ("input", port));
    let outputs = graph.outputs.iter().map(|port| ("output", port));
    let mut entries = Vec::new();
    for (side, port) in inputs.chain(outputs) {
        if let Some(distribution) = port.distribution {
            let name = match distribution {
                Distribution::Normal => "normal",
                Distribution::Uniform => "uniform",
            };
            entries.push((format!("{side}.{}.distribution", port.name), name.into()));
        }
        if let Some([low, high]) = port.range {
            entries.push((
                format!("{side}.{}.range", port.name),
                format!("[{low},{high}]"),
            ));
        }
        if let Some(text) = &port.description {
            entries.push((format!("{side}.{}.description", port.name), text.clone()));
        }
    }
    entries
}

fn graph_proto(graph: &Graph) -> GraphProto {
    let is_output = |name: &str| graph.outputs.iter().any(|port| port.name == name);
    let value_info = graph
        .nodes
        .iter()
        .flat_map(|node| &node.outputs)
        .filter(|name| !name.is_empty() && !is_output(name))
        .filter_map(|name| Some(value_info(name, graph.types.get(name)?)))
        .collect();
    GraphProto {
        name: graph.name.clone(),
        node: graph.nodes.iter().map(node_proto).collect(),
        initializer: graph
            .initializers
            .iter()
            .map(|i| tensor::to_proto(&i.name, &i.value))
            .collect(),
        input: graph.inputs.iter().map(port_info).collect(),
        output: graph.outputs.iter().map(port_info).collect(),
        value_info,
        ..GraphProto::default()
    }
}

fn port_info(port: &Port) -> ValueInfoProto {
    value_info(&port.name, &port.value_type())
}

fn value_info(name: &str, ty: &ValueType) -> ValueInfoProto {
    let dim = |dim: &Dim| Dimension {
        value: Some(match dim.fixed() {
            Some(size) => DimensionValue::Value(size as i64),
            None => DimensionValue::Param(dim.to_string()),
        }),
    };
    ValueInfoProto {
        name: name.into(),
        r#type: Some(TypeProto {
            tensor_type: Some(TensorType {
                elem_type: tensor::dtype_code(ty.dtype),
                shape: Some(TensorShapeProto {
                    dim: ty.shape.iter().map(dim).collect(),
                }),
            }),
        }),
        ..ValueInfoProto::default()
    }
}

fn node_proto(node: &Node) -> NodeProto {
    NodeProto {
        name: node.name.clone(),
        op_type: node.op.clone(),
        input: node.inputs.clone(),
        output: node.outputs.clone(),
        attribute: node
            .attributes
            .iter()
            .map(|(name, value)| attribute_proto(name, value))
            .collect(),
        ..NodeProto::default()
    }
}

fn attribute_proto(name: &str, value: &Attribute) -> AttributeProto {
    let mut proto = AttributeProto {
        name: name.into(),
        ..AttributeProto::default()
    };
    proto.r#type = match value {
        Attribute::Int(value) => {
            proto.i = *value;
            attribute_type::INT
        }
        Attribute::Float(value) => {
            proto.f = *value;
            attribute_type::FLOAT
        }
        Attribute::Text(value) => {
            proto.s = value.clone().into_bytes();
            attribute_type::STRING
        }
        Attribute::Ints(values) => {
            proto.ints = values.clone();
            attribute_type::INTS
        }
        Attribute::Floats(values) => {
            proto.floats = values.clone();
            attribute_type::FLOATS
        }
        Attribute::Tensor(value) => {
            proto.t = Some(tensor::to_proto("", value));
            attribute_type::TENSOR
        }
        Attribute::Graph(body) => {
            proto.g = Some(graph_proto(body));
            attribute_type::GRAPH
        }
    };
    proto
}
