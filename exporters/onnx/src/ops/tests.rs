use std::collections::BTreeMap;

use zoo_graph::{Array, Attribute, Node, ValueType};

use super::*;
use crate::edit::type_of;

fn run(op: &str, attributes: &[(&str, Attribute)], inputs: &[Array]) -> Option<Array> {
    let types: Vec<ValueType> = inputs.iter().map(type_of).collect();
    let node = Node {
        op: op.into(),
        inputs: (0..inputs.len()).map(|i| i.to_string()).collect(),
        outputs: vec!["y".into()],
        attributes: attributes
            .iter()
            .map(|(k, v)| (k.to_string(), v.clone()))
            .collect::<BTreeMap<_, _>>(),
        ..Node::default()
    };
    let args = Args {
        node: &node,
        types: types.iter().map(Some).collect(),
        constants: inputs.iter().map(Some).collect(),
    };
    evaluate(&args)
}

fn f(shape: &[usize], values: &[f32]) -> Array {
    Array::f32(shape, values).unwrap()
}

fn i(values: &[i64]) -> Array {
    Array::i64([values.len()], values).unwrap()
}

#[test]
fn operators_over_constants() {
    let m = f(&[2, 3], &[1., 2., 3., 4., 5., 6.]);
    /// Operator, attributes, inputs, result.
    type Case = (
        &'static str,
        Vec<(&'static str, Attribute)>,
        Vec<Array>,
        Array,
    );
    let cases: Vec<Case> = vec![
        (
            "Add",
            vec![],
            vec![m.clone(), f(&[3], &[10., 20., 30.])],
            f(&[2, 3], &[11., 22., 33., 14., 25., 36.]),
        ),
        (
            "Mul",
            vec![],
            vec![f(&[2, 1], &[2., 3.]), f(&[1, 2], &[1., 10.])],
            f(&[2, 2], &[2., 20., 3., 30.]),
        ),
        ("Sub", vec![], vec![i(&[5, 7]), i(&[2])], i(&[3, 5])),
        (
            "Div",
            vec![],
            vec![f(&[1], &[1.]), f(&[], &[4.])],
            f(&[1], &[0.25]),
        ),
        (
            "Transpose",
            vec![("perm", Attribute::Ints(vec![1, 0]))],
            vec![m.clone()],
            f(&[3, 2], &[1., 4., 2., 5., 3., 6.]),
        ),
        (
            "Reshape",
            vec![],
            vec![m.clone(), i(&[-1, 2])],
            f(&[3, 2], &[1., 2., 3., 4., 5., 6.]),
        ),
        (
            "Concat",
            vec![("axis", Attribute::Int(1))],
            vec![m.clone(), f(&[2, 1], &[8., 9.])],
            f(&[2, 4], &[1., 2., 3., 8., 4., 5., 6., 9.]),
        ),
        (
            "Slice",
            vec![],
            vec![m.clone(), i(&[1]), i(&[3]), i(&[-1])],
            f(&[2, 2], &[2., 3., 5., 6.]),
        ),
        (
            "Slice",
            vec![],
            vec![m.clone(), i(&[-1]), i(&[i64::MIN]), i(&[1]), i(&[-2])],
            f(&[2, 2], &[3., 1., 6., 4.]),
        ),
        (
            "Where",
            vec![],
            vec![
                Array::bool([2, 1], [1, 0]).unwrap(),
                m.clone(),
                f(&[], &[0.]),
            ],
            f(&[2, 3], &[1., 2., 3., 0., 0., 0.]),
        ),
        (
            "Greater",
            vec![],
            vec![i(&[1, 2, 3]), i(&[2])],
            Array::bool([3], [0, 0, 1]).unwrap(),
        ),
        (
            "Cast",
            vec![("to", Attribute::Int(1))],
            vec![i(&[3])],
            f(&[1], &[3.]),
        ),
        (
            "Expand",
            vec![],
            vec![f(&[2, 1], &[1., 2.]), i(&[2, 2])],
            f(&[2, 2], &[1., 1., 2., 2.]),
        ),
        (
            "Unsqueeze",
            vec![],
            vec![i(&[7]), i(&[0])],
            Array::i64([1, 1], [7]).unwrap(),
        ),
        ("Sqrt", vec![], vec![f(&[1], &[9.])], f(&[1], &[3.])),
    ];
    for (op, attributes, inputs, expected) in cases {
        let got = run(op, &attributes, &inputs).unwrap_or_else(|| panic!("{op} was not evaluated"));
        assert_eq!(
            (got.shape(), got.data() == expected.data()),
            (expected.shape(), true),
            "{op}"
        );
    }
}

#[test]
fn what_would_grow_or_fail_stays_a_node() {
    assert_eq!(run("Expand", &[], &[f(&[1], &[0.]), i(&[100_000])]), None);
    assert_eq!(run("Div", &[], &[i(&[1]), i(&[0])]), None);
    assert_eq!(run("Mul", &[], &[i(&[i64::MAX]), i(&[2])]), None);
    assert_eq!(run("Erf", &[], &[f(&[1], &[0.])]), None);
}

#[test]
fn every_operator_stands_in_one_file() {
    let all: Vec<&Operator> = FILES.iter().copied().flatten().collect();
    for op in &all {
        let name = op.kind.name();
        assert_eq!(find(name).map(|found| found.kind), Some(op.kind));
        assert!(
            op.required <= op.inputs.0 && op.inputs.0 <= op.inputs.1,
            "{name}"
        );
        assert!(op.outputs.0 >= 1, "{name}");
    }
    let mut kinds: Vec<OpKind> = all.iter().map(|op| op.kind).collect();
    kinds.sort_unstable();
    let declared: Vec<OpKind> = OpKind::ALL.to_vec();
    assert_eq!(
        kinds, declared,
        "each kind has one entry in the file that declares it"
    );
}
