//! What every runtime must do alike.

// Helpers of tests may do what tests may.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

#[path = "common/available.rs"]
mod available;
mod common;

use available::runtimes;
use common::{F32, bytes, generator, int, ints, mlp, model, node, value_info, wide_mlp};
use tract_onnx::pb::{self, attribute_proto::AttributeType, tensor_proto::DataType};
use zoo_runtimes::{
    BenchOptions, Device, LoadOptions, RUNTIMES, RuntimeId, Search, bench, example_inputs, find,
    parity::Tolerance,
};
use zoo_sdk::{Array, DType, Dim, Port, Tensors};

fn cpu() -> LoadOptions {
    LoadOptions::default()
}

fn one(name: &str, array: Array) -> Tensors {
    Tensors::from([(name.to_string(), array)])
}

/// The network of [`mlp`], by hand.
fn expected(x: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let rows = x.chunks(2).map(|r| {
        let (a, b) = (r[0], r[1]);
        [a + 2.0 * b + 0.5, -a + 0.5 * b, -3.0 * b + 1.0].map(|v| v.max(0.0))
    });
    let y: Vec<f32> = rows.flatten().collect();
    let s = y.chunks(3).map(|r| r.iter().sum()).collect();
    (y, s)
}

fn close(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len()
        && a.iter()
            .zip(b)
            .all(|(&a, &b)| Tolerance::F32.within(b.into(), a.into()))
}

#[test]
fn ports_are_those_of_the_file() {
    for runtime in runtimes() {
        let loaded = runtime.load(&bytes(&mlp()), &cpu()).unwrap();
        assert_eq!(loaded.inputs(), [Port::batched("x", &[2])]);
        assert_eq!(
            loaded.outputs(),
            [
                Port::batched("y", &[3]),
                Port::new("s", DType::F32, [Dim::batch()])
            ]
        );
        assert!(RUNTIMES.contains(&runtime.id()));
        assert!(
            runtime.version().starts_with(|c: char| c.is_ascii_digit()),
            "{}",
            runtime.version()
        );
    }
}

#[test]
fn values_are_right_at_every_batch_size() {
    for runtime in runtimes() {
        for threads in [0, 1, 2] {
            let options = LoadOptions { threads, ..cpu() };
            let mut loaded = runtime.load(&bytes(&mlp()), &options).unwrap();
            // More sizes than tract keeps plans for, and back again.
            for n in [1usize, 3, 7, 1, 2, 4, 5, 6, 8, 9, 10, 11, 3] {
                let x: Vec<f32> = (0..2 * n).map(|i| i as f32 * 0.7 - 2.0).collect();
                let (y, s) = expected(&x);
                let inputs = one("x", Array::f32([n, 2], x).unwrap());
                let outputs = loaded.run(&inputs).unwrap();
                assert_eq!(outputs.len(), 2);
                assert_eq!(outputs["y"].shape(), [n, 3]);
                assert!(
                    close(outputs["y"].as_f32().unwrap(), &y),
                    "{} at {n}",
                    runtime.id()
                );
                assert!(
                    close(outputs["s"].as_f32().unwrap(), &s),
                    "{} at {n}",
                    runtime.id()
                );
            }
        }
    }
}

#[test]
fn element_types_pass_through() {
    let cast = |to: DataType| vec![int("to", to as i64)];
    let file = model(
        &[
            ("label", DataType::Int64, &["N"]),
            ("mask", DataType::Bool, &["N", "2"]),
            ("grey", DataType::Uint8, &["N", "2"]),
            ("half", DataType::Float16, &["N"]),
            ("double", DataType::Double, &["N"]),
        ],
        &[
            ("next", DataType::Int64, &["N"]),
            ("not", DataType::Bool, &["N", "2"]),
            ("white", F32, &["N", "2"]),
            ("same", DataType::Uint8, &["N", "2"]),
            ("single", F32, &["N"]),
            ("back", DataType::Float16, &["N"]),
            ("twice", DataType::Double, &["N"]),
        ],
        vec![ints("one", &[1], &[1])],
        vec![
            node("Add", &["label", "one"], &["next"], vec![]),
            node("Not", &["mask"], &["not"], vec![]),
            node("Cast", &["grey"], &["white"], cast(F32)),
            node("Cast", &["white"], &["same"], cast(DataType::Uint8)),
            node("Cast", &["half"], &["single"], cast(F32)),
            node("Cast", &["single"], &["back"], cast(DataType::Float16)),
            node("Add", &["double", "double"], &["twice"], vec![]),
        ],
    );
    let inputs = Tensors::from([
        ("label".into(), Array::i64([2], [4, -7]).unwrap()),
        ("mask".into(), Array::bool([2, 2], [1, 0, 0, 1]).unwrap()),
        ("grey".into(), Array::u8([2, 2], [0, 1, 128, 255]).unwrap()),
        (
            "half".into(),
            Array::f16_bits([2], [0x3c00, 0xc500]).unwrap(),
        ),
        ("double".into(), Array::f64([2], [0.1, -3.0]).unwrap()),
    ]);
    let outputs = Tensors::from([
        ("next".into(), Array::i64([2], [5, -6]).unwrap()),
        ("not".into(), Array::bool([2, 2], [0, 1, 1, 0]).unwrap()),
        (
            "white".into(),
            Array::f32([2, 2], [0.0, 1.0, 128.0, 255.0]).unwrap(),
        ),
        ("same".into(), inputs["grey"].clone()),
        ("single".into(), Array::f32([2], [1.0, -5.0]).unwrap()),
        ("back".into(), inputs["half"].clone()),
        ("twice".into(), Array::f64([2], [0.2, -6.0]).unwrap()),
    ]);
    for runtime in runtimes() {
        let mut loaded = runtime.load(&bytes(&file), &cpu()).unwrap();
        let got = loaded.run(&inputs).unwrap();
        for (name, expected) in &outputs {
            assert_eq!(
                got[name].to_f64(),
                expected.to_f64(),
                "{} {name}",
                runtime.id()
            );
            assert_eq!(
                got[name].dtype(),
                expected.dtype(),
                "{} {name}",
                runtime.id()
            );
        }
    }
}

#[test]
fn symbols_scale_and_need_not_be_n() {
    let file = model(
        &[
            ("x", F32, &["2*N", "3"]),
            ("other", F32, &["batch_size", "", "k + 1"]),
        ],
        &[
            ("y", F32, &["N", "6"]),
            ("z", F32, &["batch_size", "", "k + 1"]),
        ],
        vec![ints("shape", &[2], &[-1, 6])],
        vec![
            node("Reshape", &["x", "shape"], &["y"], vec![]),
            node("Relu", &["other"], &["z"], vec![]),
        ],
    );
    for runtime in runtimes() {
        let mut loaded = runtime.load(&bytes(&file), &cpu()).unwrap();
        let symbols: Vec<String> = loaded.inputs()[1]
            .shape
            .iter()
            .map(Dim::to_string)
            .collect();
        assert_eq!(symbols, ["batch_size", "any_other_1", "any_other_2"]);
        let x: Vec<f32> = (0..12).map(|i| i as f32).collect();
        let mut inputs = one("x", Array::f32([4, 3], x.clone()).unwrap());
        inputs.insert("other".into(), Array::f32([1, 2, 3], [-1.0; 6]).unwrap());
        let outputs = loaded.run(&inputs).unwrap();
        assert_eq!(outputs["y"], Array::f32([2, 6], x).unwrap());
        assert_eq!(outputs["z"].shape(), [1, 2, 3]);
    }
}

/// Running sums over the first axis of x (3,N,2). The body declares N, which tract cannot take as fixed.
#[test]
fn scans_keep_their_symbols() {
    let body = pb::GraphProto {
        name: "body".into(),
        input: vec![
            value_info(("state", F32, &["N", "2"])),
            value_info(("item", F32, &["N", "2"])),
        ],
        output: vec![
            value_info(("next", F32, &["N", "2"])),
            value_info(("out", F32, &["N", "2"])),
        ],
        node: vec![
            node("Add", &["state", "item"], &["next"], vec![]),
            node("Relu", &["next"], &["out"], vec![]),
        ],
        ..Default::default()
    };
    let body = pb::AttributeProto {
        name: "body".into(),
        r#type: AttributeType::Graph as i32,
        g: Some(body),
        ..Default::default()
    };
    let file = model(
        &[("start", F32, &["N", "2"]), ("x", F32, &["3", "N", "2"])],
        &[("end", F32, &["N", "2"]), ("y", F32, &["3", "N", "2"])],
        vec![],
        vec![node(
            "Scan",
            &["start", "x"],
            &["end", "y"],
            vec![body, int("num_scan_inputs", 1)],
        )],
    );
    for runtime in runtimes()
        .iter()
        .filter(|r| r.id() != RuntimeId::CandleOnnx)
    {
        let mut loaded = runtime.load(&bytes(&file), &cpu()).unwrap();
        for n in [1usize, 3, 2] {
            let x: Vec<f32> = (0..6 * n).map(|i| i as f32 - 4.0).collect();
            let mut inputs = one("start", Array::f32([n, 2], vec![1.0; 2 * n]).unwrap());
            inputs.insert("x".into(), Array::f32([3, n, 2], x.clone()).unwrap());
            let mut state = vec![1.0; 2 * n];
            let mut y = Vec::new();
            for item in x.chunks(2 * n) {
                state.iter_mut().zip(item).for_each(|(s, i)| *s += i);
                y.extend(state.iter().map(|s: &f32| s.max(0.0)));
            }
            let outputs = loaded.run(&inputs).unwrap();
            assert!(
                close(outputs["y"].as_f32().unwrap(), &y),
                "{}",
                runtime.id()
            );
            assert!(
                close(outputs["end"].as_f32().unwrap(), &state),
                "{}",
                runtime.id()
            );
        }
    }
}

#[test]
fn wrong_inputs_are_named_before_a_runtime_sees_them() {
    let f32s = |shape: &[usize]| Array::f32(shape, vec![0.0; shape.iter().product()]).unwrap();
    for runtime in runtimes() {
        let mut loaded = runtime.load(&bytes(&mlp()), &cpu()).unwrap();
        for (inputs, words) in [
            (Tensors::new(), r#"missing input "x" (f32[N,2])"#),
            (
                one("X", f32s(&[1, 2])),
                r#"unknown input "X": the file reads "x" (f32[N,2])"#,
            ),
            (
                one("x", Array::f64([1, 2], [0.0; 2]).unwrap()),
                r#"input "x" must be f32, got f64"#,
            ),
            (one("x", f32s(&[2])), "1 dimensions instead of 2"),
            (one("x", f32s(&[1, 3])), "dimension 1 differs"),
            (one("x", f32s(&[0, 2])), "it is empty"),
        ] {
            let error = loaded.run(&inputs).unwrap_err().to_string();
            assert!(error.contains(words), "{}: {error}", runtime.id());
        }
        // And it still works.
        assert!(loaded.run(&one("x", f32s(&[1, 2]))).is_ok());
    }
}

#[test]
fn outputs_that_are_not_what_the_file_says_are_errors() {
    // Declared as N rows, computed as one.
    let lying = model(
        &[("x", F32, &["N", "2"])],
        &[("y", F32, &["N", "1"])],
        vec![],
        vec![node("Flatten", &["x"], &["y"], vec![int("axis", 0)])],
    );
    for runtime in runtimes() {
        let inputs = one("x", Array::f32([3, 2], [1.0; 6]).unwrap());
        let result = runtime
            .load(&bytes(&lying), &cpu())
            .and_then(|mut l| l.run(&inputs));
        let error = result.unwrap_err().to_string();
        println!("{}: {error}", runtime.id());
        assert!(error.contains(runtime.id().name()), "{error}");
    }
}

#[test]
fn operators_that_nobody_has_are_named() {
    let file = model(
        &[("x", F32, &["N", "2"])],
        &[("y", F32, &["N", "2"])],
        vec![],
        vec![node("Frobnicate", &["x"], &["y"], vec![])],
    );
    for runtime in runtimes() {
        let inputs = one("x", Array::f32([1, 2], [1.0; 2]).unwrap());
        let result = runtime
            .load(&bytes(&file), &cpu())
            .and_then(|mut l| l.run(&inputs));
        let error = result.unwrap_err().to_string();
        println!("{error}");
        assert!(
            error.contains("Frobnicate") && error.contains("the.y"),
            "{error}"
        );
        assert!(error.len() < 700, "{error}");
    }
}

#[test]
fn runtimes_without_a_device_refuse_it() {
    for runtime in runtimes() {
        for device in ["cuda:0", "tensorrt:0", "coreml", "directml:0", "webgpu"] {
            let device: Device = device.parse().unwrap();
            let options = LoadOptions { device, ..cpu() };
            // No machine has all of them; where one is there, it must compute.
            let error = match runtime.load(&bytes(&mlp()), &options) {
                Ok(mut loaded) => {
                    let inputs = one("x", Array::f32([1, 2], [1.0; 2]).unwrap());
                    assert!(close(
                        loaded.run(&inputs).unwrap()["s"].as_f32().unwrap(),
                        &[3.5]
                    ));
                    continue;
                }
                Err(error) => error.to_string(),
            };
            println!("{error}");
            assert!(
                error.contains(runtime.id().name()) && error.contains(&device.to_string()),
                "{error}"
            );
        }
    }
}

#[test]
fn unknown_runtimes_are_errors_that_list_the_known() {
    let Err(error) = find(&"torch".into(), &Search::default()) else {
        panic!("there is no torch");
    };
    let error = error.to_string();
    assert!(
        RUNTIMES.iter().all(|id| error.contains(id.name())),
        "{error}"
    );
}

#[test]
fn threads_do_not_disturb_each_other() {
    let file = bytes(&mlp());
    std::thread::scope(|scope| {
        for thread in 0..4usize {
            let file = &file;
            scope.spawn(move || {
                for runtime in runtimes() {
                    let mut loaded = runtime.load(file, &cpu()).unwrap();
                    for n in 1..6 {
                        let x: Vec<f32> = (0..2 * n).map(|i| (i + thread) as f32 - 3.0).collect();
                        let (y, _) = expected(&x);
                        let outputs = loaded
                            .run(&one("x", Array::f32([n, 2], x).unwrap()))
                            .unwrap();
                        assert!(close(outputs["y"].as_f32().unwrap(), &y));
                    }
                }
            });
        }
    });
}

#[test]
fn loaded_files_move_between_threads() {
    for runtime in runtimes() {
        let mut loaded = runtime.load(&bytes(&mlp()), &cpu()).unwrap();
        let run = move || loaded.run(&one("x", Array::f32([1, 2], [1.0; 2]).unwrap()));
        assert!(std::thread::spawn(run).join().unwrap().is_ok());
    }
}

#[test]
fn benches_count_their_runs() {
    let options = BenchOptions {
        warm_up: 1,
        min_runs: 3,
        max_runs: 10,
        time: std::time::Duration::ZERO,
    };
    for runtime in runtimes() {
        let mut loaded = runtime.load(&bytes(&mlp()), &cpu()).unwrap();
        let inputs = example_inputs(loaded.inputs(), 4, 1).unwrap();
        let figures = bench(loaded.as_mut(), &inputs, &options).unwrap();
        assert_eq!(figures.runs, 3);
        assert!(0.0 < figures.ms_min && figures.ms_min <= figures.ms_median);
        assert!(bench(loaded.as_mut(), &Tensors::new(), &options).is_err());
    }
}

/// Figures for people: `cargo test -p zoo-runtimes --release -- --ignored --nocapture figures`.
#[test]
#[ignore = "measures, checks nothing"]
fn figures() {
    let files = [("mlp", wide_mlp()), ("generator", generator())];
    for (name, file) in files {
        for runtime in runtimes() {
            let options = LoadOptions {
                threads: 1,
                ..cpu()
            };
            let mut loaded = runtime.load(&bytes(&file), &options).unwrap();
            for n in [1, 16, 64] {
                let inputs = example_inputs(loaded.inputs(), n, 1).unwrap();
                let first = std::time::Instant::now();
                if let Err(error) = loaded.run(&inputs) {
                    println!("{name} {error}");
                    break;
                }
                let first = first.elapsed().as_secs_f64() * 1e3;
                let figures = bench(loaded.as_mut(), &inputs, &BenchOptions::default()).unwrap();
                let (runtime, median) = (runtime.id(), figures.ms_median);
                println!("{name} {runtime} n={n}: median {median:.3} ms, first run {first:.1} ms");
            }
        }
    }
}
