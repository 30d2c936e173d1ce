//! Independent pixels: p(x) = prod_i p_i^x_i (1 - p_i)^(1 - x_i), with p = sigmoid(logit), learned by gradient descent.
//!
//! It shows what a plugin without zoo-nn does itself: settings, batches, checkpoints, graphs. Its gradients come from candle
//! 0.10, while the host has another version: nothing of candle crosses the boundary, so neither sees the other.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor, Var};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value as Json, json};
use zoo_graph::{Attribute, Graph, Initializer, Node, ValueType};
use zoo_sdk::{
    schema::Schema,
    Array, Checkpoint, Context, Control, DType, DataSpec, Dataset, Description, Dim, Elements,
    Error, EvaluateRequest, Event, GraphInfo, LossTerm, Metrics, OpenRequest, Paper, Plugin, Port,
    Result, Session, Split, StateRecord, StopReason, Stream, Tensors, TrainReport, TrainRequest,
};

zoo_sdk::export_plugin!(vec![Box::new(Bernoulli)]);

const NAME: &str = "bernoulli";
const VERSION: &str = "1";
const LOGIT: &str = "logit";

/// Settings of the model.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    /// Standard deviation of the logits at the start.
    spread: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self { spread: 0.1 }
    }
}

/// Settings of the training.
#[derive(Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Training {
    steps: Option<u64>,
    epochs: Option<u64>,
    max_seconds: Option<f64>,
    batch: usize,
    learning_rate: f64,
    checkpoint_every: u64,
    sample_every: u64,
    evaluate_every: u64,
}

impl Default for Training {
    fn default() -> Self {
        Self {
            steps: None,
            epochs: Some(3),
            max_seconds: None,
            batch: 64,
            learning_rate: 20.0,
            checkpoint_every: 200,
            sample_every: 200,
            evaluate_every: 200,
        }
    }
}

/// Settings that fit their schema.
fn settings<T: DeserializeOwned>(table: &str, json: &Json, schema: &Json) -> Result<T> {
    let fitting = Schema::new(schema).check_table(table, json)?;
    serde_json::from_value(fitting).map_err(|e| Error::input(format!("{table} settings: {e}")))
}

fn candle(error: candle_core::Error) -> Error {
    Error::Internal(error.to_string())
}

/// Image `index` with values in [0, 1], into `out`.
fn copy_image(split: &Split<'_>, index: usize, out: &mut [f32]) {
    let range = index * out.len()..(index + 1) * out.len();
    match split.images.elements {
        Elements::U8(values) => {
            for (to, from) in out.iter_mut().zip(&values[range]) {
                *to = f32::from(*from) / 255.0;
            }
        }
        Elements::F32(values) => out.copy_from_slice(&values[range]),
    }
}

/// -log p(x) in nats, a mean over the rows of x (N,D), from logits (D).
fn loss(logit: &Tensor, x: &Tensor) -> candle_core::Result<Tensor> {
    let logits = logit.broadcast_as(x.shape())?; // (N,D)
    // log(1 + e^l) - x l, without overflow
    let positive = logits.relu()?;
    let softplus = (logits.abs()?.neg()?.exp()? + 1.0)?.log()?.add(&positive)?;
    (softplus - x.mul(&logits)?)?.sum(1)?.mean(0)
}

/// The model.
struct Bernoulli;

impl Plugin for Bernoulli {
    fn describe(&self) -> Description {
        let number = |text: &str| json!({"type": "number", "description": text});
        let count =
            |text: &str| json!({"type": ["integer", "null"], "minimum": 0, "description": text});
        let model_schema = json!({"type": "object", "properties": {
            "spread": number("standard deviation of the logits at the start"),
        }});
        let train_schema = json!({"type": "object", "properties": {
            "steps": count("updates in all"),
            "epochs": count("passes over the data, where steps is not given"),
            "max_seconds": {"type": ["number", "null"], "description": "stop after this time"},
            "batch": {"type": "integer", "minimum": 1, "description": "images in a step"},
            "learning_rate": number("step size of gradient descent"),
            "checkpoint_every": count("steps between checkpoints"),
            "sample_every": count("steps between pictures"),
            "evaluate_every": count("steps between measurements"),
        }});
        Description {
            name: NAME.into(),
            summary: "Independent pixels, each black or white with a learned probability".into(),
            family: "independent".into(),
            density: "tractable".into(),
            paper: Paper {
                title: "Pattern Recognition and Machine Learning, section 9.3.3".into(),
                authors: "Bishop".into(),
                year: 2006,
                url: "https://www.microsoft.com/en-us/research/publication/pattern-recognition-machine-learning/".into(),
            },
            version: VERSION.into(),
            graphs: BTreeMap::from([
                ("sample".into(), "images from uniform noise".into()),
                ("log_prob".into(), "log p(x) in nats".into()),
            ]),
            best_metric: Some(("nll_nats".into(), false)),
            model_schema,
            train_schema,
            defaults: json!({"model": Config::default(), "data": {}, "train": Training::default()}),
            // What later versions of zoo-sdk add, and signatures, which are only for people.
            ..Description::default()
        }
    }

    fn train(
        &self,
        request: &TrainRequest,
        data: &Dataset<'_>,
        cx: &mut dyn Context,
    ) -> Result<TrainReport> {
        let start = std::time::Instant::now();
        let schemas = self.describe();
        let config: Config = settings("model", &request.model, &schemas.model_schema)?;
        let training: Training = settings("train", &request.train, &schemas.train_schema)?;
        if data.train.is_empty() {
            return Err(Error::input("there are no training images"));
        }
        let pixels = data.spec.pixels();
        let mut state = StateRecord {
            seed: request.seed,
            model: (NAME.into(), VERSION.into()),
            config: request.model.clone(),
            ..StateRecord::default()
        };
        let initial: Vec<f32> = match (&request.resume, &request.init_from) {
            (Some(checkpoint), _) => {
                state = checkpoint.state.clone();
                logits(&checkpoint.model, data.spec)?.as_f32()?.to_vec()
            }
            (None, Some(weights)) => logits(weights, data.spec)?.as_f32()?.to_vec(),
            (None, None) => {
                let noise = Stream::new(request.seed).named(LOGIT).normal(pixels);
                noise.iter().map(|x| x * config.spread as f32).collect()
            }
        };
        let logit = Tensor::from_vec(initial, pixels, &Device::Cpu).map_err(candle)?;
        let logit = Var::from_tensor(&logit).map_err(candle)?;
        let per_epoch = data.train.len().div_ceil(training.batch) as u64;
        let steps = training.steps.or(training.epochs.map(|e| e * per_epoch));
        cx.progress(&Event::Started {
            step: state.step,
            steps,
            steps_per_epoch: per_epoch,
            parameters: pixels as u64,
        });
        let shuffle = Stream::new(request.seed).named("shuffle");
        let mut reason = StopReason::Finished;
        while steps.is_none_or(|steps| state.step < steps) {
            if training
                .max_seconds
                .is_some_and(|most| start.elapsed().as_secs_f64() >= most)
            {
                reason = StopReason::TimeLimit;
                break;
            }
            let (epoch, place) = (state.step / per_epoch, (state.step % per_epoch) as usize);
            // The order of an epoch follows from its number: a resumed training needs no more than the step.
            let order = shuffle.at(epoch).permutation(data.train.len());
            let batch = &order[place * training.batch..];
            let batch = &batch[..batch.len().min(training.batch)];
            let mut x = vec![0.0; batch.len() * pixels];
            for (out, &index) in x.chunks_mut(pixels).zip(batch) {
                copy_image(&data.train, index, out);
            }
            let x = Tensor::from_vec(x, (batch.len(), pixels), &Device::Cpu).map_err(candle)?;
            let (value, gradient) = (|| {
                let loss = loss(&logit, &x)?;
                let gradients = loss.backward()?;
                let gradient = gradients.get(logit.as_tensor());
                let gradient = gradient.ok_or_else(|| candle_core::Error::msg("no gradient"))?;
                logit.set(&logit.sub(&(gradient * (training.learning_rate / pixels as f64))?)?)?;
                let norm = gradient.sqr()?.sum_all()?.to_scalar::<f32>()?.sqrt();
                candle_core::Result::Ok((loss.to_scalar::<f32>()?, norm))
            })()
            .map_err(candle)?;
            state.step += 1;
            state.images += batch.len() as u64;
            if !value.is_finite() {
                return Err(Error::Diverged(format!(
                    "step {}: the loss is {value}",
                    state.step
                )));
            }
            let mut go_on = cx.progress(&Event::Step {
                step: state.step,
                epoch: state.step as f64 / per_epoch as f64,
                losses: vec![LossTerm {
                    name: "nll".into(),
                    value: f64::from(value),
                }],
                learning_rate: training.learning_rate,
                gradient_norm: f64::from(gradient),
                images_per_s: state.images as f64 / start.elapsed().as_secs_f64().max(1e-9),
            });
            let due = |every: u64| every > 0 && state.step.is_multiple_of(every);
            let weights = self::weights(&logit, data.spec)?;
            state.metrics.clear();
            if let (true, Some(valid)) = (due(training.evaluate_every), &data.valid) {
                let logit = weights[LOGIT].as_f32()?;
                state.metrics = metrics(logit, valid)?;
                let event = Event::Metrics {
                    step: state.step,
                    metrics: state.metrics.clone(),
                };
                if cx.progress(&event) == Control::Cancelled {
                    go_on = Control::Cancelled;
                }
            }
            if due(training.sample_every) {
                let [c, h, w] = data.spec.image;
                let noise = Stream::new(request.seed)
                    .named("pictures")
                    .uniform(16 * pixels);
                let noise = Array::f32([16, c, h, w], noise)?;
                cx.images(
                    state.step,
                    "samples",
                    &draw(weights[LOGIT].as_f32()?, &noise)?,
                )?;
            }
            let last = go_on == Control::Cancelled || steps == Some(state.step);
            if last || due(training.checkpoint_every) {
                cx.checkpoint(&checkpoint(&state, weights))?;
            }
            if go_on == Control::Cancelled {
                reason = StopReason::Cancelled;
                break;
            }
        }
        if reason == StopReason::TimeLimit {
            cx.checkpoint(&checkpoint(&state, self::weights(&logit, data.spec)?))?;
        }
        Ok(TrainReport {
            reason,
            step: state.step,
            seconds: start.elapsed().as_secs_f64(),
        })
    }

    fn open(&self, request: &OpenRequest) -> Result<Box<dyn Session>> {
        settings::<Config>("model", &request.model, &self.describe().model_schema)?;
        Ok(Box::new(Opened {
            logit: logits(&request.weights, &request.data)?.as_f32()?.to_vec(),
            image: request.data.image,
        }))
    }
}

fn checkpoint(state: &StateRecord, model: Tensors) -> Checkpoint {
    Checkpoint {
        step: state.step,
        model,
        state: state.clone(),
        ..Checkpoint::default()
    }
}

fn weights(logit: &Var, data: &DataSpec) -> Result<Tensors> {
    let values = logit.to_vec1::<f32>().map_err(candle)?;
    Ok(Tensors::from([(
        LOGIT.into(),
        Array::f32(data.image, values)?,
    )]))
}

/// The one weight, and no other.
fn logits<'a>(weights: &'a Tensors, data: &DataSpec) -> Result<&'a Array> {
    if let Some(extra) = weights.keys().find(|name| *name != LOGIT) {
        return Err(Error::input(format!(
            "the weight {extra:?} belongs nowhere"
        )));
    }
    let logit = weights
        .get(LOGIT)
        .ok_or_else(|| Error::input(format!("the weight {LOGIT:?} is missing")))?;
    if logit.dtype() != DType::F32 || logit.shape() != data.image {
        return Err(Error::input(format!(
            "the weight {LOGIT:?} is {logit:?}, not f32{:?}",
            data.image
        )));
    }
    Ok(logit)
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// noise (N,C,H,W) < p: (N,C,H,W)
fn draw(logit: &[f32], noise: &Array) -> Result<Array> {
    let probabilities: Vec<f32> = logit.iter().map(|&l| sigmoid(l)).collect();
    let pairs = noise.as_f32()?.iter().zip(probabilities.iter().cycle());
    let drawn: Vec<f32> = pairs.map(|(n, p)| f32::from(n < p)).collect();
    Ok(Array::f32(noise.shape(), drawn)?)
}

/// log p(x) = sum x l - log(1 + e^l)
fn log_prob(logit: &[f32], x: &[f32]) -> f64 {
    let one = |(x, l): (&f32, &f32)| {
        let (x, l) = (f64::from(*x), f64::from(*l));
        x * l - l.max(0.0) - (-l.abs()).exp().ln_1p()
    };
    x.iter().zip(logit).map(one).sum()
}

fn metrics(logit: &[f32], data: &Split<'_>) -> Result<Metrics> {
    if data.is_empty() {
        return Err(Error::input("there are no images to measure"));
    }
    let (mut x, mut sum) = (vec![0.0; logit.len()], 0.0);
    for index in 0..data.len() {
        copy_image(data, index, &mut x);
        sum -= log_prob(logit, &x);
    }
    let nll = sum / data.len() as f64;
    Ok(Metrics::from([
        ("nll_nats".into(), nll),
        (
            "bits_per_dim".into(),
            nll / logit.len() as f64 / std::f64::consts::LN_2,
        ),
    ]))
}

/// Trained weights.
struct Opened {
    logit: Vec<f32>,
    image: [usize; 3],
}

impl Opened {
    fn info(&self, graph: &str) -> Result<GraphInfo> {
        let graphs = self.graphs()?;
        let found = graphs.into_iter().find(|info| info.name == graph);
        found.ok_or_else(|| Error::input(format!("there is no graph {graph:?}: sample, log_prob")))
    }
}

impl Session for Opened {
    fn graphs(&self) -> Result<Vec<GraphInfo>> {
        let mut log_prob = Port::batched("log_prob", &[]);
        log_prob.range = Some([-1e30, 0.0]);
        Ok(vec![
            GraphInfo {
                name: "sample".into(),
                doc: "images from uniform noise".into(),
                inputs: vec![Port::uniform("noise", &self.image)],
                outputs: vec![Port::image("x", self.image)],
            },
            GraphInfo {
                name: "log_prob".into(),
                doc: "log p(x) in nats".into(),
                inputs: vec![Port::image("x", self.image)],
                outputs: vec![log_prob],
            },
        ])
    }

    fn run(&self, graph: &str, inputs: &Tensors) -> Result<Tensors> {
        let info = self.info(graph)?;
        let port = &info.inputs[0];
        if let Some(extra) = inputs.keys().find(|name| **name != port.name) {
            return Err(Error::input(format!(
                "graph {graph:?} has no input {extra:?}"
            )));
        }
        let input = inputs
            .get(&port.name)
            .ok_or_else(|| Error::input(format!("graph {graph:?} needs {:?}", port.name)))?;
        let n = input.shape().first().copied().unwrap_or(0);
        if n == 0
            || input.dtype() != port.dtype
            || port.shape_at(n).as_deref() != Some(input.shape())
        {
            return Err(Error::input(format!(
                "input {:?} must be {}, not {input:?}",
                port.name,
                port.value_type()
            )));
        }
        let output = if graph == "sample" {
            draw(&self.logit, input)?
        } else {
            let rows = input.as_f32()?.chunks(self.logit.len());
            let values: Vec<f32> = rows.map(|x| log_prob(&self.logit, x) as f32).collect();
            Array::f32([n], values)?
        };
        Ok(Tensors::from([(info.outputs[0].name.clone(), output)]))
    }

    fn evaluate(
        &self,
        _: &EvaluateRequest,
        data: &Split<'_>,
        _: &mut dyn Context,
    ) -> Result<Metrics> {
        metrics(&self.logit, data)
    }

    fn export(&self, graph: &str) -> Result<Graph> {
        let GraphInfo {
            name,
            inputs,
            outputs,
            ..
        } = self.info(graph)?;
        let mut recorder = Recorder {
            graph: Graph {
                name,
                inputs,
                outputs,
                ..Graph::default()
            },
        };
        for port in recorder.graph.inputs.clone() {
            recorder
                .graph
                .types
                .insert(port.name.clone(), port.value_type());
        }
        let pixels = self.logit.len();
        let batch = Dim::batch();
        if graph == "sample" {
            let p: Vec<f32> = self.logit.iter().map(|&l| sigmoid(l)).collect();
            recorder.weight("probability", Array::f32(self.image, p)?);
            let mut image = vec![batch];
            image.extend(self.image.map(Dim::from));
            recorder.node(
                "less",
                "Less",
                &["noise", "probability"],
                DType::Bool,
                image.clone(),
                [],
            );
            let to_f32 = [("to".to_owned(), Attribute::Int(1))];
            recorder.node("x", "Cast", &["less"], DType::F32, image, to_f32);
        } else {
            let softplus = |l: &f32| f64::from(l.max(0.0)) + f64::from(-l.abs()).exp().ln_1p();
            let constant: f64 = self.logit.iter().map(softplus).sum();
            recorder.weight(LOGIT, Array::f32([pixels, 1], self.logit.clone())?);
            recorder.weight("constant", Array::f32([1], [-constant as f32])?);
            recorder.weight("rows", Array::i64([2], [-1, pixels as i64])?);
            recorder.weight("flat", Array::i64([1], [-1])?);
            let f32 = DType::F32;
            recorder.node(
                "row",
                "Reshape",
                &["x", "rows"],
                f32,
                vec![batch.clone(), pixels.into()],
                [],
            );
            recorder.node(
                "product",
                "MatMul",
                &["row", LOGIT],
                f32,
                vec![batch.clone(), 1.into()],
                [],
            );
            recorder.node(
                "sum",
                "Reshape",
                &["product", "flat"],
                f32,
                vec![batch.clone()],
                [],
            );
            recorder.node(
                "log_prob",
                "Add",
                &["sum", "constant"],
                f32,
                vec![batch],
                [],
            );
        }
        Ok(recorder.graph)
    }
}

/// Writes a graph down.
struct Recorder {
    graph: Graph,
}

impl Recorder {
    fn weight(&mut self, name: &str, value: Array) {
        let shape = value.shape().iter().map(|&d| Dim::from(d)).collect();
        let dtype = value.dtype();
        self.graph
            .types
            .insert(name.into(), ValueType { dtype, shape });
        self.graph.initializers.push(Initializer {
            name: name.into(),
            value,
        });
    }

    fn node<const N: usize>(
        &mut self,
        output: &str,
        op: &str,
        inputs: &[&str],
        dtype: DType,
        shape: Vec<Dim>,
        attributes: [(String, Attribute); N],
    ) {
        self.graph
            .types
            .insert(output.into(), ValueType { dtype, shape });
        self.graph.nodes.push(Node {
            name: output.into(),
            op: op.into(),
            inputs: inputs.iter().map(|name| name.to_string()).collect(),
            outputs: vec![output.into()],
            attributes: attributes.into(),
            origin: None,
        });
    }
}
