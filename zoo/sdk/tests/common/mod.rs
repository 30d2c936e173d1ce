//! Building `hostile.c`, and calling what it became.
#![allow(clippy::unwrap_used)] // Helpers of tests are tests too.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use serde_json::json;
use zoo_sdk::{
    Array, Binarization, Checkpoint, Context, Control, DataSpec, Dataset, Elements,
    EvaluateRequest, Event, Metrics, OpenRequest, Plugin, Result, Session, Silent, Split, Tensors,
    TrainReport, TrainRequest, View, host::Isolation,
};

/// `hostile.c` with definitions.
pub struct Hostile {
    name: String,
    defines: Vec<String>,
    more: String,
}

impl Hostile {
    /// In a mode.
    pub fn plain(mode: &str) -> Self {
        Self {
            name: mode.into(),
            defines: vec![format!("MODE=\"{mode}\"")],
            more: String::new(),
        }
    }

    /// Under another file name.
    pub fn named(mut self, name: &str) -> Self {
        self.name = name.into();
        self
    }

    pub fn define(mut self, define: &str) -> Self {
        self.defines.push(define.into());
        self
    }

    /// With more C.
    pub fn source(mut self, more: &str) -> Self {
        self.more = more.into();
        self
    }

    /// The library.
    pub fn build(&self, folder: &Path) -> PathBuf {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let library = folder.join(format!("{}.so", self.name));
        let more = folder.join("more.c");
        std::fs::write(&more, &self.more).unwrap();
        let output = Command::new("cc")
            .args(["-shared", "-fPIC", "-O0", "-w", "-o"])
            .arg(&library)
            .arg("-I")
            .arg(root.join("include"))
            .args(self.defines.iter().map(|d| format!("-D{d}")))
            .arg(root.join("tests/hostile.c"))
            .arg(&more)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        library
    }
}

/// AddressSanitizer reserves terabytes of addresses, so that no limit can be set.
pub fn under_asan() -> bool {
    std::env::var_os("ASAN_OPTIONS").is_some()
}

pub fn isolation() -> Isolation {
    Isolation {
        program: env!("CARGO_BIN_EXE_zoo-serve-plugin").into(),
        arguments: Vec::new(),
        memory: (!under_asan()).then_some(256 << 20),
        silence: Duration::from_secs(3),
    }
}

fn spec() -> DataSpec {
    DataSpec {
        name: "two".into(),
        image: [1, 1, 2],
        classes: Vec::new(),
        binarization: Binarization::None,
        sha256: "0".repeat(64),
        ..DataSpec::default()
    }
}

fn split() -> Split<'static> {
    Split {
        images: View {
            count: 2,
            elements: Elements::U8(&[1, 2, 3, 4]),
        },
        labels: None,
        targets: None,
    }
}

/// Keeps checkpoints.
#[derive(Default)]
pub struct Kept(pub Vec<Checkpoint>);

impl Context for Kept {
    fn progress(&mut self, _: &Event) -> Control {
        Control::Continue
    }

    fn checkpoint(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        self.0.push(checkpoint.clone());
        Ok(())
    }

    fn images(&mut self, _: u64, _: &str, _: &Array) -> Result<()> {
        Ok(())
    }
}

pub fn train(plugin: &dyn Plugin, cx: &mut dyn Context) -> Result<TrainReport> {
    let spec = spec();
    let data = Dataset {
        spec: &spec,
        train: split(),
        valid: None,
    };
    let request = TrainRequest {
        model: json!({}),
        train: json!({}),
        device: "cpu".into(),
        ..TrainRequest::default()
    };
    plugin.train(&request, &data, cx)
}

pub fn open(plugin: &dyn Plugin) -> Result<Box<dyn Session>> {
    plugin.open(&OpenRequest {
        model: json!({}),
        data: spec(),
        weights: Tensors::new(),
        threads: 1,
        device: "cpu".into(),
    })
}

pub fn inputs() -> Tensors {
    let x = Array::f32([1, 2], [0.5, 1.5]).unwrap();
    Tensors::from([("x".into(), x)])
}

pub fn evaluate(session: &dyn Session) -> Result<Metrics> {
    let request = EvaluateRequest {
        seed: 1,
        batch: 1,
        importance_samples: 0,
        ..EvaluateRequest::default()
    };
    session.evaluate(&request, &split(), &mut Silent)
}
