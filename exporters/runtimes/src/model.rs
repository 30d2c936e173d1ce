//! Reads an ONNX file once, for its ports and for what would bring a runtime down.

use std::collections::BTreeSet;

use prost::Message;
use tract_onnx::pb::{
    self, tensor_proto::DataType, tensor_shape_proto::dimension::Value as DimValue,
    type_proto::Value as TypeValue,
};
use zoo_sdk::{DType, Dim, Port};

use crate::{Error, Result};

/// A decoded file and its ports.
pub(crate) struct Model {
    pub proto: pb::ModelProto,
    /// Inputs that are not initializers.
    pub inputs: Vec<Port>,
    pub outputs: Vec<Port>,
}

impl Model {
    pub fn read(bytes: &[u8]) -> Result<Self> {
        let proto =
            pb::ModelProto::decode(bytes).map_err(|error| Error::File(error.to_string()))?;
        let graph = proto
            .graph
            .as_ref()
            .ok_or_else(|| Error::File("it holds no graph".into()))?;
        check_graph(graph)?;
        check_outputs(graph)?;
        let weights: BTreeSet<&str> = graph.initializer.iter().map(|t| t.name.as_str()).collect();
        let inputs = graph
            .input
            .iter()
            .filter(|info| !weights.contains(info.name.as_str()));
        Ok(Self {
            inputs: ports("input", inputs)?,
            outputs: ports("output", graph.output.iter())?,
            proto,
        })
    }
}

impl Model {
    /// The operator of the node that is called `name` or, where nodes have no names, gives the value `name`.
    pub fn operator(&self, name: &str) -> Option<&str> {
        let mut nodes = self.proto.graph.iter().flat_map(|graph| &graph.node);
        let node = nodes.find(|n| n.name == name || n.output.iter().any(|o| o == name))?;
        Some(&node.op_type)
    }
}

/// Every output must come from somewhere: runtimes index by name and panic.
fn check_outputs(graph: &pb::GraphProto) -> Result<()> {
    let inputs = graph.input.iter().map(|i| i.name.as_str());
    let weights = graph.initializer.iter().map(|t| t.name.as_str());
    let made = graph
        .node
        .iter()
        .flat_map(|node| node.output.iter().map(String::as_str));
    let known: BTreeSet<&str> = inputs.chain(weights).chain(made).collect();
    if graph.output.is_empty() {
        return Err(Error::File("it has no outputs".into()));
    }
    match graph.output.iter().find(|o| !known.contains(&*o.name)) {
        Some(output) => Err(Error::File(format!(
            "output {:?} is produced by no node",
            output.name
        ))),
        None => Ok(()),
    }
}

/// Checks the tensors of a graph and its sub-graphs. Their nesting is bounded by the decoder's recursion limit.
fn check_graph(graph: &pb::GraphProto) -> Result<()> {
    if let Some(sparse) = graph.sparse_initializer.first() {
        let name = sparse.values.as_ref().map_or("", |t| t.name.as_str());
        return Err(Error::File(format!(
            "the sparse initializer {name:?} is not supported"
        )));
    }
    for tensor in &graph.initializer {
        check_tensor(tensor, &format!("initializer {:?}", tensor.name))?;
    }
    for node in &graph.node {
        for attribute in &node.attribute {
            let place = format!(
                "attribute {:?} of node {:?} ({})",
                attribute.name, node.name, node.op_type
            );
            for tensor in attribute.t.iter().chain(&attribute.tensors) {
                check_tensor(tensor, &place)?;
            }
            for body in attribute.g.iter().chain(&attribute.graphs) {
                check_graph(body)?;
            }
        }
    }
    Ok(())
}

/// A tensor's data must be in the file and be as long as its shape says.
fn check_tensor(tensor: &pb::TensorProto, place: &str) -> Result<()> {
    let bad = |what: String| Err(Error::File(format!("{place} {what}")));
    if tensor.data_location.unwrap_or(0) != 0 || !tensor.external_data.is_empty() {
        return bad("keeps its data in another file, which is not supported".into());
    }
    let shape = &tensor.dims;
    let count = shape
        .iter()
        .try_fold(1usize, |n, &d| n.checked_mul(usize::try_from(d).ok()?));
    let Some(count) = count else {
        return bad(format!("has the impossible shape {shape:?}"));
    };
    let Ok(dtype) = DataType::try_from(tensor.data_type) else {
        return bad(format!("has the unknown element type {}", tensor.data_type));
    };
    // Bytes of an element, and how many the field for its type holds.
    let (size, held) = match dtype {
        DataType::Float => (4, tensor.float_data.len()),
        DataType::Complex64 => (8, tensor.float_data.len() / 2),
        DataType::Double => (8, tensor.double_data.len()),
        DataType::Complex128 => (16, tensor.double_data.len() / 2),
        DataType::Int64 => (8, tensor.int64_data.len()),
        DataType::Uint64 => (8, tensor.uint64_data.len()),
        DataType::Uint32 => (4, tensor.uint64_data.len()),
        DataType::Int32 => (4, tensor.int32_data.len()),
        DataType::Int16 | DataType::Uint16 | DataType::Float16 | DataType::Bfloat16 => {
            (2, tensor.int32_data.len())
        }
        DataType::String => (usize::MAX, tensor.string_data.len()),
        DataType::Undefined => return bad("has no element type".into()),
        _ => (1, tensor.int32_data.len()),
    };
    let raw = tensor.raw_data.len();
    let fits = if raw > 0 {
        count.checked_mul(size) == Some(raw)
    } else {
        held == count
    };
    if fits {
        return Ok(());
    }
    let got = if raw > 0 {
        format!("{raw} bytes")
    } else {
        format!("{held} values")
    };
    bad(format!("of shape {shape:?} holds {got}"))
}

fn ports<'a>(kind: &str, infos: impl Iterator<Item = &'a pb::ValueInfoProto>) -> Result<Vec<Port>> {
    let mut seen = BTreeSet::new();
    infos
        .map(|info| {
            if !seen.insert(info.name.as_str()) {
                return Err(Error::File(format!(
                    "two {kind}s are called {:?}",
                    info.name
                )));
            }
            port(info).map_err(|what| Error::File(format!("{kind} {:?} {what}", info.name)))
        })
        .collect()
}

fn port(info: &pb::ValueInfoProto) -> Result<Port, String> {
    let Some(TypeValue::TensorType(tensor)) = info.r#type.as_ref().and_then(|t| t.value.as_ref())
    else {
        return Err("is no tensor".into());
    };
    let dtype = match DataType::try_from(tensor.elem_type) {
        Ok(DataType::Float) => DType::F32,
        Ok(DataType::Double) => DType::F64,
        Ok(DataType::Float16) => DType::F16,
        Ok(DataType::Int64) => DType::I64,
        Ok(DataType::Int32) => DType::I32,
        Ok(DataType::Uint8) => DType::U8,
        Ok(DataType::Bool) => DType::Bool,
        Ok(other) => {
            return Err(format!(
                "is of {}, which is not supported",
                other.as_str_name()
            ));
        }
        Err(_) => return Err(format!("is of the unknown type {}", tensor.elem_type)),
    };
    let shape = tensor
        .shape
        .as_ref()
        .ok_or("has no shape: not even its rank is known")?;
    let dims = shape
        .dim
        .iter()
        .enumerate()
        .map(|(axis, dim)| match &dim.value {
            Some(DimValue::DimValue(size)) => match usize::try_from(*size) {
                Ok(size @ 1..) => Ok(Dim::Fixed(size)),
                _ => Err(format!("has a dimension of size {size}")),
            },
            Some(DimValue::DimParam(text)) => Ok(symbol(text, &info.name, axis)),
            None => Ok(symbol("", &info.name, axis)),
        });
    Ok(Port::new(
        &info.name,
        dtype,
        dims.collect::<Result<Vec<_>, _>>()?,
    ))
}

/// The symbol `text`; where it is none (an expression, say, or nothing), one that no other dimension shares.
fn symbol(text: &str, port: &str, axis: usize) -> Dim {
    if let Ok(dim @ Dim::Symbolic(_)) = text.parse() {
        return dim;
    }
    let mut symbol: String = format!("{port}_{axis}")
        .chars()
        .map(|c| if c.is_alphanumeric() { c } else { '_' })
        .collect();
    symbol.insert_str(0, "any_");
    Dim::symbol(symbol)
}
