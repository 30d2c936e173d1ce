//! Loops over lists that are part of the file, such as the times of a flow, on every runtime.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // Helpers of tests may do what tests may.

#[path = "common/available.rs"]
mod available;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use available::runtimes;
use zoo_graph::{Array, Attribute, DType, Dim, Graph, Initializer, Node, Port, ValueType};
use zoo_onnx::{Options, Variant, export};
use zoo_runtimes::{LoadOptions, Loaded, Runtime, RuntimeId, load, load_within};
use zoo_sdk::Tensors;

/// Preparing and running one file takes no longer, with much to spare.
const DEADLINE: Duration = Duration::from_secs(60);

/// Features of the state, and hidden ones.
const WIDTH: usize = 8;
const HIDDEN: usize = 16;

/// A graph under construction.
#[derive(Default)]
struct Net(Graph);

impl Net {
    fn input(&mut self, port: Port) -> String {
        self.0.types.insert(port.name.clone(), port.value_type());
        self.0.inputs.push(port.clone());
        port.name
    }

    fn constant(&mut self, name: &str, value: Array) -> String {
        let shape = value.shape().iter().map(|&d| d.into()).collect();
        let dtype = value.dtype();
        self.0.types.insert(name.into(), ValueType { dtype, shape });
        let name = name.to_owned();
        self.0.initializers.push(Initializer {
            name: name.clone(),
            value,
        });
        name
    }

    fn weight(&mut self, name: &str, shape: &[usize]) -> String {
        self.constant(name, weight(name, shape))
    }

    fn list(&mut self, name: &str, values: &[i64]) -> String {
        self.constant(name, Array::i64([values.len()], values).unwrap())
    }

    fn typed(
        &mut self,
        name: &str,
        op: &str,
        inputs: &[&str],
        shape: &[Dim],
        with: Attributes,
    ) -> String {
        let ty = ValueType {
            dtype: DType::F32,
            shape: shape.to_vec(),
        };
        self.0.types.insert(name.into(), ty);
        self.0.nodes.push(Node {
            name: name.into(),
            op: op.into(),
            inputs: inputs.iter().map(|&i| i.into()).collect(),
            outputs: vec![name.into()],
            attributes: with,
            origin: None,
        });
        name.into()
    }

    /// A node that gives one fixed shape.
    fn node(&mut self, name: &str, op: &str, inputs: &[&str], shape: &[usize]) -> String {
        let shape: Vec<Dim> = shape.iter().map(|&d| d.into()).collect();
        self.typed(name, op, inputs, &shape, Attributes::new())
    }

    /// A node that gives a shape after the batch.
    fn batched(&mut self, name: &str, op: &str, inputs: &[&str], shape: &[usize]) -> String {
        let port = Port::batched("", shape);
        self.typed(name, op, inputs, &port.shape, Attributes::new())
    }

    /// Sine and cosine side by side along `axis`.
    fn waves(&mut self, angles: &str, shape: &[usize], axis: usize) -> String {
        let sine = self.node("sine", "Sin", &[angles], shape);
        let cosine = self.node("cosine", "Cos", &[angles], shape);
        let along = Attributes::from([("axis".into(), Attribute::Int(axis as i64))]);
        let mut shape: Vec<Dim> = shape.iter().map(|&d| d.into()).collect();
        shape[axis] = HIDDEN.into();
        self.typed("waves", "Concat", &[&sine, &cosine], &shape, along)
    }

    fn output(&mut self, name: &str) {
        let ty = self.0.types[name].clone();
        self.0.outputs.push(Port::new(name, ty.dtype, ty.shape));
    }
}

type Attributes = BTreeMap<String, Attribute>;

/// Small numbers that follow from a name.
fn weight(name: &str, shape: &[usize]) -> Array {
    let seed: usize = name.bytes().map(usize::from).sum();
    let count: usize = shape.iter().product();
    let values = (0..count).map(|i| ((i * 37 + seed * 11) % 23) as f32 / 46.0 - 0.24);
    Array::f32(shape, values.collect::<Vec<_>>()).unwrap()
}

fn times(weights: &Array, x: &[f64]) -> Vec<f64> {
    let (values, columns) = (weights.to_f64(), weights.shape()[1]);
    let sum = |c: usize| {
        x.iter()
            .enumerate()
            .map(|(r, x)| x * values[r * columns + c])
            .sum()
    };
    (0..columns).map(sum).collect()
}

/// How far a step goes.
fn pace(steps: usize) -> Array {
    Array::f32([], [2.0 / steps as f32]).unwrap()
}

/// What the steps of a loop are given, from a list that is part of the file.
#[derive(Clone, Copy, Debug)]
enum Given {
    /// A vector, which a layer of its own projects: `table` (steps,8).
    Vector,
    /// A number, of which sine and cosine are taken: `table` (steps).
    Time,
    /// The same, of a list of one: `table` (steps,1).
    ListedTime,
    /// The same, of a row of one: `table` (steps,1,1).
    RowTime,
    /// A row that is laid out for each image as sine and cosine: `table` (steps,1).
    WideTime,
    /// A number of each image, of which sine and cosine are taken: an input `u` (N,steps).
    Noise,
    /// What is added to the state as it is: `table` (steps,1,8).
    Shift,
    /// A number that only scales: `table` (steps).
    Scale,
}

const GIVEN: [Given; 8] = [
    Given::Vector,
    Given::Time,
    Given::ListedTime,
    Given::RowTime,
    Given::WideTime,
    Given::Noise,
    Given::Shift,
    Given::Scale,
];

impl Given {
    /// What all steps are given, for one image.
    fn table(self, steps: usize) -> Array {
        let vector = |shape: &[usize]| weight("table", shape);
        match self {
            Self::Vector => vector(&[steps, WIDTH]),
            Self::Shift => vector(&[steps, 1, WIDTH]),
            Self::Noise => vector(&[steps]),
            Self::Time | Self::ListedTime | Self::RowTime | Self::WideTime | Self::Scale => {
                let values = (0..steps).map(|t| (t as f32 + 0.5) / steps as f32);
                let shape = match self {
                    Self::ListedTime | Self::WideTime => vec![steps, 1],
                    Self::RowTime => vec![steps, 1, 1],
                    _ => vec![steps],
                };
                Array::f32(shape, values.collect::<Vec<_>>()).unwrap()
            }
        }
    }

    /// Writes what a step adds to the hidden features, (1,16) or (N,16), or to the state.
    fn embed(self, net: &mut Net, slice: &str) -> Option<String> {
        match self {
            Self::Vector => {
                let axis = net.list("front", &[0]);
                let row = net.node("row", "Unsqueeze", &[slice, &axis], &[1, WIDTH]);
                let weights = net.weight("embed.weight", &[WIDTH, HIDDEN]);
                let bias = net.weight("embed.bias", &[HIDDEN]);
                Some(net.node("embedded", "Gemm", &[&row, &weights, &bias], &[1, HIDDEN]))
            }
            Self::Time | Self::ListedTime => {
                let rates = net.weight("rates", &[WIDTH]);
                let angles = net.node("angles", "Mul", &[slice, &rates], &[WIDTH]);
                let both = net.waves(&angles, &[WIDTH], 0);
                let shape = net.list("one_row", &[1, HIDDEN as i64]);
                Some(net.node("wave", "Reshape", &[&both, &shape], &[1, HIDDEN]))
            }
            Self::RowTime => {
                let rates = net.constant(
                    "rates",
                    weight("rates", &[WIDTH]).reshaped([1, WIDTH]).unwrap(),
                );
                let angles = net.node("angles", "MatMul", &[slice, &rates], &[1, WIDTH]);
                Some(net.waves(&angles, &[1, WIDTH], 1))
            }
            Self::WideTime => {
                let axis = net.list("front", &[0]);
                let row = net.node("row", "Unsqueeze", &[slice, &axis], &[1, 1]);
                let rates = net.weight("rates", &[WIDTH]);
                let angles = net.node("angles", "Mul", &[&row, &rates], &[1, WIDTH]);
                Some(net.waves(&angles, &[1, WIDTH], 1))
            }
            Self::Noise => {
                let axis = net.list("behind", &[1]);
                let column = net.batched("column", "Unsqueeze", &[slice, &axis], &[1]);
                let rates = net.weight("rates", &[WIDTH]);
                let angles = net.batched("angles", "Mul", &[&column, &rates], &[WIDTH]);
                let sine = net.batched("sine", "Sin", &[&angles], &[WIDTH]);
                let cosine = net.batched("cosine", "Cos", &[&angles], &[WIDTH]);
                let along = Attributes::from([("axis".into(), Attribute::Int(1))]);
                let shape = Port::batched("", &[HIDDEN]).shape;
                Some(net.typed("waves", "Concat", &[&sine, &cosine], &shape, along))
            }
            Self::Shift | Self::Scale => None,
        }
    }

    /// A network that moves its state a step for each entry of the table: an Euler integration in small.
    fn graph(self, steps: usize) -> Graph {
        let mut body = Net::default();
        body.0.name = "step".into();
        let state = body.input(Port::batched("state", &[WIDTH]));
        let table = self.table(steps);
        let shape: Vec<Dim> = match self {
            Self::Noise => vec![Dim::batch()],
            _ => table.shape()[1..].iter().map(|&d| d.into()).collect(),
        };
        let slice = body.input(Port::new("slice", DType::F32, shape));
        let seen = match self {
            Self::Shift => body.batched("shifted", "Add", &[&state, &slice], &[WIDTH]),
            _ => state.clone(),
        };
        let first = [
            body.weight("fc1.weight", &[WIDTH, HIDDEN]),
            body.weight("fc1.bias", &[HIDDEN]),
        ];
        let mut hidden = body.batched("hidden", "Gemm", &[&seen, &first[0], &first[1]], &[HIDDEN]);
        if let Some(embedded) = self.embed(&mut body, &slice) {
            hidden = body.batched("conditioned", "Add", &[&hidden, &embedded], &[HIDDEN]);
        }
        hidden = body.batched("active", "Tanh", &[&hidden], &[HIDDEN]);
        let last = [
            body.weight("fc2.weight", &[HIDDEN, WIDTH]),
            body.weight("fc2.bias", &[WIDTH]),
        ];
        let mut speed = body.batched("speed", "Gemm", &[&hidden, &last[0], &last[1]], &[WIDTH]);
        // The state moves as far in many steps as in few.
        let pace = body.constant("pace", pace(steps));
        speed = body.batched("paced", "Mul", &[&speed, &pace], &[WIDTH]);
        if let Self::Scale = self {
            speed = body.batched("scaled", "Mul", &[&speed, &slice], &[WIDTH]);
        }
        let next = body.batched("next", "Add", &[&state, &speed], &[WIDTH]);
        let seen = body.batched("seen", "Tanh", &[&next], &[WIDTH]);
        body.output(&next);
        body.output(&seen);

        let mut net = Net::default();
        net.0.name = "flow".into();
        let x = net.input(Port::normal("x", &[WIDTH]));
        let (table, axis) = match self {
            Self::Noise => (net.input(Port::normal("u", &[steps])), 1),
            _ => (net.constant("table", table), 0),
        };
        let path = [Dim::batch(), steps.into(), WIDTH.into()];
        let with = Attributes::from([
            ("body".into(), Attribute::Graph(Box::new(body.0))),
            ("num_scan_inputs".into(), Attribute::Int(1)),
            ("scan_input_axes".into(), Attribute::Ints(vec![axis])),
            ("scan_output_axes".into(), Attribute::Ints(vec![1])),
        ]);
        net.batched("end", "Scan", &[&x, &table], &[WIDTH]);
        let ty = ValueType {
            dtype: DType::F32,
            shape: path.to_vec(),
        };
        net.0.types.insert("path".into(), ty);
        if let Some(scan) = net.0.nodes.last_mut() {
            scan.outputs.push("path".into());
            scan.attributes = with;
        }
        net.output("end");
        net.output("path");
        net.0.validate().unwrap();
        net.0
    }

    /// The graph by hand, for one image: the last state, and all that was seen.
    fn expected(self, steps: usize, x: &[f32]) -> (Vec<f64>, Vec<f64>) {
        let table = self.table(steps).to_f64();
        let width = table.len() / steps;
        let mut state: Vec<f64> = x.iter().map(|&v| v.into()).collect();
        let mut path = Vec::new();
        let plus =
            |a: &[f64], b: &[f64]| -> Vec<f64> { a.iter().zip(b).map(|(a, b)| a + b).collect() };
        let layer = |name: &str, x: &[f64], from: usize, to: usize| {
            let bias = weight(&format!("{name}.bias"), &[to]).to_f64();
            plus(
                &times(&weight(&format!("{name}.weight"), &[from, to]), x),
                &bias,
            )
        };
        for t in 0..steps {
            let slice = &table[t * width..(t + 1) * width];
            let seen = match self {
                Self::Shift => plus(&state, slice),
                _ => state.clone(),
            };
            let mut hidden = layer("fc1", &seen, WIDTH, HIDDEN);
            match self {
                Self::Vector => hidden = plus(&hidden, &layer("embed", slice, WIDTH, HIDDEN)),
                Self::Time | Self::ListedTime | Self::RowTime | Self::WideTime | Self::Noise => {
                    let angles = weight("rates", &[WIDTH]).to_f64();
                    let angles: Vec<f64> = angles.iter().map(|r| r * slice[0]).collect();
                    let waves = angles.iter().map(|a| a.sin());
                    let waves: Vec<f64> = waves.chain(angles.iter().map(|a| a.cos())).collect();
                    hidden = plus(&hidden, &waves);
                }
                Self::Shift | Self::Scale => {}
            }
            hidden.iter_mut().for_each(|v| *v = v.tanh());
            let mut speed = layer("fc2", &hidden, HIDDEN, WIDTH);
            let pace = pace(steps).to_f64()[0];
            speed.iter_mut().for_each(|v| *v *= pace);
            if let Self::Scale = self {
                speed.iter_mut().for_each(|v| *v *= slice[0]);
            }
            state = plus(&state, &speed);
            path.extend(state.iter().map(|v| v.tanh()));
        }
        (state, path)
    }
}

/// The runtimes, to be used on other threads too.
fn shared() -> Vec<Arc<dyn Runtime>> {
    runtimes().into_iter().map(Arc::from).collect()
}

/// A form of a graph on a runtime, each answer of which comes within the limit.
fn load_form(
    runtime: &Arc<dyn Runtime>,
    form: &Variant,
    limit: Duration,
) -> Result<Box<dyn Loaded>, String> {
    let (own, content) = (runtime.clone(), form.content.clone());
    let load = move || load(own.as_ref(), &content, &LoadOptions::default());
    load_within(&runtime.id(), limit, load).map_err(|e| e.to_string())
}

/// Runs a form at batch 1 and 3, against what was computed by hand.
fn check(
    runtime: &Arc<dyn Runtime>,
    form: &Variant,
    given: Given,
    steps: usize,
) -> Result<(), String> {
    let mut loaded = load_form(runtime, form, DEADLINE)?;
    for n in [1, 3] {
        let x = weight("x", &[n, WIDTH]);
        let mut inputs = Tensors::from([("x".to_string(), x.clone())]);
        if let Given::Noise = given {
            let table = given.table(steps);
            let all = table.as_f32().unwrap().repeat(n);
            inputs.insert("u".into(), Array::f32([n, steps], all).unwrap());
        }
        let outputs = loaded
            .run(&inputs)
            .map_err(|e| format!("at batch {n}: {e}"))?;
        for (i, row) in x.as_f32().unwrap().chunks(WIDTH).enumerate() {
            let (end, path) = given.expected(steps, row);
            for (name, expected) in [("end", end), ("path", path)] {
                let got = outputs[name].as_f32().map_err(|e| e.to_string())?;
                let got = &got[i * expected.len()..(i + 1) * expected.len()];
                for (k, (got, expected)) in got.iter().zip(expected).enumerate() {
                    let difference = (f64::from(*got) - expected).abs();
                    if difference.is_nan() || difference > 1e-5 + 1e-4 * expected.abs() {
                        return Err(format!("{name} {k} at batch {n}: {got} for {expected}"));
                    }
                }
            }
        }
    }
    Ok(())
}

#[test]
fn loops_over_lists_of_the_file_run_everywhere() {
    let mut failures = Vec::new();
    for given in GIVEN {
        for steps in [1, 2, 3, 15, 16, 32, 784] {
            let graph = given.graph(steps);
            let forms = export(&graph, &Options::default()).unwrap();
            for runtime in shared() {
                let serves = |form: &&Variant| form.serves(&runtime.id());
                let serving: Vec<_> = forms.iter().filter(serves).collect();
                assert!(!serving.is_empty(), "{} of {given:?}", runtime.id());
                for form in serving {
                    let start = Instant::now();
                    let done = check(&runtime, form, given, steps);
                    let file = form.file_name("flow");
                    let (runtime, took) = (runtime.id(), start.elapsed());
                    println!("{given:?}, {steps} steps, {file} on {runtime}: {took:.2?} {done:?}");
                    if let Err(error) = done {
                        failures.push(format!(
                            "{given:?}, {steps} steps, {file} on {runtime}: {error}"
                        ));
                    }
                }
            }
        }
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

/// An Euler integration whose number of steps is an input, or a number of the file: the time of a step is (t + 1/2) / steps.
fn repeated(steps: Option<usize>) -> Graph {
    let mut body = Net::default();
    body.0.name = "step".into();
    body.input(Port::new("t", DType::I64, []));
    body.input(Port::new("more", DType::Bool, []));
    body.input(Port::batched("state", &[WIDTH]));
    let boolean = ValueType {
        dtype: DType::Bool,
        shape: Vec::new(),
    };
    body.typed("on", "Identity", &["more"], &[], Attributes::new());
    body.0.types.insert("on".into(), boolean);
    let float = Attributes::from([("to".into(), Attribute::Int(1))]);
    body.typed("number", "Cast", &["t"], &[], float.clone());
    let half = body.constant("half", Array::f32([], [0.5]).unwrap());
    let middle = body.node("middle", "Add", &["number", &half], &[]);
    let time = body.node("time", "Mul", &[&middle, "pace"], &[]);
    let rates = body.weight("rates", &[WIDTH]);
    let angles = body.node("angles", "Mul", &[&time, &rates], &[WIDTH]);
    let sine = body.node("sine", "Sin", &[&angles], &[WIDTH]);
    let speed = body.batched("speed", "Sub", &[&sine, "state"], &[WIDTH]);
    let moved = body.batched("moved", "Mul", &[&speed, "pace"], &[WIDTH]);
    let next = body.batched("next", "Add", &["state", &moved], &[WIDTH]);
    body.output("on");
    body.output(&next);

    let mut net = Net::default();
    net.0.name = "flow".into();
    net.input(Port::normal("x", &[WIDTH]));
    match steps {
        None => net.input(Port::count("steps", 1, 100)),
        Some(steps) => net.constant("steps", Array::i64([], [steps as i64]).unwrap()),
    };
    net.typed("many", "Cast", &["steps"], &[], float);
    let one = net.constant("one", Array::f32([], [1.0]).unwrap());
    net.node("pace", "Div", &[&one, "many"], &[]);
    let with = Attributes::from([("body".into(), Attribute::Graph(Box::new(body.0)))]);
    let shape = Port::batched("", &[WIDTH]).shape;
    net.typed("end", "Loop", &["steps", "", "x"], &shape, with);
    net.0.nodes.last_mut().unwrap().origin = Some("scans.rs:7".into());
    net.output("end");
    net.0.validate().unwrap();
    net.0
}

/// What [`repeated`] computes: the state after each step.
fn states(x: &Array, steps: usize) -> Vec<Vec<f64>> {
    let (mut state, rates) = (x.to_f64(), weight("rates", &[WIDTH]).to_f64());
    let step = |t| {
        let time = (t as f64 + 0.5) / steps as f64;
        for (k, v) in state.iter_mut().enumerate() {
            *v += ((time * rates[k % WIDTH]).sin() - *v) / steps as f64;
        }
        state.clone()
    };
    (0..steps).map(step).collect()
}

#[test]
fn loops_run_as_often_as_an_input_says() {
    for fixed in [None, Some(12)] {
        let forms = export(&repeated(fixed), &Options::default()).unwrap();
        for runtime in shared() {
            let serves = |form: &&Variant| form.serves(&runtime.id());
            let serving: Vec<_> = forms.iter().filter(serves).collect();
            assert!(!serving.is_empty(), "{}", runtime.id());
            for form in serving {
                let mut loaded = load_form(&runtime, form, DEADLINE).unwrap();
                let counts = fixed.map_or(vec![1, 4, 20, 4], |steps| vec![steps]);
                for (steps, n) in counts.into_iter().zip([1, 3, 1, 2]) {
                    let x = weight("x", &[n, WIDTH]);
                    let mut inputs = Tensors::from([("x".to_string(), x.clone())]);
                    if fixed.is_none() {
                        let count = Array::i64([], [steps as i64]).unwrap();
                        inputs.insert("steps".into(), count);
                    }
                    let what = format!("{}, {steps} steps, batch {n}", runtime.id());
                    let outputs = loaded
                        .run(&inputs)
                        .unwrap_or_else(|e| panic!("{what}: {e}"));
                    let states = states(&x, steps);
                    let end = states.last().unwrap();
                    for (got, expected) in outputs["end"].to_f64().iter().zip(end) {
                        let off = (got - expected).abs();
                        assert!(off <= 1e-5, "{what}: {got} for {expected}");
                    }
                }
                // A number of steps that is none is refused by the host, and names the value.
                if fixed.is_none() && matches!(form.content, zoo_graph::Content::Steps { .. }) {
                    let count = Array::i64([], [-1]).unwrap();
                    let x = weight("x", &[1, WIDTH]);
                    let inputs = Tensors::from([("x".into(), x), ("steps".into(), count)]);
                    let error = loaded.run(&inputs).unwrap_err().to_string();
                    assert!(error.contains("\"steps\" says how often"), "{error}");
                }
            }
        }
    }
}

/// [`repeated`] a told number of times, with the states of all turns side by side, `path` (T,N,8), and their mean.
fn collected() -> Graph {
    let mut graph = repeated(None);
    let node = graph.nodes.last_mut().unwrap();
    let Some(Attribute::Graph(body)) = node.attributes.get_mut("body") else {
        unreachable!("a Loop has a body");
    };
    let mut copy = Net(std::mem::take(&mut **body));
    let seen = copy.batched("seen", "Identity", &["next"], &[WIDTH]);
    copy.output(&seen);
    **body = copy.0;
    node.outputs.push("path".into());
    let state = Port::batched("", &[WIDTH]).shape;
    let shape = [&["T".parse().unwrap()][..], &state].concat();
    let path = Port::new("path", DType::F32, shape);
    graph.types.insert("path".into(), path.value_type());
    let mut net = Net(graph);
    let over = [
        ("axes".into(), Attribute::Ints(vec![0])),
        ("keepdims".into(), Attribute::Int(0)),
    ];
    net.typed("mean", "ReduceMean", &["path"], &state, over.into());
    net.output("mean");
    net.0.validate().unwrap();
    net.0
}

#[test]
fn what_a_told_number_of_turns_gives_is_collected() {
    let graph = collected();
    // Not as an output itself: of how many turns it is, no port can say.
    let mut path = Net(graph.clone());
    path.output("path");
    let error = export(&path.0, &Options::default()).unwrap_err();
    let refused = "in value \"path\": the first dimension of a port must be the batch N";
    assert!(error.to_string().starts_with(refused), "{error}");
    let to = |target: RuntimeId| {
        let targets = vec![target];
        export(
            &graph,
            &Options {
                targets,
                ..Options::default()
            },
        )
    };
    let error = to(RuntimeId::Tract).unwrap_err().to_string();
    let refused =
        "a host passes on values whose first dimension is the batch, \"path\" is f32[T,N,8]";
    assert!(error.ends_with(refused), "{error}");
    let forms = to(RuntimeId::Ort).unwrap();
    for runtime in shared() {
        let serves = |form: &&Variant| form.serves(&runtime.id());
        for form in forms.iter().filter(serves) {
            let mut loaded = load_form(&runtime, form, DEADLINE).unwrap();
            for (steps, n) in [(1, 2), (5, 1), (12, 3)] {
                let x = weight("x", &[n, WIDTH]);
                let count = Array::i64([], [steps as i64]).unwrap();
                let inputs = Tensors::from([("x".into(), x.clone()), ("steps".into(), count)]);
                let what = format!("{:?} on {}, {steps} steps", form.suffix, runtime.id());
                let outputs = loaded
                    .run(&inputs)
                    .unwrap_or_else(|e| panic!("{what}: {e}"));
                let states = states(&x, steps);
                let sum = |k| states.iter().map(|state| state[k]).sum::<f64>();
                for (k, got) in outputs["mean"].to_f64().into_iter().enumerate() {
                    let expected = sum(k) / steps as f64;
                    let off = (got - expected).abs();
                    assert!(off <= 1e-5, "{what}: {got} for {expected}");
                }
            }
        }
    }
}

/// ort ends when it is asked to, and so does the host of step graphs. Both say where they were.
#[test]
fn a_loop_without_end_is_given_up() {
    let graph = repeated(None);
    let forms = export(&graph, &Options::default()).unwrap();
    for runtime in shared() {
        let name = runtime.id();
        for form in &forms {
            if !form.serves(&name) {
                continue;
            }
            let mut loaded = load_form(&runtime, form, Duration::from_secs(1)).unwrap();
            let with = |steps: i64| {
                let count = Array::i64([], [steps]).unwrap();
                Tensors::from([
                    ("x".into(), weight("x", &[1, WIDTH])),
                    ("steps".into(), count),
                ])
            };
            loaded.run(&with(3)).unwrap();
            let error = loaded.run(&with(1 << 62)).unwrap_err();
            let text = error.explained(|| Some(graph.clone()));
            println!("{text}");
            let head =
                format!("{name} did not compute at steps: i64[], x: f32[1,{WIDTH}] within 1s (");
            assert!(text.starts_with(&head), "{text}");
            assert!(
                text.ends_with("; it was in Loop \"end\" at scans.rs:7"),
                "{text}"
            );
            let error = loaded.run(&with(3)).unwrap_err().to_string();
            assert!(error.contains("given up in an earlier run"), "{error}");
        }
    }
}
