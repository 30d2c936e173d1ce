use zoo_graph::{Array, Node};

use super::*;
use crate::{
    edit::type_of,
    lower, optimize,
    testing::{Operand, Row, assert_same, ops},
};

#[test]
fn every_operator_has_its_forms_and_its_values() {
    let mut seen = Vec::new();
    let rows = include_str!("table.txt").lines();
    for line in rows.filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (node, forms) = line.split_once("->").unwrap();
        let graph = Row::parse(node).graph();
        let kind = kind(&graph.nodes[0]).unwrap();
        if !seen.contains(&kind) {
            seen.push(kind);
        }
        let (portable, candle) = forms.split_once('|').unwrap_or((forms, forms));
        for (target, expected) in Target::ALL.into_iter().zip([portable, portable, candle]) {
            let lowered = lower(&graph, target).unwrap_or_else(|e| panic!("{line}: {e}"));
            let lowered = optimize(&lowered).unwrap();
            // What does nothing stays as an Identity from port to port.
            let expected = match expected.trim() {
                "" => "Identity",
                forms => forms,
            };
            assert_eq!(ops(&lowered), expected, "{line} for {target}");
            assert_same(&graph, &lowered, line);
            let bytes = crate::encode(&lowered, &[]);
            crate::check(&bytes).unwrap_or_else(|e| panic!("{line} for {target}: {e}"));
        }
    }
    let loops = [OpKind::If, OpKind::Loop, OpKind::Scan];
    let mut kinds = OpKind::ALL.iter().filter(|kind| !loops.contains(kind));
    let missing = kinds.find(|kind| !seen.contains(kind));
    assert_eq!(missing, None, "it has no row in ops/table.txt");
}

#[test]
fn every_operator_stands_in_one_file() {
    let all: Vec<&Operator> = FILES.iter().copied().flatten().collect();
    for op in &all {
        let name = op.kind.name();
        assert_eq!(find(name).map(|found| found.kind), Some(op.kind));
        let least = op.inputs.0;
        assert!(
            op.required <= least && least <= op.inputs.1 && op.outputs.0 >= 1,
            "{name}"
        );
    }
    let mut kinds: Vec<OpKind> = all.iter().map(|op| op.kind).collect();
    kinds.sort_unstable();
    assert_eq!(kinds, OpKind::ALL, "each kind has one entry in its file");
}

/// The value of a node over constants, if it is evaluated.
fn evaluated(row: &Row) -> Option<Array> {
    let constant = |operand: &Operand| match operand {
        Operand::Constant(value) => value.clone(),
        other => panic!("{other:?}"),
    };
    let inputs: Vec<Array> = row.operands.iter().map(constant).collect();
    let types: Vec<_> = inputs.iter().map(type_of).collect();
    let node = Node {
        op: row.op.clone(),
        inputs: (0..inputs.len()).map(|i| i.to_string()).collect(),
        outputs: vec!["y".into()],
        attributes: row.attributes.iter().cloned().collect(),
        ..Node::default()
    };
    evaluate(&Args {
        node: &node,
        types: types.iter().map(Some).collect(),
        constants: inputs.iter().map(Some).collect(),
    })
}

#[test]
fn operators_over_constants() {
    let rows = [
        "Add f[2,3](1,2,3,4,5,6) f[3](10,20,30) = f[2,3](11,22,33,14,25,36)",
        "Mul f[2,1](2,3) f[1,2](1,10) = f[2,2](2,20,3,30)",
        "Sub i(5,7) i(2) = i(3,5)",
        "Div f[1](1) f(4) = f[1](0.25)",
        "Transpose f[2,3](1,2,3,4,5,6) {perm=[1,0]} = f[3,2](1,4,2,5,3,6)",
        "Reshape f[2,3](1,2,3,4,5,6) i(-1,2) = f[3,2](1,2,3,4,5,6)",
        "Concat f[2,3](1,2,3,4,5,6) f[2,1](8,9) {axis=1} = f[2,4](1,2,3,8,4,5,6,9)",
        "Slice f[2,3](1,2,3,4,5,6) i(1) i(3) i(-1) = f[2,2](2,3,5,6)",
        "Slice f[2,3](1,2,3,4,5,6) i(-1) i(-9223372036854775808) i(1) i(-2) = f[2,2](3,1,6,4)",
        "Where b[2,1](1,0) f[2,3](1,2,3,4,5,6) f(0) = f[2,3](1,2,3,0,0,0)",
        "Greater i(1,2,3) i(2) = b(0,0,1)",
        "Max f[2](1,-1) f(0) = f[2](1,0)",
        "Not b(1,0) = b(0,1)",
        "Cast i(3) {to=1} = f[1](3)",
        "Expand f[2,1](1,2) i(2,2) = f[2,2](1,1,2,2)",
        "Unsqueeze i(7) i(0) = i[1,1](7)",
        "Neg i(7) = i(-7)",
        "Sqrt f[1](9) = f[1](3)",
    ];
    for line in rows {
        let (node, expected) = line.split_once(" = ").unwrap();
        let expected = match &Row::parse(&format!("Identity {expected}")).operands[0] {
            Operand::Constant(value) => value.clone(),
            other => panic!("{other:?}"),
        };
        assert_eq!(evaluated(&Row::parse(node)), Some(expected), "{line}");
    }
}

#[test]
fn what_would_grow_or_fail_stays_a_node() {
    let rows = [
        "Expand f[1](0) i(100000)",
        "Div i(1) i(0)",
        "Mul i(9223372036854775807) i(2)",
        "Erf f[1](0)",
    ];
    for line in rows {
        assert_eq!(evaluated(&Row::parse(line)), None, "{line}");
    }
}
