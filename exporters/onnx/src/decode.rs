//! ONNX models as graphs. Input may be hostile: every count and size is checked, nothing panics.

use std::collections::BTreeMap;

use prost::Message;
use zoo_graph::{Attribute, DType, Dim, Distribution, Graph, Initializer, Node, Port, ValueType};

use crate::{
    Error, Result,
    proto::{
        AttributeProto, DimensionValue, GraphProto, ModelProto, NodeProto, ValueInfoProto,
        attribute_type,
    },
    tensor,
};

/// Graphs inside graphs, at most.
const MAX_DEPTH: usize = 8;
/// Nodes in a graph, at most.
const MAX_NODES: usize = 1 << 20;

/// A file's content.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// What it computes. Values whose type the file does not state are missing from `types`.
    pub graph: Graph,
    /// The version of the default operator set.
    pub opset: i64,
    /// The version of the IR.
    pub ir_version: i64,
    /// Who wrote the file, with the version.
    pub producer: String,
    /// `metadata_props`, in the file's order.
    pub metadata: Vec<(String, String)>,
}

/// Reads a model whose weights stand in the file itself. Operators are not looked at: [`check`](crate::check) does that.
pub fn decode(bytes: &[u8]) -> Result<Model> {
    let model = ModelProto::decode(bytes)?;
    let err = |reason: &str| Err(Error::Model(reason.into()));
    if !model.functions.is_empty() || !model.training_info.is_empty() {
        return err("functions and training information are not supported");
    }
    let opset = match model.opset_import.as_slice() {
        [set] if set.domain.is_empty() || set.domain == "ai.onnx" => set.version,
        [] => return err("it imports no operator set"),
        _ => return err("it imports other operator sets than ONNX's own"),
    };
    let Some(proto) = &model.graph else {
        return err("it holds no graph");
    };
    let mut metadata: Vec<(String, String)> = Vec::with_capacity(model.metadata_props.len());
    let mut keys = BTreeMap::new();
    for entry in &model.metadata_props {
        if keys.insert(&entry.key, &entry.value).is_some() {
            return Err(Error::Model(format!(
                "metadata_props has the key {:?} twice",
                entry.key
            )));
        }
        metadata.push((entry.key.clone(), entry.value.clone()));
    }
    let mut graph = read_graph(proto, 0)?;
    for port in &mut graph.inputs {
        describe(port, "input", &keys)?;
    }
    for port in &mut graph.outputs {
        describe(port, "output", &keys)?;
    }
    Ok(Model {
        graph,
        opset,
        ir_version: model.ir_version,
        producer: format!("{} {}", model.producer_name, model.producer_version)
            .trim()
            .into(),
        metadata,
    })
}

/// Range, distribution and description of a port, from the metadata.
fn describe(port: &mut Port, side: &str, keys: &BTreeMap<&String, &String>) -> Result<()> {
    let get = |what: &str| {
        let key = format!("{side}.{}.{what}", port.name);
        keys.get(&key).map(|value| (key, value.as_str()))
    };
    let bad = |key: &str, value: &str| Err(Error::Model(format!("metadata {key:?} is {value:?}")));
    let distribution = match get("distribution") {
        None => None,
        Some((_, "normal")) => Some(Distribution::Normal),
        Some((_, "uniform")) => Some(Distribution::Uniform),
        Some((key, other)) => return bad(&key, other),
    };
    let range = match get("range") {
        None => None,
        Some((key, text)) => match serde_json::from_str(text) {
            Ok(range) => Some(range),
            Err(_) => return bad(&key, text),
        },
    };
    (port.distribution, port.range) = (distribution, range);
    port.description = get("description").map(|(_, text)| text.to_owned());
    Ok(())
}

fn read_graph(proto: &GraphProto, depth: usize) -> Result<Graph> {
    if depth > MAX_DEPTH {
        return Err(Error::Model(format!(
            "graphs are nested deeper than {MAX_DEPTH}"
        )));
    }
    if !proto.sparse_initializer.is_empty() || !proto.quantization_annotation.is_empty() {
        return Err(Error::Model(
            "sparse initializers and quantization annotations are not supported".into(),
        ));
    }
    if proto.node.len() > MAX_NODES {
        return Err(Error::Model(format!(
            "it has {} nodes, more than {MAX_NODES}",
            proto.node.len()
        )));
    }
    let mut graph = Graph {
        name: proto.name.clone(),
        ..Graph::default()
    };
    for (infos, ports) in [
        (&proto.input, &mut graph.inputs),
        (&proto.output, &mut graph.outputs),
    ] {
        for info in infos {
            let (dtype, shape) = read_type(info)?;
            let shape: Option<Vec<Dim>> = shape.into_iter().flatten().collect();
            let Some(shape) = shape else {
                return Err(Error::value(
                    &info.name,
                    "a dimension of this port has neither size nor symbol",
                ));
            };
            let port = Port::new(&info.name, dtype, shape);
            graph.types.insert(port.name.clone(), port.value_type());
            ports.push(port);
        }
    }
    for tensor in &proto.initializer {
        let value = tensor::from_proto(tensor)?;
        let ty = ValueType {
            dtype: value.dtype(),
            shape: value.shape().iter().map(|&d| d.into()).collect(),
        };
        graph.types.insert(tensor.name.clone(), ty);
        graph.initializers.push(Initializer {
            name: tensor.name.clone(),
            value,
        });
    }
    for info in &proto.value_info {
        let (dtype, shape) = read_type(info)?;
        // A shape that is not fully stated is left to inference.
        if let Some(shape) = shape.and_then(|dims| dims.into_iter().collect::<Option<Vec<Dim>>>())
            && graph
                .types
                .insert(info.name.clone(), ValueType { dtype, shape })
                .is_some()
        {
            return Err(Error::value(&info.name, "its type is stated twice"));
        }
    }
    for node in &proto.node {
        graph.nodes.push(read_node(node, depth)?);
    }
    Ok(graph)
}

/// Element type, and the dimensions, where the file states them.
#[allow(clippy::type_complexity)]
fn read_type(info: &ValueInfoProto) -> Result<(DType, Option<Vec<Option<Dim>>>)> {
    let tensor = info.r#type.as_ref().and_then(|t| t.tensor_type.as_ref());
    let Some(tensor) = tensor else {
        return Err(Error::value(&info.name, "it is no tensor"));
    };
    let dtype = tensor::dtype_of(tensor.elem_type).ok_or_else(|| {
        Error::value(
            &info.name,
            format!("its element type {} is not supported", tensor.elem_type),
        )
    })?;
    let Some(shape) = &tensor.shape else {
        return Ok((dtype, None));
    };
    let dims = shape.dim.iter().map(|dim| match &dim.value {
        None => Ok(None),
        Some(DimensionValue::Value(size)) => usize::try_from(*size)
            .map(|size| Some(Dim::Fixed(size)))
            .map_err(|_| Error::value(&info.name, format!("its dimension {size} is negative"))),
        Some(DimensionValue::Param(text)) if text.is_empty() => Ok(None),
        Some(DimensionValue::Param(text)) => {
            Ok(Some(text.parse().unwrap_or_else(|_| symbol(text))))
        }
    });
    Ok((dtype, Some(dims.collect::<Result<_>>()?)))
}

/// Other tools' names for dimensions, such as `batch-size`, as a symbol of ours.
fn symbol(text: &str) -> Dim {
    let clean = |c: char| if c.is_alphanumeric() { c } else { '_' };
    let symbol = std::iter::once('_').chain(text.chars().map(clean));
    Dim::symbol(symbol.collect::<String>())
}

fn read_node(proto: &NodeProto, depth: usize) -> Result<Node> {
    let mut node = Node {
        name: proto.name.clone(),
        op: proto.op_type.clone(),
        inputs: proto.input.clone(),
        outputs: proto.output.clone(),
        ..Node::default()
    };
    if !proto.domain.is_empty() && proto.domain != "ai.onnx" {
        return Err(Error::node(
            &node,
            format!("the operator domain {:?} is not ONNX's own", proto.domain),
        ));
    }
    for attribute in &proto.attribute {
        let name = &attribute.name;
        let value = read_attribute(&node, attribute, depth)?;
        if node.attributes.insert(name.clone(), value).is_some() {
            return Err(Error::node(
                &node,
                format!("attribute {name:?} is given twice"),
            ));
        }
    }
    Ok(node)
}

fn read_attribute(node: &Node, proto: &AttributeProto, depth: usize) -> Result<Attribute> {
    let err = |what: &str| Error::node(node, format!("attribute {:?} {what}", proto.name));
    if !proto.ref_attr_name.is_empty() {
        return Err(err("refers to an attribute of a function"));
    }
    Ok(match proto.r#type {
        attribute_type::INT => Attribute::Int(proto.i),
        attribute_type::FLOAT => Attribute::Float(proto.f),
        attribute_type::STRING => {
            let text = String::from_utf8(proto.s.clone());
            Attribute::Text(text.map_err(|_| err("is no UTF-8 text"))?)
        }
        attribute_type::INTS => Attribute::Ints(proto.ints.clone()),
        attribute_type::FLOATS => Attribute::Floats(proto.floats.clone()),
        attribute_type::TENSOR => {
            let tensor = proto.t.as_ref().ok_or_else(|| err("has no tensor"))?;
            let array = tensor::from_proto(tensor).map_err(|e| err(&e.to_string()))?;
            Attribute::Tensor(array)
        }
        attribute_type::GRAPH => {
            let body = proto.g.as_ref().ok_or_else(|| err("has no graph"))?;
            Attribute::Graph(Box::new(read_graph(body, depth + 1)?))
        }
        other => return Err(err(&format!("has the unsupported type {other}"))),
    })
}

#[cfg(test)]
mod tests {
    use zoo_graph::Array;

    use super::*;
    use crate::{
        encode,
        testing::{Net, random},
    };

    /// A branch that reads an outer value.
    fn branch(name: &str, op: &str) -> Attribute {
        let mut net = Net::inside(name, &[Port::normal("x", &[4])]);
        net.node(name, op, &["x"], &[]);
        Attribute::Graph(Box::new(net.outputs(&[name])))
    }

    /// Every kind of attribute but one, bodies, a scaled batch, an input left out, described ports.
    fn graph() -> Graph {
        let mut net = Net::new("all");
        net.input(Port::normal("x", &[4]));
        net.input(Port::label("label", 10));
        net.constant("cond", Array::bool([], [1]).unwrap());
        net.constant("w", random(&[3, 4], 1));
        net.constant("top", Array::f32([], [1.0]).unwrap());
        net.constant("pairs", Array::i64([2], [-1, 2]).unwrap());
        let branches = [
            ("then_branch", branch("plus", "Abs")),
            ("else_branch", branch("minus", "Neg")),
        ];
        net.node("chosen", "If", &["cond"], &branches);
        let attributes = [
            ("transB", Attribute::Int(1)),
            ("alpha", Attribute::Float(0.5)),
        ];
        net.node("fc", "Gemm", &["chosen", "w"], &attributes);
        net.node("clip", "Clip", &["fc", "", "top"], &[]);
        net.node(
            "turned",
            "Transpose",
            &["clip"],
            &[("perm", Attribute::Ints(vec![0, 1]))],
        );
        net.node("two", "Reshape", &["chosen", "pairs"], &[]);
        net.node("kind", "Identity", &["label"], &[]);
        let mut graph = net.outputs(&["turned", "two", "kind"]);
        graph.outputs[0].range = Some([-1.5, 1.0]);
        graph.outputs[0].description = Some("an angle".into());
        graph
    }

    /// A file does not keep where the author's lines are.
    fn without_origins(graph: &mut Graph) {
        for node in &mut graph.nodes {
            node.origin = None;
            for attribute in node.attributes.values_mut() {
                if let Attribute::Graph(body) = attribute {
                    without_origins(body);
                }
            }
        }
    }

    #[test]
    fn graphs_come_back_as_they_were() {
        let mut graph = graph();
        assert_eq!(graph.types["two"].shape[0].to_string(), "2*N");
        let bytes = encode(&graph, &[("model".into(), "vae".into())]);
        assert_eq!(bytes, encode(&graph, &[("model".into(), "vae".into())]));
        let model = decode(&bytes).unwrap();
        without_origins(&mut graph);
        assert_eq!(model.graph, graph);
        assert_eq!(
            (model.opset, model.ir_version),
            (crate::OPSET, crate::IR_VERSION)
        );
        assert_eq!(model.metadata[0], ("model".into(), "vae".into()));
        assert_eq!(encode(&model.graph, &model.metadata), bytes);
        crate::check(&bytes).unwrap();
    }

    #[test]
    fn names_of_other_tools_become_symbols() {
        let info = |param: &str| ValueInfoProto {
            name: "x".into(),
            r#type: Some(crate::proto::TypeProto {
                tensor_type: Some(crate::proto::TensorType {
                    elem_type: 1,
                    shape: Some(crate::proto::TensorShapeProto {
                        dim: vec![crate::proto::Dimension {
                            value: Some(DimensionValue::Param(param.into())),
                        }],
                    }),
                }),
            }),
            ..ValueInfoProto::default()
        };
        for (param, expected) in [
            ("N", "N"),
            ("50*N", "50*N"),
            ("batch-size", "_batch_size"),
            ("0*N", "_0_N"),
        ] {
            let (_, shape) = read_type(&info(param)).unwrap();
            assert_eq!(shape.unwrap()[0].as_ref().unwrap().to_string(), expected);
        }
    }
}
