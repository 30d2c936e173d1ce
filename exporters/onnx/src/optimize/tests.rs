use zoo_graph::{Array, Attribute, Port};

use super::*;
use crate::testing::{Net, assert_same, ops, positive, random};
use Attribute::{Float, Int, Ints};

fn norm(net: &mut Net, name: &str, x: &str, channels: usize) {
    for (i, part) in ["scale", "bias", "mean"].into_iter().enumerate() {
        net.constant(
            &format!("{name}.{part}"),
            random(&[channels], 10 + i as u64),
        );
    }
    net.constant(&format!("{name}.var"), positive(&[channels], 20));
    let inputs = ["scale", "bias", "mean", "var"].map(|part| format!("{name}.{part}"));
    let inputs: Vec<&str> = std::iter::once(x)
        .chain(inputs.iter().map(String::as_str))
        .collect();
    net.node(
        name,
        "BatchNormalization",
        &inputs,
        &[("epsilon", Float(1e-3))],
    );
}

/// A linear node with weights, its normalisation, and an activation.
fn normalised(
    op: &str,
    input: &[usize],
    weights: &[usize],
    bias: Option<usize>,
    channels: usize,
    attributes: &[(&str, Attribute)],
) -> Graph {
    let mut net = Net::new("net");
    net.input(Port::batched("x", input));
    net.constant("fc.weight", random(weights, 1));
    let mut inputs = vec!["x", "fc.weight"];
    if let Some(n) = bias {
        net.constant("fc.bias", random(&[n], 2));
        inputs.push("fc.bias");
    }
    net.node("fc", op, &inputs, attributes);
    norm(&mut net, "bn", "fc", channels);
    net.node("y", "Relu", &["bn"], &[]);
    net.outputs(&["y"])
}

#[test]
fn what_is_added_to_a_gemm_becomes_its_c() {
    let sum = |c: &[&str], order: [&str; 2], extra: bool| {
        let mut net = Net::new("net");
        net.input(Port::batched("x", &[4]));
        net.input(Port::batched("r", &[3]));
        net.constant("w", random(&[3, 4], 1));
        net.constant("zeros", zoo_graph::Array::f32([3], vec![0.0; 3]).unwrap());
        net.constant("bias", random(&[3], 2));
        let inputs = [&["x", "w"], c].concat();
        let attributes = [
            ("transB", Int(1)),
            ("alpha", Float(0.5)),
            ("beta", Float(2.0)),
        ];
        net.node("fc", "Gemm", &inputs, &attributes);
        net.node("sum", "Add", &order, &[]);
        net.node("y", "Relu", &["sum"], &[]);
        if extra {
            return net.outputs(&["y", "fc"]);
        }
        net.outputs(&["y"])
    };
    let orders = [["fc", "r"], ["r", "fc"]];
    for (c, order) in [(&["zeros"][..], orders[0]), (&[], orders[1])] {
        let graph = sum(c, order, false);
        let simple = optimize(&graph).unwrap();
        assert_eq!(ops(&simple), "Gemm Relu");
        assert_eq!(simple.nodes[0].inputs, ["x", "w", "r"]);
        assert_same(&graph, &simple, order[0]);
    }
    // A bias has the place already; a value of another shape would be broadcast, the product too; a product that is read elsewhere must stay.
    for graph in [
        sum(&["bias"], orders[0], false),
        sum(&[], ["fc", "bias"], false),
        sum(&[], orders[0], true),
        broadcast_product(),
    ] {
        assert_eq!(ops(&optimize(&graph).unwrap()), "Gemm Add Relu");
    }
}

/// A product (N,1) to which (N,3) is added.
fn broadcast_product() -> Graph {
    let mut net = Net::new("net");
    net.input(Port::batched("x", &[4]));
    net.input(Port::batched("r", &[3]));
    net.constant("w", random(&[1, 4], 1));
    net.node("fc", "Gemm", &["x", "w"], &[("transB", Int(1))]);
    net.node("sum", "Add", &["fc", "r"], &[]);
    net.node("y", "Relu", &["sum"], &[]);
    net.outputs(&["y"])
}

#[test]
fn normalization_folds_into_what_stands_before_it() {
    let group = ("group", Int(2));
    let cases = [
        normalised(
            "Conv",
            &[4, 5, 5],
            &[6, 2, 3, 3],
            Some(6),
            6,
            std::slice::from_ref(&group),
        ),
        normalised("Conv", &[4, 5, 5], &[6, 4, 3, 3], None, 6, &[]),
        normalised(
            "ConvTranspose",
            &[4, 3, 3],
            &[4, 3, 2, 2],
            Some(6),
            6,
            &[group, ("strides", Ints(vec![2, 2]))],
        ),
        normalised(
            "Gemm",
            &[4],
            &[6, 4],
            Some(6),
            6,
            &[("transB", Int(1)), ("beta", Float(0.5))],
        ),
        normalised("Gemm", &[4], &[4, 6], None, 6, &[("alpha", Float(2.0))]),
    ];
    for graph in cases {
        let simple = optimize(&graph).unwrap();
        let op = &graph.nodes[0].op;
        assert_eq!(ops(&simple), format!("{op} Relu"));
        let names: Vec<&str> = simple
            .initializers
            .iter()
            .map(|i| i.name.as_str())
            .collect();
        assert_eq!(names, ["fc.weight", "fc.bias"], "{op}");
        assert_same(&graph, &simple, op);
    }
}

#[test]
fn folded_batch_norm_reads_as_text() {
    let graph = normalised("Conv", &[4, 5, 5], &[6, 4, 3, 3], None, 6, &[]);
    insta::assert_snapshot!(optimize(&graph).unwrap(), @r"
    graph net(%x: f32[N,4,5,5]) -> (%y: f32[N,6,3,3]) {
      fc.weight: f32[6,4,3,3]
      fc.bias: f32[6]
      %bn = Conv(%x, fc.weight, fc.bias) : f32[N,6,3,3]
      %y = Relu(%bn) : f32[N,6,3,3]
    }
    ");
}

#[test]
fn normalization_folds_through_a_reshape_into_channels() {
    let mut net = Net::new("net");
    net.input(Port::batched("x", &[4]));
    net.constant("fc.weight", random(&[12, 4], 1));
    net.constant("fc.bias", random(&[12], 2));
    net.constant("shape", Array::i64([4], [-1, 3, 2, 2]).unwrap());
    let inputs = ["x", "fc.weight", "fc.bias"];
    net.node("fc", "Gemm", &inputs, &[("transB", Int(1))]);
    net.node("maps", "Reshape", &["fc", "shape"], &[]);
    norm(&mut net, "bn", "maps", 3);
    net.node("y", "Relu", &["bn"], &[]);
    let mut graph = net.outputs(&["y"]);
    let simple = optimize(&graph).unwrap();
    assert_eq!(ops(&simple), "Gemm Reshape Relu");
    assert_same(&graph, &simple, "through a reshape");
    graph.outputs.push(Port::batched("fc", &[12]));
    let simple = optimize(&graph).unwrap();
    assert_eq!(ops(&simple), "Gemm Reshape BatchNormalization Relu");
    assert_same(&graph, &simple, "two readers");
}

#[test]
fn normalization_of_a_value_that_others_read_stays() {
    let mut graph = normalised("Gemm", &[4], &[6, 4], Some(6), 6, &[("transB", Int(1))]);
    graph.outputs.push(Port::batched("fc", &[6]));
    let simple = optimize(&graph).unwrap();
    assert_eq!(ops(&simple), "Gemm BatchNormalization Relu");
    assert_same(&graph, &simple, "two readers");
}

#[test]
fn shared_weights_are_folded_into_a_copy() {
    let mut net = Net::new("net");
    net.input(Port::batched("x", &[4]));
    net.constant("fc.weight", random(&[4, 4], 1));
    net.constant("fc.bias", random(&[4], 2));
    net.node("a", "Gemm", &["x", "fc.weight", "fc.bias"], &[]);
    norm(&mut net, "bn", "a", 4);
    net.node("y", "Gemm", &["bn", "fc.weight", "fc.bias"], &[]);
    let graph = net.outputs(&["y"]);
    let simple = optimize(&graph).unwrap();
    assert_eq!(ops(&simple), "Gemm Gemm");
    assert_eq!(simple.nodes[0].inputs[1], "fc.weight/normalized");
    assert_eq!(
        simple.initializer("fc.weight"),
        graph.initializer("fc.weight")
    );
    assert_same(&graph, &simple, "shared weights");
}

#[test]
fn constants_fold_under_the_weights_name() {
    let mut net = Net::new("net");
    net.input(Port::batched("x", &[4]));
    net.constant("fc.weight", random(&[6, 4], 1));
    net.constant("mask", random(&[6, 4], 2));
    net.constant("zero", Array::f32([6], [0.0; 6]).unwrap());
    net.node("masked", "Mul", &["fc.weight", "mask"], &[]);
    net.node(
        "turned",
        "Transpose",
        &["masked"],
        &[("perm", Ints(vec![1, 0]))],
    );
    net.node("y", "Gemm", &["x", "turned", "zero"], &[]);
    let graph = net.outputs(&["y"]);
    let simple = optimize(&graph).unwrap();
    assert_eq!(ops(&simple), "Gemm");
    assert_eq!(simple.initializer("fc.weight").unwrap().shape(), [4, 6]);
    assert!(simple.initializer("mask").is_none());
    assert_same(&graph, &simple, "masked weights");
}

#[test]
fn identities_dead_nodes_and_chains_go() {
    let mut net = Net::new("net");
    net.input(Port::batched("x", &[4, 6]));
    for (name, values) in [
        ("s1", vec![0i64, -1]),
        ("s2", vec![0, 2, 12]),
        ("s3", vec![-1, 4, 6]),
    ] {
        net.constant(name, Array::i64([values.len()], values).unwrap());
    }
    net.node("same", "Identity", &["x"], &[]);
    net.node("flat", "Reshape", &["same", "s1"], &[]);
    net.node("pair", "Reshape", &["flat", "s2"], &[]);
    net.node("dead", "Exp", &["pair"], &[]);
    net.node("back", "Reshape", &["pair", "s3"], &[]);
    net.node(
        "t1",
        "Transpose",
        &["back"],
        &[("perm", Ints(vec![0, 2, 1]))],
    );
    net.node("t2", "Transpose", &["t1"], &[("perm", Ints(vec![2, 0, 1]))]);
    net.node("relu", "Relu", &["t2"], &[]);
    net.constant("last", Array::i64([1], [3]).unwrap());
    net.node("wide", "Unsqueeze", &["relu", "last"], &[]);
    net.node("narrow", "Squeeze", &["wide", "last"], &[]);
    net.node("y", "Identity", &["narrow"], &[]);
    let mut graph = net.outputs(&["y"]);
    graph.outputs[0].shape = graph.types["y"].shape.clone();
    let simple = optimize(&graph).unwrap();
    insta::assert_snapshot!(simple, @r"
    graph net(%x: f32[N,4,6]) -> (%y: f32[4,N,6]) {
      %t2 = Transpose(%x) {perm=[1,0,2]} : f32[4,N,6]
      %y = Relu(%t2) : f32[4,N,6]
    }
    ");
    assert_same(&graph, &simple, "chains");
}

/// Slices of x (N,5) along dimension 1.
fn sliced(ranges: &[(i64, i64)]) -> Graph {
    let mut net = Net::new("net");
    net.input(Port::batched("x", &[5]));
    net.constant("axis", Array::i64([1], [1]).unwrap());
    let mut names = Vec::new();
    for (i, &(start, end)) in ranges.iter().enumerate() {
        let bounds = [format!("start{i}"), format!("end{i}")];
        net.constant(&bounds[0], Array::i64([1], [start]).unwrap());
        net.constant(&bounds[1], Array::i64([1], [end]).unwrap());
        let inputs = ["x", &bounds[0], &bounds[1], "axis"];
        let part = net.node(&format!("part{i}"), "Slice", &inputs, &[]);
        names.push(net.node(&format!("y{i}"), "Relu", &[&part], &[]));
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    net.outputs(&names)
}

#[test]
fn slices_that_cut_a_value_are_a_split() {
    let graph = sliced(&[(3, 4), (0, 3), (-1, 99)]);
    let simple = optimize(&graph).unwrap();
    assert_eq!(ops(&simple), "Split Relu Relu Relu");
    assert_eq!(simple.nodes[0].outputs, ["part1", "part0", "part2"]);
    assert_same(&graph, &simple, "cuts");
    // One alone, gaps, overlaps, the same part twice.
    for ranges in [
        &[(0, 5)][..],
        &[(0, 2), (3, 5)],
        &[(0, 3), (2, 5)],
        &[(0, 2), (0, 2), (2, 5)],
        &[(0, 2), (2, 4)],
    ] {
        let simple = optimize(&sliced(ranges)).unwrap();
        assert!(!ops(&simple).contains("Split"), "{ranges:?}");
    }
}

#[test]
fn an_input_that_is_an_output_keeps_its_identity() {
    let mut net = Net::new("net");
    net.input(Port::batched("x", &[2]));
    net.constant("all", Array::i64([2], [0, 2]).unwrap());
    net.node("y", "Reshape", &["x", "all"], &[]);
    let graph = net.outputs(&["y"]);
    assert_eq!(ops(&optimize(&graph).unwrap()), "Identity");
}

#[test]
fn equal_constants_are_shared_but_parameters_are_not() {
    let mut net = Net::new("net");
    net.input(Port::batched("x", &[4]));
    for name in ["a.bias", "b.bias"] {
        net.constant(name, Array::f32([4], [0.0; 4]).unwrap());
    }
    for name in ["one", "uno"] {
        net.constant(name, Array::f32([], [1.0]).unwrap());
    }
    let mut last = "x".to_string();
    for (i, other) in ["a.bias", "one", "b.bias", "uno"].into_iter().enumerate() {
        last = net.node(&format!("v{i}"), "Add", &[&last, other], &[]);
    }
    let simple = optimize(&net.outputs(&[&last])).unwrap();
    let names: Vec<&str> = simple
        .initializers
        .iter()
        .map(|i| i.name.as_str())
        .collect();
    assert_eq!(names, ["a.bias", "b.bias", "one"]);
    assert_eq!(simple.nodes[3].inputs[1], "one");
}

#[test]
fn zero_pads_move_into_the_convolution() {
    let graph = |value: f32| {
        let mut net = Net::new("net");
        net.input(Port::batched("x", &[2, 4, 4]));
        net.constant("pads", Array::i64([8], [0, 0, 2, 1, 0, 0, 0, 1]).unwrap());
        net.constant("value", Array::f32([], [value]).unwrap());
        net.constant("w", random(&[3, 2, 3, 3], 1));
        net.node("wide", "Pad", &["x", "pads", "value"], &[]);
        net.node(
            "y",
            "Conv",
            &["wide", "w"],
            &[("pads", Ints(vec![0, 1, 0, 0]))],
        );
        net.outputs(&["y"])
    };
    let simple = optimize(&graph(0.0)).unwrap();
    assert_eq!(ops(&simple), "Conv");
    assert_eq!(simple.nodes[0].ints("pads").unwrap(), [2, 2, 0, 1]);
    assert_same(&graph(0.0), &simple, "pads");
    assert_eq!(ops(&optimize(&graph(1.0)).unwrap()), "Pad Conv");
}

#[test]
fn bodies_are_simplified_and_keep_what_they_pass_through() {
    let mut body = Net::new("step");
    body.input(Port::batched("s", &[2]));
    body.input(Port::batched("v", &[2]));
    body.node("same", "Identity", &["v"], &[]);
    body.node("next", "Add", &["s", "same"], &[]);
    body.node("dead", "Exp", &["s"], &[]);
    body.node("seen", "Identity", &["v"], &[]);
    let body = body.outputs(&["next", "seen"]);
    let mut net = Net::new("loop");
    net.input(Port::batched("start", &[2]));
    net.constant("steps", random(&[3, 1, 2], 1));
    net.input(Port::new(
        "x",
        DType::F32,
        [3.into(), "N".parse().unwrap(), 2.into()],
    ));
    net.node("xs", "Add", &["x", "steps"], &[]);
    let attributes = [
        ("body", Attribute::Graph(Box::new(body))),
        ("num_scan_inputs", Int(1)),
    ];
    net.nodes(&["end", "all"], "Scan", &["start", "xs"], &attributes);
    let simple = optimize(&net.outputs(&["end", "all"])).unwrap();
    assert_eq!(
        ops(simple.nodes[1].bodies().next().unwrap()),
        "Add Identity"
    );
}

#[test]
fn work_grows_with_the_graph_alone() {
    // Layers with all that is folded: pads of shapes, normalisations, sums, chains, constants, cuts, and what does nothing.
    let layers = |count: usize| {
        let mut net = Net::new("net");
        net.input(Port::batched("x", &[4]));
        net.constant("one", Array::f32([], [1.0]).unwrap());
        net.constant("axis", Array::i64([1], [1]).unwrap());
        for (name, at) in [("c0", 0), ("c2", 2), ("c4", 4)] {
            net.constant(name, Array::i64([1], [at]).unwrap());
        }
        let mut x = "x".to_string();
        for k in 0..count {
            let name = |part: &str| format!("{k}.{part}");
            let weight = net.constant(&name("weight"), random(&[4, 4], k as u64));
            let turned = net.node(&name("turned"), "Transpose", &[&weight], &[]);
            let y = net.node(&name("fc"), "Gemm", &[&x, &turned], &[]);
            norm(&mut net, &name("norm"), &y, 4);
            let high = net.node(
                &name("high"),
                "Slice",
                &[&name("norm"), "c0", "c2", "axis"],
                &[],
            );
            let low = net.node(
                &name("low"),
                "Slice",
                &[&name("norm"), "c2", "c4", "axis"],
                &[],
            );
            let y = net.node(&name("both"), "Concat", &[&low, &high], &[("axis", Int(1))]);
            let y = net.node(&name("same"), "Identity", &[&y], &[]);
            let y = net.node(&name("more"), "Add", &[&y, "one"], &[]);
            x = net.node(&name("y"), "Add", &[&x, &y], &[]);
        }
        let graph = net.outputs(&[&x]);
        network::worked();
        let simple = optimize(&graph).unwrap();
        assert_eq!(simple.nodes.len(), 5 * count);
        network::worked()
    };
    let (few, many) = (layers(20), layers(200));
    assert!(
        many < 11 * few,
        "{many} steps of work for ten times the nodes of {few}"
    );
}
