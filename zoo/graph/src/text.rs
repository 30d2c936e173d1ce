//! The readable form of a graph.

use std::fmt;

use crate::{Array, Attribute, Graph, Node, Port, ValueType};

/// Constants up to this many elements are written out where they are read.
const INLINE: usize = 6;

impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[", self.dtype)?;
        separated(f, ",", &self.shape)?;
        f.write_str("]")
    }
}

impl fmt::Display for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, &[])
    }
}

impl Graph {
    /// `around`: the graphs that this one is a body of, the outermost first.
    fn write(&self, f: &mut fmt::Formatter<'_>, around: &[&Self]) -> fmt::Result {
        // A body stands below its attribute, which stands below its node.
        let pad = "  ".repeat(2 * around.len());
        write!(f, "graph {}(", self.name)?;
        ports(f, &self.inputs)?;
        f.write_str(") -> (")?;
        ports(f, &self.outputs)?;
        f.write_str(") {\n")?;
        for initializer in self
            .initializers
            .iter()
            .filter(|i| inline(&i.value).is_none())
        {
            let value = &initializer.value;
            write!(f, "{pad}  {}: {}[", initializer.name, value.dtype())?;
            separated(f, ",", value.shape())?;
            f.write_str("]\n")?;
        }
        for node in &self.nodes {
            write!(f, "{pad}  ")?;
            self.write_node(f, node, around)?;
        }
        writeln!(f, "{pad}}}")
    }

    fn write_node(&self, f: &mut fmt::Formatter<'_>, node: &Node, around: &[&Self]) -> fmt::Result {
        let scope = [around, &[self]].concat();
        let named: Vec<String> = node.outputs.iter().map(|o| format!("%{o}")).collect();
        let read: Vec<String> = node.inputs.iter().map(|i| operand(i, &scope)).collect();
        write!(f, "{} = {}({})", named.join(", "), node.op, read.join(", "))?;
        let plain: Vec<String> = node
            .attributes
            .iter()
            .filter_map(|(k, v)| Some(format!("{k}={}", plain(v)?)))
            .collect();
        if !plain.is_empty() {
            write!(f, " {{{}}}", plain.join(", "))?;
        }
        let types: Vec<String> = node
            .outputs
            .iter()
            .map(|o| self.types.get(o).map_or("?".into(), |t| t.to_string()))
            .collect();
        writeln!(f, " : {}", types.join(", "))?;
        for (key, attribute) in &node.attributes {
            if let Attribute::Graph(body) = attribute {
                write!(f, "{}{key} = ", "  ".repeat(2 * scope.len()))?;
                body.write(f, &scope)?;
            }
        }
        Ok(())
    }
}

/// `%value`, `parameter.path`, a small constant's elements, or `_` for an input left out.
fn operand(name: &str, scope: &[&Graph]) -> String {
    match scope.iter().find_map(|graph| graph.initializer(name)) {
        _ if name.is_empty() => "_".into(),
        Some(value) => inline(value).unwrap_or_else(|| name.into()),
        None => format!("%{name}"),
    }
}

fn ports(f: &mut fmt::Formatter<'_>, ports: &[Port]) -> fmt::Result {
    let text: Vec<String> = ports
        .iter()
        .map(|p| format!("%{}: {}", p.name, p.value_type()))
        .collect();
    f.write_str(&text.join(", "))
}

fn separated<T: fmt::Display>(f: &mut fmt::Formatter<'_>, by: &str, items: &[T]) -> fmt::Result {
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            f.write_str(by)?;
        }
        write!(f, "{item}")?;
    }
    Ok(())
}

/// The elements of a small integer or scalar constant.
fn inline(value: &Array) -> Option<String> {
    let small = match value.dtype() {
        crate::DType::I64 | crate::DType::Bool => value.shape().len() <= 1 && value.len() <= INLINE,
        _ => value.shape().is_empty(),
    };
    if !small {
        return None;
    }
    let items: Vec<String> = value.to_f64().iter().map(|x| format!("{x}")).collect();
    Some(if value.shape().is_empty() {
        items.join("")
    } else {
        format!("[{}]", items.join(","))
    })
}

/// Everything but a sub-graph, which is written below its node.
fn plain(attribute: &Attribute) -> Option<String> {
    fn list<T: ToString>(items: &[T]) -> String {
        format!(
            "[{}]",
            items.iter().map(T::to_string).collect::<Vec<_>>().join(",")
        )
    }
    Some(match attribute {
        Attribute::Int(value) => value.to_string(),
        Attribute::Float(value) => value.to_string(),
        Attribute::Text(value) => value.clone(),
        Attribute::Ints(values) => list(values),
        Attribute::Floats(values) => list(values),
        Attribute::Tensor(value) => format!("{value:?}"),
        Attribute::Graph(_) => return None,
    })
}

#[cfg(test)]
mod tests {
    use crate::{Array, Attribute, DType, Dim, Error, Graph, Initializer, Node, Port, ValueType};

    fn decode() -> Graph {
        let mut graph = Graph {
            name: "decode".into(),
            inputs: vec![Port::normal("z", &[2])],
            outputs: vec![Port::batched("x", &[3])],
            ..Graph::default()
        };
        let constants = [
            ("fc.weight", Array::f32([3, 2], vec![0.5; 6])),
            ("fc.bias", Array::f32([3], vec![0.0; 3])),
        ];
        for (name, value) in constants {
            let value = value.unwrap();
            let shape = value.shape().iter().map(|&d| d.into()).collect();
            graph.types.insert(
                name.into(),
                ValueType {
                    dtype: DType::F32,
                    shape,
                },
            );
            graph.initializers.push(Initializer {
                name: name.into(),
                value,
            });
        }
        graph.types.insert("z".into(), graph.inputs[0].value_type());
        graph.types.insert(
            "x".into(),
            ValueType {
                dtype: DType::F32,
                shape: vec![Dim::batch(), 3.into()],
            },
        );
        graph.nodes.push(Node {
            name: "fc".into(),
            op: "Gemm".into(),
            inputs: vec!["z".into(), "fc.weight".into(), "fc.bias".into()],
            outputs: vec!["x".into()],
            attributes: [("transB".to_string(), Attribute::Int(1))].into(),
            origin: None,
        });
        graph
    }

    #[test]
    fn reads_as_text() {
        let text = "graph decode(%z: f32[N,2]) -> (%x: f32[N,3]) {\n  fc.weight: f32[3,2]\n  fc.bias: f32[3]\n  \
                    %x = Gemm(%z, fc.weight, fc.bias) {transB=1} : f32[N,3]\n}\n";
        assert_eq!(decode().to_string(), text);
    }

    #[test]
    fn validation_names_what_is_wrong() {
        let mut graph = decode();
        graph.validate().unwrap();
        graph.nodes[0].inputs[0] = "y".into();
        let (node, op, value) = ("fc".into(), "Gemm".into(), "y".into());
        assert_eq!(graph.validate(), Err(Error::Undefined { node, op, value }));

        let mut graph = decode();
        graph.nodes[0].outputs[0] = "fc.bias".into();
        assert_eq!(
            graph.validate(),
            Err(Error::Redefined {
                value: "fc.bias".into()
            })
        );

        let mut graph = decode();
        graph.outputs[0].name = "y".into();
        assert_eq!(graph.validate(), Err(Error::Output("y".into())));

        let mut graph = decode();
        graph.types.remove("x");
        assert_eq!(graph.validate(), Err(Error::Untyped { value: "x".into() }));
    }
}
