//! Graphs run by the definitions of their operators.

use std::collections::BTreeMap;

use zoo_graph::{Array, DType, Graph, Node};

use crate::{
    edit::type_of,
    ops::{self, Args, OpKind, T, indices},
};

/// Runs a graph; outputs in port order.
pub(crate) fn run(graph: &Graph, inputs: &[(String, Array)]) -> Vec<Array> {
    run_in(graph, inputs, &BTreeMap::new())
}

/// `around`: the values that the graphs around this one have so far.
fn run_in(
    graph: &Graph,
    inputs: &[(String, Array)],
    around: &BTreeMap<String, Array>,
) -> Vec<Array> {
    let mut values = around.clone();
    values.extend(inputs.iter().cloned());
    let constants = graph.initializers.iter();
    values.extend(constants.map(|i| (i.name.clone(), i.value.clone())));
    for node in &graph.nodes {
        let operands: Vec<Option<&Array>> = node.inputs.iter().map(|i| values.get(i)).collect();
        let outputs = match ops::kind(node).unwrap() {
            OpKind::Scan => scan(node, &operands, &values),
            OpKind::Loop => repeat(node, &operands, &values),
            _ => {
                let types: Vec<_> = operands.iter().map(|o| o.map(type_of)).collect();
                let args = Args {
                    node,
                    types: types.iter().map(Option::as_ref).collect(),
                    constants: operands,
                };
                match ops::evaluate(&args) {
                    Some(value) => vec![value],
                    None => ops::by_definition(&args),
                }
            }
        };
        for (name, value) in node.outputs.iter().zip(outputs) {
            values.insert(name.clone(), value);
        }
    }
    let given = graph.outputs.iter();
    given.map(|port| values[&port.name].clone()).collect()
}

/// Runs a body on these inputs, in port order.
fn step(body: &Graph, inputs: Vec<Array>, around: &BTreeMap<String, Array>) -> Vec<Array> {
    assert_eq!(body.inputs.len(), inputs.len());
    let names = body.inputs.iter().map(|port| port.name.clone());
    run_in(body, &names.zip(inputs).collect::<Vec<_>>(), around)
}

fn scan(node: &Node, inputs: &[Option<&Array>], around: &BTreeMap<String, Array>) -> Vec<Array> {
    let body = node.bodies().next().unwrap();
    let states = inputs.len() - node.int("num_scan_inputs").unwrap() as usize;
    let axis = |name: &str, i: usize| node.ints(name).map_or(0, |axes| axes[i] as usize);
    let inputs: Vec<&Array> = inputs.iter().map(|i| i.unwrap()).collect();
    let (start, scanned) = inputs.split_at(states);
    let mut carried: Vec<Array> = start.iter().map(|&a| a.clone()).collect();
    let mut given: Vec<Vec<Array>> = vec![Vec::new(); body.outputs.len() - states];
    for t in 0..scanned[0].shape()[axis("scan_input_axes", 0)] {
        let slices = scanned.iter().enumerate();
        let slices = slices.map(|(i, a)| cut(a, axis("scan_input_axes", i), t));
        let mut outputs = step(body, carried.into_iter().chain(slices).collect(), around);
        for (all, output) in given.iter_mut().zip(outputs.split_off(states)) {
            all.push(output);
        }
        carried = outputs;
    }
    let stacked = given.iter().enumerate();
    let stacked = stacked.map(|(i, all)| stack(all, axis("scan_output_axes", i)));
    carried.into_iter().chain(stacked).collect()
}

fn repeat(node: &Node, inputs: &[Option<&Array>], around: &BTreeMap<String, Array>) -> Vec<Array> {
    let body = node.bodies().next().unwrap();
    let trips = inputs[0].unwrap().as_i64().unwrap()[0];
    let mut carried: Vec<Array> = inputs[2..].iter().map(|i| i.unwrap().clone()).collect();
    let mut given: Vec<Vec<Array>> = vec![Vec::new(); body.outputs.len() - 1 - carried.len()];
    for t in 0..trips {
        let head = [
            Array::i64([], [t]).unwrap(),
            Array::bool([], vec![1]).unwrap(),
        ];
        let count = carried.len();
        let mut outputs = step(body, head.into_iter().chain(carried).collect(), around);
        for (all, output) in given.iter_mut().zip(outputs.split_off(1 + count)) {
            all.push(output);
        }
        carried = outputs.split_off(1);
    }
    let stacked = given.iter().map(|all| stack(all, 0));
    carried.into_iter().chain(stacked).collect()
}

/// Slice `t` along `axis`, without the axis.
fn cut(array: &Array, axis: usize, t: usize) -> Array {
    let mut shape = array.shape().to_vec();
    shape.remove(axis);
    let at = |index: &Vec<usize>| {
        let mut index = index.clone();
        index.insert(axis, t);
        index
    };
    let whole = T::of(array);
    let values: Vec<f64> = indices(&shape).iter().map(|i| whole.at(&at(i))).collect();
    like(array, shape, &values)
}

fn stack(parts: &[Array], axis: usize) -> Array {
    let mut shape = parts[0].shape().to_vec();
    shape.insert(axis, parts.len());
    let whole: Vec<T> = parts.iter().map(T::of).collect();
    let value = |mut index: Vec<usize>| {
        let part = index.remove(axis);
        whole[part].at(&index)
    };
    let values: Vec<f64> = indices(&shape).into_iter().map(value).collect();
    like(&parts[0], shape, &values)
}

/// Elements of the type that `of` has.
fn like(of: &Array, shape: Vec<usize>, values: &[f64]) -> Array {
    match of.dtype() {
        DType::F32 => Array::f32(shape, values.iter().map(|&v| v as f32).collect::<Vec<_>>()),
        DType::I64 => Array::i64(shape, values.iter().map(|&v| v as i64).collect::<Vec<_>>()),
        DType::Bool => Array::bool(shape, values.iter().map(|&v| v as u8).collect::<Vec<_>>()),
        other => panic!("no slices of {other}"),
    }
    .unwrap()
}
