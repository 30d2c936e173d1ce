//! Inputs of a sampler that are given by name: a number of steps, a temperature, a time.

use std::path::PathBuf;

use zoo_data::npy::read_npy;
use zoo_sdk::{Array, DType, Data, Port, Tensors, must_be_given};

use crate::{Error, Result};

/// What an input is given.
#[derive(Clone, Debug, PartialEq)]
pub enum Given {
    /// One number, wherever the input has one.
    Number(f64),
    /// An `.npy` file: the input's shape, for each image or for one that serves for all.
    File(PathBuf),
}

/// The inputs `given` for `count` images. Those that have a batch have a row for each image, or one.
///
/// # Errors
/// For a name that the graph does not have, what does not fit its type, shape or range, and where one of `ports` that cannot be drawn
/// is missing here and in `known`.
pub(super) fn read(
    given: &[(String, Given)],
    known: &Tensors,
    ports: &[Port],
    count: usize,
) -> Result<Tensors> {
    let mut inputs = Tensors::new();
    for (name, value) in given {
        let port = ports.iter().find(|port| port.name == *name);
        let wrong = |what: String| Error::Usage(format!("--input {name}: {what}"));
        let Some(port) = port.filter(|p| p.distribution.is_none() && !known.contains_key(name))
        else {
            return Err(wrong(match port {
                Some(port) if port.distribution.is_some() => "it is noise; --seed draws it".into(),
                Some(_) => "--given and --mask give it".into(),
                None => {
                    let open = ports.iter().filter(|port| port.distribution.is_none());
                    match listed(open) {
                        all if all.is_empty() => "the model draws by noise alone".into(),
                        all => format!("there is no such input; there is {all}"),
                    }
                }
            }));
        };
        let array = match value {
            Given::Number(number) => filled(port, *number, count),
            Given::File(path) => {
                let array = read_npy(path)?;
                let fits = |n| port.shape_at(n).as_deref() == Some(array.shape());
                let all = array.dtype() == port.dtype && (fits(count) || fits(1));
                let held = format!("{} holds {array:?}", path.display());
                all.then_some(array).ok_or(held)
            }
        };
        let array = array.map_err(|held| wrong(format!("it is {}, {held}", describe(port))))?;
        let [low, high] = port.range.unwrap_or([f64::NEG_INFINITY, f64::INFINITY]);
        let outside = array
            .to_f64()
            .into_iter()
            .find(|v| !(low..=high).contains(v));
        if let Some(value) = outside {
            return Err(wrong(format!("it is {}, not {value}", describe(port))));
        }
        if inputs.insert(name.clone(), array).is_some() {
            return Err(wrong("it is given twice".into()));
        }
    }
    let is_missing = |port: &&Port| {
        let there = inputs.contains_key(&port.name) || known.contains_key(&port.name);
        must_be_given(port) && !there
    };
    match listed(ports.iter().filter(is_missing)) {
        none if none.is_empty() => Ok(inputs),
        missing => Err(Error::Usage(format!(
            "this model draws by more than noise: give {missing}, each as --input NAME=VALUE or --input NAME=@FILE.npy",
        ))),
    }
}

/// A number in each place; an error says what was given where the type cannot hold it.
fn filled(port: &Port, number: f64, count: usize) -> Result<Array, String> {
    let refused = || format!("not {number}");
    let shape = port.shape_at(count).ok_or_else(refused)?;
    let whole = number.fract() == 0.0 && number.abs() <= 2f64.powi(53);
    let n = shape.iter().product();
    let data = match port.dtype {
        DType::F32 => Data::F32(vec![number as f32; n]),
        DType::F64 => Data::F64(vec![number; n]),
        DType::I64 if whole => Data::I64(vec![number as i64; n]),
        DType::I32 if whole && i32::try_from(number as i64).is_ok() => {
            Data::I32(vec![number as i32; n])
        }
        DType::U8 if whole && (0.0..=255.0).contains(&number) => Data::U8(vec![number as u8; n]),
        DType::Bool if number == 0.0 || number == 1.0 => Data::Bool(vec![number as u8; n]),
        _ => return Err(refused()),
    };
    Array::new(shape, data).map_err(|error| error.to_string())
}

/// Ports by name, with what [`describe`] tells of them.
fn listed<'a>(ports: impl Iterator<Item = &'a Port>) -> String {
    let each = ports.map(|port| format!("{:?} ({})", port.name, describe(port)));
    each.collect::<Vec<_>>().join(", ")
}

/// `i64[] within 1 and 100, how often a loop of the graph runs`
fn describe(port: &Port) -> String {
    let within = match port.range {
        Some([low, high]) => format!(" within {low} and {high}"),
        None => String::new(),
    };
    let meaning = match (&port.shape[..], port.dtype) {
        ([], DType::I64) => "how often a loop of the graph runs",
        ([], _) => "one value for all images",
        ([first], _) if first.fixed().is_none() => "one value for each image",
        ([first, ..], _) if first.fixed().is_none() => "values for each image",
        _ => "values for all images alike",
    };
    format!("{}{within}, {meaning}", port.value_type())
}

#[cfg(test)]
mod tests {
    use zoo_data::npy::write_npy;
    use zoo_sdk::Dim;

    use super::*;

    fn ports() -> Vec<Port> {
        let temperature = Port {
            range: Some([0.0, 2.0]),
            ..Port::new("temperature", DType::F32, [])
        };
        vec![
            Port::normal("noise", &[3]),
            Port::count("steps", 1, 100),
            temperature,
            Port::new("time", DType::F32, [Dim::batch()]),
            Port::new("table", DType::F32, [4.into()]),
        ]
    }

    fn number(name: &str, value: f64) -> (String, Given) {
        (name.into(), Given::Number(value))
    }

    fn all() -> Vec<(String, Given)> {
        vec![
            number("steps", 8.0),
            number("temperature", 0.5),
            number("time", 1.0),
            number("table", 2.0),
        ]
    }

    fn refused(given: &[(String, Given)]) -> String {
        let read = read(given, &Tensors::new(), &ports(), 3);
        read.unwrap_err().to_string()
    }

    #[test]
    fn numbers_take_the_shape_of_their_input() {
        let read = read(&all(), &Tensors::new(), &ports(), 3).unwrap();
        assert_eq!(read["steps"], Array::i64([], [8]).unwrap());
        assert_eq!(read["temperature"], Array::f32([], [0.5]).unwrap());
        assert_eq!(read["time"], Array::f32([3], [1.0; 3]).unwrap());
        assert_eq!(read["table"], Array::f32([4], [2.0; 4]).unwrap());
    }

    #[test]
    fn files_are_for_each_image_or_for_all() {
        let folder = tempfile::tempdir().unwrap();
        let file = |shape: &[usize]| {
            let path = folder.path().join("time.npy");
            let array = Array::f32(shape, vec![0.5; shape.iter().product()]).unwrap();
            write_npy(&path, &array).unwrap();
            [
                &all()[..2],
                &all()[3..],
                &[("time".into(), Given::File(path))],
            ]
            .concat()
        };
        for shape in [[3], [1]] {
            let read = read(&file(&shape), &Tensors::new(), &ports(), 3).unwrap();
            assert_eq!(read["time"].shape(), shape);
        }
        let error = refused(&file(&[2]));
        assert!(error.starts_with("--input time: it is f32[N], one value for each image, "));
        assert!(error.ends_with("time.npy holds f32[2]"), "{error}");
    }

    #[test]
    fn what_is_missing_or_does_not_fit_is_told() {
        insta::assert_snapshot!(refused(&all()[..1]), @r#"this model draws by more than noise: give "temperature" (f32[] within 0 and 2, one value for all images), "time" (f32[N], one value for each image), "table" (f32[4], values for all images alike), each as --input NAME=VALUE or --input NAME=@FILE.npy"#);
        insta::assert_snapshot!(refused(&[number("step", 8.0)]), @r#"--input step: there is no such input; there is "steps" (i64[] within 1 and 100, how often a loop of the graph runs), "temperature" (f32[] within 0 and 2, one value for all images), "time" (f32[N], one value for each image), "table" (f32[4], values for all images alike)"#);
        for (given, what) in [
            (
                [number("steps", 0.0)],
                "--input steps: it is i64[] within 1 and 100, how often a loop of the graph runs, not 0",
            ),
            (
                [number("steps", 1.5)],
                "--input steps: it is i64[] within 1 and 100, how often a loop of the graph runs, not 1.5",
            ),
            (
                [number("noise", 1.0)],
                "--input noise: it is noise; --seed draws it",
            ),
        ] {
            assert_eq!(refused(&given), what);
        }
        let twice = [number("time", 1.0), number("time", 1.0)];
        assert_eq!(refused(&twice), "--input time: it is given twice");
        let noise = &ports()[..1];
        let error = read(&[number("steps", 1.0)], &Tensors::new(), noise, 1);
        let error = error.unwrap_err().to_string();
        assert_eq!(error, "--input steps: the model draws by noise alone");
    }
}
