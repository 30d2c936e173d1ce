//! Operators by their definition, in f64, one element at a time.

use std::collections::BTreeMap;

use zoo_graph::{Array, Attribute, DType, Graph, Node};

use super::type_of;
use crate::{
    eval,
    shape::{self, Args, Window},
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
        let outputs = match node.op.as_str() {
            "Scan" => scan(node, &operands, &values),
            "Loop" => repeat(node, &operands, &values),
            _ => {
                let types: Vec<_> = operands.iter().map(|o| o.map(type_of)).collect();
                let args = Args {
                    node,
                    types: types.iter().map(Option::as_ref).collect(),
                    constants: operands,
                };
                eval::evaluate(&args).unwrap_or_else(|| by_definition(&args))
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

/// A tensor of f64 with index arithmetic.
struct T {
    shape: Vec<usize>,
    values: Vec<f64>,
}

impl T {
    fn of(array: &Array) -> Self {
        Self {
            shape: array.shape().to_vec(),
            values: array.to_f64(),
        }
    }

    fn flat(&self, index: &[usize]) -> usize {
        index
            .iter()
            .zip(&self.shape)
            .fold(0, |flat, (i, d)| flat * d + i)
    }

    fn at(&self, index: &[usize]) -> f64 {
        self.values[self.flat(index)]
    }

    /// The element, or 0 outside.
    fn padded(&self, index: &[i64]) -> Option<f64> {
        let inside = index
            .iter()
            .zip(&self.shape)
            .all(|(&i, &d)| i >= 0 && i < d as i64);
        inside.then(|| self.at(&index.iter().map(|&i| i as usize).collect::<Vec<_>>()))
    }
}

fn indices(shape: &[usize]) -> Vec<Vec<usize>> {
    let mut all = vec![vec![]];
    for &d in shape {
        all = all
            .into_iter()
            .flat_map(|head| (0..d).map(move |i| [head.clone(), vec![i]].concat()))
            .collect();
    }
    all
}

fn by_definition(args: &Args<'_>) -> Vec<Array> {
    let node = args.node;
    let types = shape::infer(args).unwrap_or_else(|e| panic!("{}: {e}", node.op));
    let shapes: Vec<Vec<usize>> = types
        .iter()
        .map(|ty| {
            ty.complete()
                .unwrap()
                .shape
                .iter()
                .map(|d| d.fixed().unwrap())
                .collect()
        })
        .collect();
    let x = T::of(args.constants[0].unwrap());
    let operand = |i: usize| args.constants.get(i).copied().flatten().map(T::of);
    if node.op == "Split" {
        return split(args, &x, &shapes);
    }
    let shape = &shapes[0];
    let element: Element = match node.op.as_str() {
        "Elu" => map(x, f64::from(node.float("alpha").unwrap_or(1.0)), |v, a| {
            if v > 0.0 { v } else { a * v.exp_m1() }
        }),
        "Softplus" => map(x, 0.0, |v, _| v.exp().ln_1p()),
        "Sigmoid" => map(x, 0.0, |v, _| 1.0 / (1.0 + (-v).exp())),
        "Tanh" => map(x, 0.0, |v, _| v.tanh()),
        "LeakyRelu" => map(x, f64::from(node.float("alpha").unwrap_or(0.01)), |v, a| {
            if v > 0.0 { v } else { a * v }
        }),
        "Clip" => {
            let low = operand(1).map_or(f64::MIN, |t| t.values[0]);
            let high = operand(2).map_or(f64::MAX, |t| t.values[0]);
            Box::new(move |i| x.at(i).max(low).min(high))
        }
        "Gemm" => gemm(node, x, operand(1).unwrap(), operand(2)),
        "MatMul" => {
            let b = operand(1).unwrap();
            Box::new(move |i| {
                let (head, [r, c]) = i.split_at(i.len() - 2) else {
                    panic!("matrices")
                };
                let (skip_a, skip_b) = (i.len() - x.shape.len(), i.len() - b.shape.len());
                let (a_at, b_at) = (
                    |k| [&head[skip_a..], &[*r, k]].concat(),
                    |k| [&head[skip_b..], &[k, *c]].concat(),
                );
                (0..*x.shape.last().unwrap())
                    .map(|k| x.at(&a_at(k)) * b.at(&b_at(k)))
                    .sum()
            })
        }
        "Conv" => conv(node, x, operand(1).unwrap(), operand(2)),
        "ConvTranspose" => transposed(node, x, operand(1).unwrap(), operand(2)),
        "MaxPool" | "AveragePool" => pool(node, x),
        "BatchNormalization" => {
            let p: Vec<T> = (1..5).map(|i| operand(i).unwrap()).collect();
            let epsilon = f64::from(node.float("epsilon").unwrap_or(1e-5));
            Box::new(move |i| {
                let [scale, shift, mean, var] = [0, 1, 2, 3].map(|k: usize| p[k].values[i[1]]);
                (x.at(i) - mean) / (var + epsilon).sqrt() * scale + shift
            })
        }
        "LayerNormalization" => {
            let axis = shape::axis(node.int("axis").unwrap_or(-1), x.shape.len()).unwrap();
            let (scale, shift) = (operand(1).unwrap(), operand(2));
            let shape = x.shape.clone();
            let same = move |i: &[usize], j: &[usize]| i[..axis] == j[..axis];
            standardised(node, x, shape, same, move |i| {
                (
                    scale.at(&i[axis..]),
                    shift.as_ref().map_or(0.0, |t| t.at(&i[axis..])),
                )
            })
        }
        "GroupNormalization" | "InstanceNormalization" => {
            let groups = node.int("num_groups").map_or(x.shape[1], |g| g as usize);
            let (scale, shift) = (operand(1).unwrap(), operand(2).unwrap());
            let size = x.shape[1] / groups;
            let shape = x.shape.clone();
            let same = move |i: &[usize], j: &[usize]| i[0] == j[0] && i[1] / size == j[1] / size;
            standardised(node, x, shape, same, move |i| {
                (scale.values[i[1]], shift.values[i[1]])
            })
        }
        "ReduceSum" | "ReduceMean" | "ReduceMax" | "ReduceMin" | "GlobalAveragePool" => {
            reduce(args, x)
        }
        "Softmax" => {
            let axis = shape::axis(node.int("axis").unwrap_or(-1), x.shape.len()).unwrap();
            Box::new(move |i| {
                let at = |k| {
                    let mut j = i.to_vec();
                    j[axis] = k;
                    x.at(&j).exp()
                };
                x.at(i).exp() / (0..x.shape[axis]).map(at).sum::<f64>()
            })
        }
        "CumSum" => {
            let axis = shape::axis(operand(1).unwrap().values[0] as i64, x.shape.len()).unwrap();
            let skip = node.int("exclusive").unwrap_or(0) as usize;
            Box::new(move |i| {
                (0..i[axis] + 1 - skip)
                    .map(|k| {
                        let mut j = i.to_vec();
                        j[axis] = k;
                        x.at(&j)
                    })
                    .sum()
            })
        }
        "Gather" => {
            let axis = shape::axis(node.int("axis").unwrap_or(0), x.shape.len()).unwrap();
            let index = operand(1).unwrap();
            Box::new(move |i| {
                let (head, rest) = i.split_at(axis);
                let (at, tail) = rest.split_at(index.shape.len());
                let k = index.at(at) as i64;
                let k = if k < 0 { k + x.shape[axis] as i64 } else { k } as usize;
                x.at(&[head, &[k], tail].concat())
            })
        }
        "Pad" => {
            let rank = x.shape.len();
            let (pads, value) = (operand(1).unwrap(), operand(2).map_or(0.0, |t| t.values[0]));
            let mode = text(node, "mode");
            Box::new(move |i| {
                let from: Vec<i64> = (0..rank)
                    .map(|k| i[k] as i64 - pads.values[k] as i64)
                    .collect();
                let mirror = |(&i, &d): (&i64, &usize)| {
                    if i < 0 {
                        -i
                    } else if i >= d as i64 {
                        2 * (d as i64 - 1) - i
                    } else {
                        i
                    }
                };
                match mode.as_str() {
                    "reflect" => x
                        .padded(&from.iter().zip(&x.shape).map(mirror).collect::<Vec<_>>())
                        .unwrap(),
                    "edge" => x
                        .padded(
                            &from
                                .iter()
                                .zip(&x.shape)
                                .map(|(&i, &d)| i.clamp(0, d as i64 - 1))
                                .collect::<Vec<_>>(),
                        )
                        .unwrap(),
                    _ => x.padded(&from).unwrap_or(value),
                }
            })
        }
        "DepthToSpace" => {
            let b = node.int("blocksize").unwrap() as usize;
            let depth = x.shape[1] / b / b;
            let crd = text(node, "mode") == "CRD";
            Box::new(move |i| {
                let (r, c) = (i[2] % b, i[3] % b);
                let channel = if crd {
                    (i[1] * b + r) * b + c
                } else {
                    (r * b + c) * depth + i[1]
                };
                x.at(&[i[0], channel, i[2] / b, i[3] / b])
            })
        }
        other => panic!("the reference has no {other}"),
    };
    let values: Vec<f32> = indices(shape).iter().map(|i| element(i) as f32).collect();
    vec![Array::f32(shape.as_slice(), values).unwrap()]
}

fn text(node: &Node, name: &str) -> String {
    match node.attributes.get(name) {
        Some(Attribute::Text(text)) => text.clone(),
        _ => String::new(),
    }
}

type Element = Box<dyn Fn(&[usize]) -> f64>;

fn map(x: T, a: f64, f: fn(f64, f64) -> f64) -> Element {
    Box::new(move |i| f(x.at(i), a))
}

fn split(args: &Args<'_>, x: &T, shapes: &[Vec<usize>]) -> Vec<Array> {
    let axis = shape::axis(args.node.int("axis").unwrap_or(0), x.shape.len()).unwrap();
    let mut start = 0;
    let mut parts = Vec::new();
    for shape in shapes {
        let shifted = |mut i: Vec<usize>| {
            i[axis] += start;
            x.at(&i) as f32
        };
        let values: Vec<f32> = indices(shape).into_iter().map(shifted).collect();
        parts.push(Array::f32(shape.as_slice(), values).unwrap());
        start += shape[axis];
    }
    parts
}

fn gemm(node: &Node, a: T, b: T, c: Option<T>) -> Element {
    let on = |name: &str| node.int(name).unwrap_or(0) != 0;
    let (ta, tb) = (on("transA"), on("transB"));
    let (alpha, beta) = (
        f64::from(node.float("alpha").unwrap_or(1.0)),
        f64::from(node.float("beta").unwrap_or(1.0)),
    );
    Box::new(move |i| {
        let inner = if ta { a.shape[0] } else { a.shape[1] };
        let left = |k| {
            if ta {
                a.at(&[k, i[0]])
            } else {
                a.at(&[i[0], k])
            }
        };
        let right = |k| {
            if tb {
                b.at(&[i[1], k])
            } else {
                b.at(&[k, i[1]])
            }
        };
        let bias = c.as_ref().map_or(0.0, |c| {
            let at: Vec<usize> = c
                .shape
                .iter()
                .rev()
                .zip([i[1], i[0]])
                .map(|(&d, i)| if d == 1 { 0 } else { i })
                .collect();
            c.at(&at.into_iter().rev().collect::<Vec<_>>())
        });
        alpha * (0..inner).map(|k| left(k) * right(k)).sum::<f64>() + beta * bias
    })
}

fn conv(node: &Node, x: T, w: T, bias: Option<T>) -> Element {
    let window = Window::of(node, Some(w.shape[2..].to_vec())).unwrap();
    let size = w.shape[0] / window.group;
    Box::new(move |i| {
        let mut sum = bias.as_ref().map_or(0.0, |b| b.values[i[1]]);
        for tap in indices(&w.shape[1..]) {
            let place = |k: usize| {
                (i[2 + k] * window.strides[k] + tap[1 + k] * window.dilations[k]) as i64
                    - window.begin[k] as i64
            };
            let channel = i[1] / size * w.shape[1] + tap[0];
            let from: Vec<i64> = [i[0] as i64, channel as i64]
                .into_iter()
                .chain((0..tap.len() - 1).map(place))
                .collect();
            sum += x.padded(&from).unwrap_or(0.0) * w.at(&[&[i[1]], &tap[..]].concat());
        }
        sum
    })
}

fn transposed(node: &Node, x: T, w: T, bias: Option<T>) -> Element {
    let window = Window::of(node, Some(w.shape[2..].to_vec())).unwrap();
    let (inputs, outputs) = (w.shape[0] / window.group, w.shape[1]);
    Box::new(move |o| {
        let mut sum = bias.as_ref().map_or(0.0, |b| b.values[o[1]]);
        let group = o[1] / outputs;
        for tap in indices(&w.shape[2..]) {
            let place = |k: usize| {
                let at =
                    (o[2 + k] + window.begin[k]) as i64 - (tap[k] * window.dilations[k]) as i64;
                let stride = window.strides[k] as i64;
                if at % stride == 0 { at / stride } else { -1 }
            };
            let spots: Vec<i64> = (0..tap.len()).map(place).collect();
            for c in group * inputs..(group + 1) * inputs {
                let from = [&[o[0] as i64, c as i64], &spots[..]].concat();
                sum += x.padded(&from).unwrap_or(0.0)
                    * w.at(&[&[c, o[1] % outputs], &tap[..]].concat());
            }
        }
        sum
    })
}

fn pool(node: &Node, x: T) -> Element {
    let window = Window::of(node, None).unwrap();
    let max = node.op == "MaxPool";
    let counted = node.int("count_include_pad").unwrap_or(0) != 0;
    Box::new(move |i| {
        let place = |tap: &Vec<usize>| {
            let spot =
                |k: usize| (i[2 + k] * window.strides[k] + tap[k]) as i64 - window.begin[k] as i64;
            x.padded(
                &[i[0] as i64, i[1] as i64]
                    .into_iter()
                    .chain((0..tap.len()).map(spot))
                    .collect::<Vec<_>>(),
            )
        };
        let taps = indices(&window.kernel);
        let seen: Vec<f64> = taps.iter().filter_map(place).collect();
        match max {
            true => seen.iter().copied().fold(f64::MIN, f64::max),
            false => {
                seen.iter().sum::<f64>() / if counted { taps.len() } else { seen.len() } as f64
            }
        }
    })
}

fn standardised(
    node: &Node,
    x: T,
    shape: Vec<usize>,
    same: impl Fn(&[usize], &[usize]) -> bool + 'static,
    affine: impl Fn(&[usize]) -> (f64, f64) + 'static,
) -> Element {
    let epsilon = f64::from(node.float("epsilon").unwrap_or(1e-5));
    let all = indices(&shape);
    Box::new(move |i| {
        let peers: Vec<f64> = all.iter().filter(|j| same(i, j)).map(|j| x.at(j)).collect();
        let mean = peers.iter().sum::<f64>() / peers.len() as f64;
        let variance = peers.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / peers.len() as f64;
        let (scale, shift) = affine(i);
        (x.at(i) - mean) / (variance + epsilon).sqrt() * scale + shift
    })
}

fn reduce(args: &Args<'_>, x: T) -> Element {
    let op = args.node.op.clone();
    let (axes, keep) = match op.as_str() {
        "GlobalAveragePool" => ((2..x.shape.len()).collect(), true),
        _ => (
            shape::reduced_axes(args).unwrap(),
            args.node.int("keepdims").unwrap_or(1) != 0,
        ),
    };
    let all = indices(&x.shape);
    Box::new(move |i| {
        let part = |j: &[usize]| -> Vec<usize> {
            let kept = j
                .iter()
                .enumerate()
                .filter(|(k, _)| keep || !axes.contains(k));
            kept.map(|(k, &v)| if axes.contains(&k) { 0 } else { v })
                .collect()
        };
        let peers: Vec<f64> = all
            .iter()
            .filter(|j| part(j) == i)
            .map(|j| x.at(j))
            .collect();
        match op.as_str() {
            "ReduceSum" => peers.iter().sum(),
            "ReduceMax" => peers.iter().copied().fold(f64::MIN, f64::max),
            "ReduceMin" => peers.iter().copied().fold(f64::MAX, f64::min),
            _ => peers.iter().sum::<f64>() / peers.len() as f64,
        }
    })
}
