//! A graph as JSON and tensors: the JSON names the tensors by their number.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    Array, DType, Dim, Graph, Port, Result,
    abi::Answer,
    number::Number,
    wire::{read, write},
};
use zoo_graph::{Attribute, Initializer, Node, ValueType};

#[derive(Serialize, Deserialize)]
struct GraphForm {
    name: String,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    initializers: Vec<(String, usize)>,
    nodes: Vec<NodeForm>,
    types: BTreeMap<String, (DType, Vec<Dim>)>,
}

#[derive(Serialize, Deserialize)]
struct NodeForm {
    name: String,
    op: String,
    inputs: Vec<String>,
    outputs: Vec<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    attributes: BTreeMap<String, AttributeForm>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    origin: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum AttributeForm {
    Int(i64),
    Float(Number),
    Text(String),
    Ints(Vec<i64>),
    Floats(Vec<Number>),
    Tensor(usize),
    Graph(Box<GraphForm>),
}

/// The answer to [`op::EXPORT`](crate::abi::op::EXPORT).
pub(crate) fn encode_graph(graph: Graph) -> Result<Answer> {
    let mut tensors = Vec::new();
    let form = to_form(graph, &mut tensors);
    let numbered = tensors.into_iter().enumerate();
    Ok(Answer {
        json: write(&form)?,
        tensors: numbered.map(|(i, t)| (i.to_string(), t)).collect(),
    })
}

fn to_form(graph: Graph, tensors: &mut Vec<Array>) -> GraphForm {
    let mut keep = |array: Array| {
        tensors.push(array);
        tensors.len() - 1
    };
    let initializers = graph.initializers.into_iter();
    let initializers = initializers.map(|i| (i.name, keep(i.value))).collect();
    let float = |x: f32| Number(f64::from(x));
    let attribute = |attribute: Attribute, tensors: &mut Vec<Array>| match attribute {
        Attribute::Int(x) => AttributeForm::Int(x),
        Attribute::Float(x) => AttributeForm::Float(float(x)),
        Attribute::Text(x) => AttributeForm::Text(x),
        Attribute::Ints(x) => AttributeForm::Ints(x),
        Attribute::Floats(x) => AttributeForm::Floats(x.into_iter().map(float).collect()),
        Attribute::Tensor(x) => {
            tensors.push(x);
            AttributeForm::Tensor(tensors.len() - 1)
        }
        Attribute::Graph(x) => AttributeForm::Graph(Box::new(to_form(*x, tensors))),
    };
    let mut nodes = Vec::with_capacity(graph.nodes.len());
    for node in graph.nodes {
        let attributes = node.attributes.into_iter();
        nodes.push(NodeForm {
            name: node.name,
            op: node.op,
            inputs: node.inputs,
            outputs: node.outputs,
            attributes: attributes
                .map(|(name, value)| (name, attribute(value, tensors)))
                .collect(),
            origin: node.origin,
        });
    }
    GraphForm {
        name: graph.name,
        inputs: graph.inputs,
        outputs: graph.outputs,
        initializers,
        nodes,
        types: graph
            .types
            .into_iter()
            .map(|(name, t)| (name, (t.dtype, t.shape)))
            .collect(),
    }
}

/// Reads an answer to [`op::EXPORT`](crate::abi::op::EXPORT), and checks that it is a graph.
pub(crate) fn decode_graph(answer: Answer) -> Result<Graph, String> {
    let form: GraphForm = read(&answer.json)?;
    let mut tensors = Vec::with_capacity(answer.tensors.len());
    for (i, (name, array)) in answer.tensors.into_iter().enumerate() {
        if name != i.to_string() {
            return Err(format!("tensor {i} is named {name:?}"));
        }
        tensors.push(Some(array));
    }
    let graph = from_form(form, &mut tensors)?;
    if let Some(unused) = tensors.iter().position(Option::is_some) {
        return Err(format!("tensor {unused} belongs nowhere"));
    }
    graph
        .validate()
        .map_err(|e: zoo_graph::Error| e.to_string())?;
    check_types(&graph)?;
    Ok(graph)
}

fn from_form(form: GraphForm, tensors: &mut [Option<Array>]) -> Result<Graph, String> {
    let take = |index: usize, tensors: &mut [Option<Array>]| {
        let slot = tensors.get_mut(index).and_then(Option::take);
        slot.ok_or_else(|| format!("tensor {index} is missing, or used twice"))
    };
    let mut initializers = Vec::with_capacity(form.initializers.len());
    for (name, index) in form.initializers {
        let value = take(index, tensors)?;
        initializers.push(Initializer { name, value });
    }
    let mut nodes = Vec::with_capacity(form.nodes.len());
    for node in form.nodes {
        let mut attributes = BTreeMap::new();
        for (name, attribute) in node.attributes {
            let attribute = match attribute {
                AttributeForm::Int(x) => Attribute::Int(x),
                AttributeForm::Float(x) => Attribute::Float(x.0 as f32),
                AttributeForm::Text(x) => Attribute::Text(x),
                AttributeForm::Ints(x) => Attribute::Ints(x),
                AttributeForm::Floats(x) => {
                    Attribute::Floats(x.into_iter().map(|x| x.0 as f32).collect())
                }
                AttributeForm::Tensor(x) => Attribute::Tensor(take(x, tensors)?),
                AttributeForm::Graph(x) => Attribute::Graph(Box::new(from_form(*x, tensors)?)),
            };
            attributes.insert(name, attribute);
        }
        nodes.push(Node {
            name: node.name,
            op: node.op,
            inputs: node.inputs,
            outputs: node.outputs,
            attributes,
            origin: node.origin,
        });
    }
    let types = form.types.into_iter();
    Ok(Graph {
        name: form.name,
        inputs: form.inputs,
        outputs: form.outputs,
        initializers,
        nodes,
        types: types
            .map(|(name, (dtype, shape))| (name, ValueType { dtype, shape }))
            .collect(),
    })
}

/// What [`Graph::validate`] leaves to whoever makes a graph: that inputs and weights are of the types recorded for them.
fn check_types(graph: &Graph) -> Result<(), String> {
    for port in &graph.inputs {
        if graph.types.get(&port.name) != Some(&port.value_type()) {
            return Err(format!(
                "input {:?} is recorded with another type",
                port.name
            ));
        }
    }
    for Initializer { name, value } in &graph.initializers {
        let shape: Vec<Dim> = value.shape().iter().map(|&d| d.into()).collect();
        let dtype = value.dtype();
        if graph.types.get(name) != Some(&ValueType { dtype, shape }) {
            return Err(format!(
                "weight {name:?} is recorded with another type than {value:?}"
            ));
        }
    }
    graph
        .nodes
        .iter()
        .flat_map(Node::bodies)
        .try_for_each(check_types)
        .map_err(|e: String| format!("in a sub-graph: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(dtype: DType, shape: &[Dim]) -> ValueType {
        ValueType {
            dtype,
            shape: shape.to_vec(),
        }
    }

    /// Every kind of attribute, a sub-graph that sees an outer weight, an unused optional input.
    fn graph() -> Graph {
        let weight = Array::f32([2], [1.5, -0.0]).unwrap();
        let body = Graph {
            name: "body".into(),
            outputs: vec![Port::new("b", DType::F32, [2.into()])],
            initializers: vec![Initializer {
                name: "k".into(),
                value: weight.clone(),
            }],
            nodes: vec![Node {
                name: "add".into(),
                op: "Add".into(),
                inputs: vec!["k".into(), "w".into()],
                outputs: vec!["b".into()],
                ..Node::default()
            }],
            types: BTreeMap::from(["k", "b"].map(|n| (n.into(), value(DType::F32, &[2.into()])))),
            ..Graph::default()
        };
        let attributes = [
            ("int", Attribute::Int(i64::MIN)),
            ("float", Attribute::Float(f32::NEG_INFINITY)),
            ("text", Attribute::Text("\u{e9}\n".into())),
            ("ints", Attribute::Ints(vec![1, -1])),
            ("floats", Attribute::Floats(vec![0.1, f32::INFINITY])),
            ("tensor", Attribute::Tensor(Array::i64([1], [7]).unwrap())),
            ("graph", Attribute::Graph(Box::new(body))),
        ];
        let x = Port::batched("x", &[2]);
        let types = [
            ("x", x.value_type()),
            ("w", value(DType::F32, &[2.into()])),
            ("y", value(DType::F32, &[Dim::batch(), 2.into()])),
        ];
        Graph {
            name: "sample".into(),
            inputs: vec![x],
            outputs: vec![Port::bounded("y", &[2], [0.0, 1.0]).described("a share")],
            initializers: vec![Initializer {
                name: "w".into(),
                value: weight,
            }],
            nodes: vec![Node {
                name: "n".into(),
                op: "If".into(),
                inputs: vec!["x".into(), String::new(), "w".into()],
                outputs: vec!["y".into()],
                attributes: attributes.map(|(n, a)| (n.to_owned(), a)).into(),
                origin: Some("model.rs:7".into()),
            }],
            types: types.map(|(n, t)| (n.to_owned(), t)).into(),
        }
    }

    #[test]
    fn graphs_travel_whole() {
        let answer = encode_graph(graph()).unwrap();
        assert_eq!(answer.tensors.len(), 3);
        assert_eq!(decode_graph(answer).unwrap(), graph());
    }

    #[test]
    fn broken_graphs_are_refused() {
        type Damage = fn(&mut Answer);
        let damages: [(&str, Damage); 7] = [
            ("missing, or used twice", |a| drop(a.tensors.pop())),
            ("named", |a| a.tensors[1].0 = "7".into()),
            ("belongs nowhere", |a| {
                a.tensors.push(("3".into(), Array::u8([1], [0]).unwrap()));
            }),
            ("another type", |a| {
                a.tensors[0].1 = Array::f32([3], [0.0; 3]).unwrap();
            }),
            ("produced by no", |a| {
                a.json = a.json.replace("[\"x\",", "[\"q\",")
            }),
            ("JSON", |a| a.json.truncate(a.json.len() / 2)),
            ("JSON", |a| {
                let deep = "{\"graph\":{\"nodes\":[{\"attributes\":{\"g\":".repeat(10_000);
                a.json = deep;
            }),
        ];
        for (cause, damage) in damages {
            let mut answer = encode_graph(graph()).unwrap();
            damage(&mut answer);
            let error = decode_graph(answer).unwrap_err();
            assert!(error.contains(cause), "{cause}: {error}");
        }
    }
}
