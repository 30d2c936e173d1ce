//! The model card: what a bundle is and how to run it, for people and for model hubs.

use std::fmt::{self, Write};

use zoo_graph::{DType, Distribution, GraphKind, Port, RuntimeId, trial_sizes};

use super::manifest::{GraphEntry, Manifest, STEPS};

/// What a card says beyond the manifest.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Card {
    /// The heading: `VAE on fashion-small`.
    pub title: String,
    /// The licence of the weights as hubs write it: `mit`, `apache-2.0`.
    pub licence: String,
    /// Further tags: `variational-autoencoder`.
    pub tags: Vec<String>,
    /// The paper: authors, year, title, address.
    pub paper: String,
    /// The picture's path in the bundle, where there is one.
    pub picture: Option<String>,
}

impl Card {
    /// `README.md` of a bundle.
    pub fn text(&self, manifest: &Manifest) -> String {
        let mut text = String::new();
        // Writing into a string cannot fail.
        let _ = self.write(&mut text, manifest);
        text
    }

    fn write(&self, out: &mut String, manifest: &Manifest) -> fmt::Result {
        self.head(out, manifest)?;
        writeln!(out, "# {}\n", self.title)?;
        if !manifest.summary.is_empty() {
            writeln!(out, "{}\n", manifest.summary)?;
        }
        let Manifest {
            model,
            version,
            seed,
            step,
            data,
            ..
        } = manifest;
        let [c, h, w] = data.image;
        write!(
            out,
            "Model `{model}` {version}, trained for {step} steps with seed {seed} on {} ({c}x{h}x{w}, binarisation `{}`",
            data.name, data.binarization
        )?;
        match &data.licence {
            Some(licence) => writeln!(out, ", {licence}).")?,
            None => writeln!(out, ").")?,
        }
        if !self.paper.is_empty() {
            writeln!(out, "\nPaper: {}", self.paper)?;
        }
        if let Some(picture) = &self.picture {
            writeln!(out, "\n![Samples]({picture})")?;
        }
        if !manifest.metrics.is_empty() {
            writeln!(out, "\n## Metrics\n\n| metric | value |\n|---|---|")?;
            for (name, value) in &manifest.metrics {
                // Counts have no decimals.
                match value.fract() == 0.0 && name.ends_with("images") {
                    true => writeln!(out, "| {name} | {value} |")?,
                    false => writeln!(out, "| {name} | {value:.4} |")?,
                }
            }
        }
        writeln!(
            out,
            "\n## Graphs\n\nONNX opset {}, IR {}; N is the batch, of any size.",
            manifest.opset, manifest.ir_version
        )?;
        for (name, graph) in &manifest.graphs {
            self.graph(out, name, graph)?;
        }
        if let Some((name, graph)) = example(manifest) {
            usage(out, name, graph)?;
        }
        proofs(out, manifest)
    }

    fn head(&self, out: &mut String, manifest: &Manifest) -> fmt::Result {
        writeln!(
            out,
            "---\nlicense: {}\nlibrary_name: onnx\npipeline_tag: unconditional-image-generation\ntags:",
            self.licence
        )?;
        let own = [manifest.model.as_str(), "onnx", "image-generation"];
        for (i, tag) in own
            .iter()
            .copied()
            .chain(self.tags.iter().map(String::as_str))
            .enumerate()
        {
            if i < own.len() || !own.contains(&tag) {
                writeln!(out, "- {tag}")?;
            }
        }
        writeln!(out, "---\n")
    }

    fn graph(&self, out: &mut String, name: &str, graph: &GraphEntry) -> fmt::Result {
        writeln!(
            out,
            "\n### {name}\n\n{}\n\n| port | name | type | values |\n|---|---|---|---|",
            graph.doc
        )?;
        let inputs = graph.inputs.iter().map(|p| ("in", p));
        for (side, port) in inputs.chain(graph.outputs.iter().map(|p| ("out", p))) {
            writeln!(
                out,
                "| {side} | `{}` | {} | {} |",
                port.name,
                port.value_type(),
                values(port)
            )?;
        }
        writeln!(out)?;
        for variant in &graph.variants {
            let runtimes = RuntimeId::list(&variant.runtimes);
            let how = match variant.driver.as_deref() {
                Some(STEPS) => {
                    ": files without loops, and what a host does with them (`zoo_runtimes::load` does)"
                }
                _ => "",
            };
            writeln!(out, "- `{}` for {runtimes}{how}", variant.file)?;
        }
        Ok(())
    }
}

/// What a port holds, in words.
fn values(port: &Port) -> String {
    let values = port.values().unwrap_or_else(|| "any".into());
    match &port.description {
        // It stands in a table, and behind the comments of examples.
        Some(text) => format!("{values}: {}", text.replace(['|', '\n'], " ")),
        None => values,
    }
}

/// The graph that the examples run: one that draws images from noise, else the first.
fn example(manifest: &Manifest) -> Option<(&String, &GraphEntry)> {
    let named = |wanted: GraphKind| {
        let mut graphs = manifest.graphs.iter();
        graphs.find(|(name, _)| *name == wanted.name())
    };
    named(GraphKind::Sample)
        .or_else(|| named(GraphKind::Decode))
        .or_else(|| manifest.graphs.iter().next())
}

fn usage(out: &mut String, name: &str, graph: &GraphEntry) -> fmt::Result {
    // The runtime alone runs a file, not what a host drives.
    let file_for = |runtime: RuntimeId| {
        let mut files = graph.variants.iter().filter(|v| v.driver.is_none());
        files.find(|v| v.serves(&runtime)).map(|v| v.file.as_str())
    };
    let sizes = trial_sizes(&graph.inputs, 1);
    let size = |port: &Port| port.shape_at(&sizes).unwrap_or_default();
    let list = |sizes: &[usize]| {
        sizes
            .iter()
            .map(usize::to_string)
            .collect::<Vec<_>>()
            .join(", ")
    };
    let tuple = |sizes: &[usize]| {
        sizes
            .iter()
            .map(|s| format!("{s},"))
            .collect::<Vec<_>>()
            .join(" ")
    };
    writeln!(out, "\n## Running `{name}`")?;
    let loops = graph.variants.iter().any(|v| v.driver.is_some());
    if let Some(file) = file_for(RuntimeId::Tract) {
        writeln!(
            out,
            "\nRust, with `tract-onnx`:\n\n```rust\nuse tract_onnx::prelude::*;\n"
        )?;
        writeln!(
            out,
            "let {}model = tract_onnx::onnx().model_for_path({file:?})?;",
            if loops { "" } else { "mut " }
        )?;
        // The sizes in the body of a loop cannot be fixed from outside.
        for (i, port) in graph.inputs.iter().enumerate().filter(|_| !loops) {
            let (sizes, ty) = (list(&size(port)), rust_type(port.dtype));
            writeln!(
                out,
                "model.set_input_fact({i}, {ty}::fact([{sizes}]).into())?; // {}",
                port.name
            )?;
        }
        writeln!(
            out,
            "let model = model.into_optimized()?.into_runnable()?;\nlet outputs = model.run(tvec!("
        )?;
        for port in &graph.inputs {
            let (sizes, ty) = (list(&size(port)), rust_type(port.dtype));
            writeln!(
                out,
                "    Tensor::zero::<{ty}>(&[{sizes}])?.into(), // {}: {}",
                port.name,
                values(port)
            )?;
        }
        writeln!(out, "))?;\n```")?;
    }
    if let Some(file) = file_for(RuntimeId::Ort) {
        writeln!(
            out,
            "\nPython, with `onnxruntime` and `numpy`:\n\n```python\nimport numpy as np, onnxruntime\n"
        )?;
        writeln!(
            out,
            "rng = np.random.default_rng(0)\nsession = onnxruntime.InferenceSession({file:?})"
        )?;
        writeln!(out, "outputs = session.run(None, {{")?;
        for port in &graph.inputs {
            let shape = tuple(&size(port));
            let draw = match (port.distribution, port.dtype) {
                (Some(Distribution::Normal), _) => {
                    format!("rng.standard_normal(({shape}), dtype=np.float32)")
                }
                (Some(Distribution::Uniform), _) => {
                    format!("rng.random(({shape}), dtype=np.float32)")
                }
                (None, dtype) => {
                    // The value nearest to 0 that the port takes.
                    let value = port.range.map_or(0.0, |[low, high]| low.max(high.min(0.0)));
                    let dtype = numpy_type(dtype);
                    match value == 0.0 {
                        true => format!("np.zeros(({shape}), dtype=np.{dtype})"),
                        false => format!("np.full(({shape}), {value}, dtype=np.{dtype})"),
                    }
                }
            };
            writeln!(out, "    {:?}: {draw},", port.name)?;
        }
        writeln!(out, "}})")?;
        for (i, port) in graph.outputs.iter().enumerate() {
            let (name, ty, values) = (&port.name, port.value_type(), values(port));
            writeln!(out, "outputs[{i}]  # {name}: {ty}, {values}")?;
        }
        writeln!(out, "```")?;
    }
    if let Some(file) = file_for(RuntimeId::Web) {
        writeln!(
            out,
            "\nThe web, with `onnxruntime-web`:\n\n```js\nimport * as ort from 'onnxruntime-web';\n"
        )?;
        writeln!(
            out,
            "const session = await ort.InferenceSession.create({file:?});\nconst outputs = await session.run({{"
        )?;
        for port in &graph.inputs {
            let (sizes, (kind, array)) = (size(port), js_type(port.dtype));
            let count: usize = sizes.iter().product();
            writeln!(
                out,
                "  {:?}: new ort.Tensor({kind:?}, new {array}({count}), [{}]), // {}",
                port.name,
                list(&sizes),
                values(port)
            )?;
        }
        writeln!(out, "}});\n```")?;
    }
    Ok(())
}

fn proofs(out: &mut String, manifest: &Manifest) -> fmt::Result {
    if manifest.proven.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "\n## What was proven\n\nEach graph was run before it was written, and compared with the network it was recorded from.\n"
    )?;
    writeln!(
        out,
        "| graph | file | runtime | batch | output | largest difference | |\n|---|---|---|---|---|---|---|"
    )?;
    for row in &manifest.proven {
        let difference = match (&row.error, row.max_abs) {
            (Some(error), _) => error.replace(['|', '\n'], " "),
            (None, Some(difference)) => format!("{difference:.1e}"),
            (None, None) => "not finite".into(),
        };
        let verdict = if row.ok { "ok" } else { "FAILED" };
        writeln!(
            out,
            "| {} | `{}` | {} | {} | {} | {difference} | {verdict} |",
            row.graph, row.variant, row.runtime, row.batch, row.output
        )?;
    }
    Ok(())
}

fn rust_type(dtype: DType) -> &'static str {
    match dtype {
        DType::F16 => "f16",
        other => other.name(),
    }
}

fn numpy_type(dtype: DType) -> &'static str {
    match dtype {
        DType::F32 => "float32",
        DType::F64 => "float64",
        DType::F16 => "float16",
        DType::I64 => "int64",
        DType::I32 => "int32",
        DType::U8 => "uint8",
        DType::Bool => "bool_",
    }
}

fn js_type(dtype: DType) -> (&'static str, &'static str) {
    match dtype {
        DType::F32 => ("float32", "Float32Array"),
        DType::F64 => ("float64", "Float64Array"),
        DType::F16 => ("float16", "Uint16Array"),
        DType::I64 => ("int64", "BigInt64Array"),
        DType::I32 => ("int32", "Int32Array"),
        DType::U8 => ("uint8", "Uint8Array"),
        DType::Bool => ("bool", "Uint8Array"),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::manifest::VariantEntry, *};

    /// The card of a model that draws in loops, whose forms serve these runtimes.
    fn text(forms: &[(&str, Option<&str>, RuntimeId)]) -> String {
        let variants = forms.iter().map(|(file, driver, runtime)| VariantEntry {
            file: (*file).into(),
            driver: driver.map(Into::into),
            runtimes: vec![runtime.clone()],
            ..VariantEntry::default()
        });
        let graph = GraphEntry {
            inputs: vec![Port::batched("noise", &[1, 2, 2])],
            variants: variants.collect(),
            ..GraphEntry::default()
        };
        Card::default().text(&Manifest {
            graphs: [("sample".to_owned(), graph)].into(),
            ..Manifest::default()
        })
    }

    #[test]
    fn examples_run_files_that_need_no_host() {
        let steps = ("onnx/sample.steps.json", Some(STEPS), RuntimeId::Tract);
        let flat = ("onnx/sample.tract.onnx", None, RuntimeId::Tract);
        let loops = ("onnx/sample.onnx", None, RuntimeId::Ort);
        let card = text(&[loops.clone(), steps.clone(), flat]);
        assert!(
            card.contains(r#"model_for_path("onnx/sample.tract.onnx")"#),
            "{card}"
        );
        assert!(
            card.contains(r#"InferenceSession("onnx/sample.onnx")"#),
            "{card}"
        );
        let card = text(&[loops, steps]);
        assert!(!card.contains("tract-onnx"), "{card}");
    }

    #[test]
    fn a_port_is_shown_with_its_bounds_and_what_it_means() {
        let time = Port::bounded("t", &[], [0.5, 2.0]).described("the time | or so");
        let graph = GraphEntry {
            inputs: vec![time, Port::bounded("u", &[], [-1.0, 1.0])],
            variants: vec![VariantEntry {
                file: "onnx/denoise.onnx".into(),
                runtimes: vec![RuntimeId::Ort],
                ..VariantEntry::default()
            }],
            ..GraphEntry::default()
        };
        let card = Card::default().text(&Manifest {
            graphs: [("denoise".to_owned(), graph)].into(),
            ..Manifest::default()
        });
        for line in [
            "| in | `t` | f32[N] | [0.5, 2]: the time   or so |",
            "| in | `u` | f32[N] | [-1, 1] |",
            r#"    "t": np.full((1,), 0.5, dtype=np.float32),"#,
            r#"    "u": np.zeros((1,), dtype=np.float32),"#,
        ] {
            assert!(card.contains(line), "{line}\n{card}");
        }
    }
}
