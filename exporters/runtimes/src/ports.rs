//! Checks what goes into a runtime and what comes out of it.

use std::collections::BTreeMap;

use zoo_sdk::{Array, Dim, Port, Sizes, Tensors};

use crate::{Error, Result, RuntimeId};

/// What the symbols of a signature stand for, with the input that says so first.
pub(crate) type Symbols<'a> = BTreeMap<&'a str, (usize, &'a str)>;

/// Checks names, types, shapes and sizes; the answer says what each symbol stands for.
pub(crate) fn check_inputs<'a>(ports: &'a [Port], inputs: &Tensors) -> Result<Symbols<'a>> {
    if let Some(name) = inputs.keys().find(|n| !ports.iter().any(|p| p.name == **n)) {
        return Err(Error::UnknownInput {
            name: name.clone(),
            valid: nearest_first(name, ports),
        });
    }
    let mut symbols = Symbols::new();
    for port in ports {
        let array = inputs.get(&port.name).ok_or_else(|| Error::MissingInput {
            name: port.name.clone(),
            wanted: describe(port),
        })?;
        check_input(port, array, &mut symbols)?;
    }
    Ok(symbols)
}

fn check_input<'a>(port: &'a Port, array: &Array, symbols: &mut Symbols<'a>) -> Result<()> {
    if array.dtype() != port.dtype {
        return Err(Error::InputType {
            name: port.name.clone(),
            expected: port.dtype,
            got: array.dtype(),
        });
    }
    let wrong = |hint: String| {
        Err(Error::InputShape {
            name: port.name.clone(),
            expected: shape(&port.shape),
            got: array.shape().to_vec(),
            hint,
        })
    };
    if array.shape().len() != port.shape.len() {
        return wrong(format!(
            ": {} dimensions instead of {}",
            array.shape().len(),
            port.shape.len()
        ));
    }
    for (axis, (dim, &size)) in port.shape.iter().zip(array.shape()).enumerate() {
        if size == 0 {
            return wrong(": it is empty".into());
        }
        let (symbol, value) = match dim {
            Dim::Fixed(fixed) if *fixed == size => continue,
            Dim::Fixed(_) => return wrong(format!(": dimension {axis} differs")),
            dim => match dim.solved(size) {
                Some(solved) => solved,
                // What follows from several symbols, or from a division, tells none of them.
                None if dim.symbols().count() > 1 || dim.times(2).is_none() => continue,
                None => {
                    return wrong(format!(": dimension {axis} cannot be {size}, it is {dim}"));
                }
            },
        };
        let &mut (first, first_port) = symbols.entry(symbol).or_insert((value, &port.name));
        if first != value {
            return Err(Error::Symbol {
                symbol: symbol.into(),
                first,
                first_port: first_port.into(),
                second: value,
                second_port: port.name.clone(),
            });
        }
    }
    Ok(())
}

/// Checks that the outputs, in the ports' order, are what the file says, and names them.
pub(crate) fn check_outputs(
    runtime: &RuntimeId,
    ports: &[Port],
    outputs: Vec<Array>,
    symbols: &Symbols<'_>,
) -> Result<Tensors> {
    let mut named = Tensors::new();
    let sizes = sizes_of(symbols);
    for (port, array) in ports.iter().zip(outputs) {
        // A symbol of outputs alone may stand for anything.
        let unknown = |dim: &Dim| dim.symbols().any(|symbol| sizes.get(symbol).is_none());
        let fits = |(dim, &size): (&Dim, &usize)| unknown(dim) || dim.at(&sizes) == Some(size);
        let sizes = array.shape();
        if array.dtype() != port.dtype
            || sizes.len() != port.shape.len()
            || !port.shape.iter().zip(sizes).all(fits)
        {
            return Err(Error::Output {
                runtime: runtime.clone(),
                name: port.name.clone(),
                expected: describe(port),
                got: format!("{array:?}"),
            });
        }
        named.insert(port.name.clone(), array);
    }
    Ok(named)
}

/// What symbols stand for, whoever says so.
pub(crate) fn sizes_of(symbols: &Symbols<'_>) -> Sizes {
    let each = symbols.iter();
    each.fold(Sizes::default(), |sizes, (symbol, (size, _))| {
        sizes.with(*symbol, *size)
    })
}

/// `f32[N,784]`
pub(crate) fn describe(port: &Port) -> String {
    format!("{}{}", port.dtype, shape(&port.shape))
}

/// `x: f32[3,784], label: i64[3]`
pub(crate) fn describe_all(inputs: &Tensors) -> String {
    let each = inputs.iter().map(|(name, array)| {
        let sizes: Vec<String> = array.shape().iter().map(usize::to_string).collect();
        format!("{name}: {}[{}]", array.dtype(), sizes.join(","))
    });
    each.collect::<Vec<_>>().join(", ")
}

fn shape(dims: &[Dim]) -> String {
    let dims: Vec<String> = dims.iter().map(Dim::to_string).collect();
    format!("[{}]", dims.join(","))
}

fn nearest_first(name: &str, ports: &[Port]) -> String {
    if ports.is_empty() {
        return "no inputs".into();
    }
    let mut ports: Vec<&Port> = ports.iter().collect();
    ports.sort_by_cached_key(|port| strsim::damerau_levenshtein(name, &port.name));
    let each = ports
        .iter()
        .map(|port| format!("{:?} ({})", port.name, describe(port)));
    each.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use zoo_sdk::DType;

    fn ports() -> Vec<Port> {
        vec![
            Port::batched("mask", &[2]),
            Port::batched("noise", &[2]),
            Port::label("label", 10),
            Port::new("wide", DType::F32, ["5*N".parse::<Dim>().unwrap()]),
        ]
    }

    fn inputs() -> Tensors {
        Tensors::from([
            ("mask".into(), Array::f32([3, 2], [0.0; 6]).unwrap()),
            ("noise".into(), Array::f32([3, 2], [0.0; 6]).unwrap()),
            ("label".into(), Array::i64([3], [0; 3]).unwrap()),
            ("wide".into(), Array::f32([15], [0.0; 15]).unwrap()),
        ])
    }

    #[test]
    fn good_inputs_say_what_n_is() {
        let ports = ports();
        let symbols = check_inputs(&ports, &inputs()).unwrap();
        assert_eq!(symbols, Symbols::from([("N", (3, "mask"))]));
    }

    #[test]
    fn bad_inputs_are_named() {
        let ports = ports();
        let f32s = |shape: &[usize]| Array::f32(shape, vec![0.0; shape.iter().product()]).unwrap();
        for (name, array, expected) in [
            (
                "niose",
                f32s(&[3, 2]),
                r#"unknown input "niose": the file reads "noise" (f32[N,2]), "wide" (f32[5*N]), "mask" (f32[N,2]), "label" (i64[N])"#,
            ),
            ("label", f32s(&[3]), r#"input "label" must be i64, got f32"#),
            (
                "noise",
                f32s(&[3, 2, 1]),
                r#"input "noise" must have the shape [N,2], got [3, 2, 1]: 3 dimensions instead of 2"#,
            ),
            (
                "noise",
                f32s(&[3, 4]),
                r#"input "noise" must have the shape [N,2], got [3, 4]: dimension 1 differs"#,
            ),
            (
                "noise",
                f32s(&[0, 2]),
                r#"input "noise" must have the shape [N,2], got [0, 2]: it is empty"#,
            ),
            (
                "noise",
                f32s(&[4, 2]),
                r#"N cannot be both 3 (input "mask") and 4 (input "noise")"#,
            ),
            (
                "wide",
                f32s(&[16]),
                r#"input "wide" must have the shape [5*N], got [16]: dimension 0 cannot be 16, it is 5*N"#,
            ),
        ] {
            let mut inputs = inputs();
            inputs.insert(name.into(), array);
            assert_eq!(
                check_inputs(&ports, &inputs).unwrap_err().to_string(),
                expected
            );
        }
        let mut inputs = inputs();
        inputs.remove("mask");
        assert_eq!(
            check_inputs(&ports, &inputs).unwrap_err().to_string(),
            r#"missing input "mask" (f32[N,2])"#
        );
    }

    #[test]
    fn outputs_must_be_what_the_file_says() {
        let given = ports();
        let symbols = check_inputs(&given, &inputs()).unwrap();
        let ports = [Port::batched("x", &[2])];
        let check = |array| check_outputs(&RuntimeId::Tract, &ports, vec![array], &symbols);
        assert!(check(Array::f32([3, 2], [0.0; 6]).unwrap()).is_ok());
        for array in [
            Array::f32([2, 2], [0.0; 4]).unwrap(),
            Array::f32([3, 1], [0.0; 3]).unwrap(),
            Array::f32([6], [0.0; 6]).unwrap(),
            Array::i64([3, 2], [0; 6]).unwrap(),
        ] {
            let error = check(array).unwrap_err().to_string();
            assert!(error.contains("f32[N,2]"), "{error}");
        }
    }
}
