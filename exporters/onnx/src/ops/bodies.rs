//! What the operators with bodies have in common.

use zoo_graph::{Graph, Port, ValueType};

use super::{OpKind, is, loops, prelude::*};

/// A body among a node's attributes.
pub(super) fn body<'a>(args: &Args<'a>, name: &str) -> Result<&'a Graph, String> {
    match args.node.attributes.get(name) {
        Some(Attribute::Graph(body)) => Ok(body),
        _ => Err(format!("{name} is missing")),
    }
}

/// A value fed to a body has the type that the body's port states.
pub(super) fn fits(port: &Port, ty: &ValueType) -> Result<(), String> {
    match port.value_type() == *ty {
        true => Ok(()),
        false => Err(format!(
            "the body's port {:?} is {}, it is fed {ty}",
            port.name,
            port.value_type()
        )),
    }
}

/// The node with its bodies in the form of the target.
pub(super) fn lower_bodies(cx: &mut Rewrite<'_>) -> Result<(), Failure> {
    let mut node = cx.node.clone();
    for attribute in node.attributes.values_mut() {
        if let Attribute::Graph(body) = attribute {
            **body = cx.body(body)?;
        }
    }
    cx.copy(node);
    Ok(())
}

/// Which loops a target has.
pub(super) fn runs(target: Target, node: &Node) -> Result<(), String> {
    let within = || node.bodies().any(|body| body.nodes.iter().any(loops));
    match target {
        Target::Ort => Ok(()),
        Target::Tract if is(node, OpKind::Scan) && !within() => Ok(()),
        Target::Tract => Err(
            "it runs a Scan without loops inside, and no Loop; drive the steps from the host"
                .into(),
        ),
        Target::CandleOnnx => Err("it has no loops; drive the steps from the host".into()),
    }
}
