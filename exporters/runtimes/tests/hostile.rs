//! Broken files are errors, not panics. (A broken file can still make a library abort the process or compute for ever: the
//! crate's documentation says so.)

// Helpers of tests may do what tests may.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

#[path = "common/available.rs"]
mod available;
mod common;

use available::runtimes;
use common::{F32, bytes, floats, ints, mlp, model, node};
use tract_onnx::pb::{self, tensor_proto::DataType};
use zoo_runtimes::{LoadOptions, Result, Runtime, example_inputs};
use zoo_sdk::Tensors;

fn load_and_run(runtime: &dyn Runtime, file: &[u8]) -> Result<Tensors> {
    let mut loaded = runtime.load(file, &LoadOptions::default())?;
    let inputs = example_inputs(loaded.inputs(), 2, 1)?;
    loaded.run(&inputs)
}

fn error(runtime: &dyn Runtime, file: &[u8]) -> String {
    match load_and_run(runtime, file) {
        Ok(_) => panic!("{} took it", runtime.id()),
        Err(error) => error.to_string(),
    }
}

#[test]
fn no_files_at_all() {
    for runtime in runtimes() {
        for file in [&b""[..], b"not protobuf", &[0xff; 64], b"\x08\x08"] {
            let error = error(runtime.as_ref(), file);
            assert!(error.starts_with("not a usable ONNX file: "), "{error}");
        }
    }
}

#[test]
fn truncated_files() {
    let file = bytes(&mlp());
    for runtime in runtimes() {
        for length in 0..file.len() {
            // Most cuts break the encoding; a cut between two fields can leave a smaller file that is sound.
            let _ = load_and_run(runtime.as_ref(), &file[..length]);
        }
        assert!(load_and_run(runtime.as_ref(), &file).is_ok());
    }
}

#[test]
fn changed_bytes() {
    let file = bytes(&mlp());
    let places = zoo_sdk::Stream::new(3).integers(600, file.len() as u64 * 255);
    for runtime in runtimes() {
        for place in &places {
            let (at, change) = ((*place / 255) as usize, (*place % 255 + 1) as u8);
            let mut file = file.clone();
            file[at] ^= change;
            // A changed dimension may ask for more memory than a test should take.
            let small = |port: &zoo_sdk::Port| {
                port.shape_at(2)
                    .and_then(|s| s.iter().try_fold(1usize, |n, &d| n.checked_mul(d)))
                    .is_some_and(|n| n < 1 << 20)
            };
            if let Ok(loaded) = runtime.load(&file, &LoadOptions::default())
                && loaded.inputs().iter().chain(loaded.outputs()).all(small)
            {
                let _ = load_and_run(runtime.as_ref(), &file);
            }
        }
    }
}

#[test]
fn lying_files() {
    let x = ("x", F32, &["N", "2"][..]);
    let y = ("y", F32, &["N", "2"][..]);
    let add = |weight| {
        model(
            &[x],
            &[y],
            vec![weight],
            vec![node("Add", &["x", "w"], &["y"], vec![])],
        )
    };
    let relu = || vec![node("Relu", &["x"], &["y"], vec![])];
    let external = pb::TensorProto {
        data_location: Some(1),
        external_data: vec![pb::StringStringEntryProto {
            key: "location".into(),
            value: "/etc/passwd".into(),
        }],
        raw_data: vec![],
        ..floats("w", &[2], &[])
    };
    let constant = |value| pb::AttributeProto {
        name: "value".into(),
        r#type: 4,
        t: Some(value),
        ..Default::default()
    };
    let shapeless = {
        let mut file = model(&[x], &[y], vec![], relu());
        let input = &mut file.graph.as_mut().unwrap().input[0];
        input.r#type = Some(pb::TypeProto {
            value: Some(pb::type_proto::Value::TensorType(pb::type_proto::Tensor {
                elem_type: 1,
                shape: None,
            })),
            ..Default::default()
        });
        file
    };
    let untyped = {
        let mut file = model(&[x], &[y], vec![], relu());
        file.graph.as_mut().unwrap().input[0].r#type = None;
        file
    };
    for (file, words) in [
        (
            add(floats("w", &[3], &[1.0, 2.0])),
            r#"initializer "w" of shape [3] holds 8 bytes"#,
        ),
        (
            add(ints("w", &[3], &[1, 2])),
            r#"initializer "w" of shape [3] holds 2 values"#,
        ),
        (
            add(floats("w", &[-2], &[1.0, 2.0])),
            r#"initializer "w" has the impossible shape [-2]"#,
        ),
        (add(floats("w", &[1 << 62, 4], &[])), "impossible shape"),
        (add(floats("w", &[1 << 62], &[])), "holds 0 values"),
        (
            add(floats("w", &[1 << 40, 1 << 20], &[1.0])),
            r#"holds 4 bytes"#,
        ),
        (
            add(pb::TensorProto {
                data_type: 99,
                ..floats("w", &[2], &[1.0, 2.0])
            }),
            "unknown element type 99",
        ),
        (add(external), "in another file"),
        (
            model(
                &[x],
                &[y],
                vec![],
                vec![
                    node(
                        "Constant",
                        &[],
                        &["w"],
                        vec![constant(floats("", &[1 << 50], &[]))],
                    ),
                    node("Add", &["x", "w"], &["y"], vec![]),
                ],
            ),
            r#"attribute "value" of node "the.w" (Constant) of shape [1125899906842624] holds 0 values"#,
        ),
        (
            model(&[x], &[("z", F32, &["N", "2"])], vec![], relu()),
            r#"output "z" is produced by no node"#,
        ),
        (model(&[x], &[], vec![], relu()), "it has no outputs"),
        (
            model(&[x, x], &[y], vec![], relu()),
            r#"two inputs are called "x""#,
        ),
        (
            model(&[("x", F32, &["N", "0"])], &[y], vec![], relu()),
            r#"input "x" has a dimension of size 0"#,
        ),
        (
            model(&[("x", F32, &["-3", "2"])], &[y], vec![], relu()),
            r#"input "x" has a dimension of size -3"#,
        ),
        (
            model(
                &[("x", DataType::String, &["N", "2"])],
                &[y],
                vec![],
                relu(),
            ),
            r#"input "x" is of STRING"#,
        ),
        (shapeless, r#"input "x" has no shape"#),
        (untyped, r#"input "x" is no tensor"#),
        (pb::ModelProto::default(), "it holds no graph"),
    ] {
        for runtime in runtimes() {
            let error = error(runtime.as_ref(), &bytes(&file));
            assert!(
                error.starts_with("not a usable ONNX file: ") && error.contains(words),
                "{error}"
            );
        }
    }
}

/// What only the runtimes can find wrong; panics below are caught and say which runtime.
#[test]
fn senseless_files() {
    let x = ("x", F32, &["N", "2"][..]);
    let y = ("y", F32, &["N", "2"][..]);
    for (what, nodes) in [
        (
            "a missing value",
            vec![node("Add", &["x", "nowhere"], &["y"], vec![])],
        ),
        ("too few inputs", vec![node("Gemm", &[], &["y"], vec![])]),
        ("too few inputs", vec![node("Concat", &[], &["y"], vec![])]),
        (
            "a missing attribute",
            vec![node("Cast", &["x"], &["y"], vec![])],
        ),
        (
            "an axis out of range",
            vec![node(
                "Concat",
                &["x", "x"],
                &["y"],
                vec![common::int("axis", 9)],
            )],
        ),
        (
            "shapes that do not fit",
            vec![
                node("Transpose", &["x"], &["t"], vec![]),
                node("MatMul", &["x", "t"], &["m"], vec![]),
                node("Concat", &["x", "m"], &["y"], vec![common::int("axis", 0)]),
            ],
        ),
        (
            "a circle",
            vec![
                node("Add", &["x", "b"], &["a"], vec![]),
                node("Add", &["a", "x"], &["b"], vec![]),
                node("Relu", &["b"], &["y"], vec![]),
            ],
        ),
    ] {
        let file = bytes(&model(&[x], &[("y", F32, &["N", "3"])], vec![], nodes));
        for runtime in runtimes() {
            let error = error(runtime.as_ref(), &file);
            println!("{what}: {error}");
            assert!(error.starts_with(runtime.id().name()), "{what}: {error}");
        }
    }
    let _ = y;
}
