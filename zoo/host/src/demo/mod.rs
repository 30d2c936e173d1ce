//! The library call behind `zoo demo`: the whole job once, on the embedded data.

mod pictures;
mod report;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use zoo_runtimes::Search;
use zoo_sdk::StopReason;

use crate::export::{ExportOptions, Exported, export};
use crate::registry::Registry;
use crate::run::{Observer, Quiet, RunDir, TrainOptions, TrainOutcome, train};
use crate::settings::Given;
use crate::verify::{Verification, VerifyOptions, verify};
use crate::{Error, Result};

/// How to show it.
#[derive(Clone, Debug)]
pub struct DemoOptions {
    /// Where everything goes: a new or empty folder, or that of an earlier demo, which is replaced.
    pub out: PathBuf,
    /// Within 90 seconds on two cores, instead of 10 minutes.
    pub quick: bool,
    /// The seed.
    pub seed: u64,
    /// CPU threads; 0 for all.
    pub threads: usize,
    /// Where to look for runtimes.
    pub search: Search,
}

impl DemoOptions {
    /// The full demo into `out`.
    pub fn new(out: impl Into<PathBuf>) -> Self {
        Self {
            out: out.into(),
            quick: false,
            seed: 0,
            threads: 0,
            search: Search::default(),
        }
    }
}

/// Hears of everything while it happens.
pub trait DemoObserver: Observer {
    /// A part begins: `training the VAE`, ...
    fn stage(&mut self, _title: &str) {}
}

impl DemoObserver for Quiet {}

/// What the demo left.
#[derive(Clone, Debug)]
pub struct Demo {
    /// The folder.
    pub dir: PathBuf,
    /// What was done, with figures.
    pub report: PathBuf,
    /// The pictures.
    pub pictures: Vec<PathBuf>,
    /// The verification of each bundle, by model.
    pub verified: Vec<(String, Verification)>,
    /// It was cancelled; what was trained so far is saved in the folder.
    pub cancelled: bool,
    /// How long it took.
    pub seconds: f64,
}

impl Demo {
    /// Whether it was carried out and every runtime agreed.
    pub fn ok(&self) -> bool {
        !self.cancelled && self.verified.iter().all(|(_, v)| v.ok)
    }
}

/// Trains the VAE and the GAN on the embedded data, exports both, verifies them on every runtime found, and leaves
/// pictures and a report.
///
/// # Errors
/// Those of training, export and verification.
pub fn demo(
    registry: &Registry,
    options: &DemoOptions,
    cancel: &(dyn Fn() -> bool + Sync),
    observer: &mut dyn DemoObserver,
) -> Result<Demo> {
    let plans = if options.quick { &QUICK } else { &FULL };
    carry_out(registry, options, plans, cancel, observer)
}

fn carry_out(
    registry: &Registry,
    options: &DemoOptions,
    plans: &'static [Plan; 2],
    cancel: &(dyn Fn() -> bool + Sync),
    observer: &mut dyn DemoObserver,
) -> Result<Demo> {
    let start = Instant::now();
    prepare(&options.out)?;
    let file = |name: &str| options.out.join(name);
    let mut out = Demo {
        dir: options.out.clone(),
        report: file("report.md"),
        pictures: Vec::new(),
        verified: Vec::new(),
        cancelled: false,
        seconds: 0.0,
    };
    let mut parts = Vec::new();
    for plan in plans {
        observer.stage(&format!(
            "training the {} on {DATA}, for {} at most",
            plan.title,
            minutes(plan.max_seconds)
        ));
        let mut training = TrainOptions::new(plan.model, file(plan.model));
        training.threads = options.threads;
        training.given = Given {
            data: Some(DATA.to_owned()),
            seed: Some(options.seed),
            set: plan.set.iter().map(|s| (*s).to_owned()).collect(),
            epochs: Some(plan.epochs),
            max_seconds: Some(plan.max_seconds),
            ..Given::default()
        };
        let trained = train(registry, &training, cancel, observer)?;
        if trained.reason == StopReason::Cancelled {
            out.cancelled = true;
            out.seconds = start.elapsed().as_secs_f64();
            return Ok(out);
        }
        observer.stage(&format!("exporting the {}", plan.title));
        let bundle = file(&format!("{}-onnx", plan.model));
        let mut exporting = ExportOptions::new(trained.run.root(), &bundle);
        exporting.threads = options.threads;
        let exported = export(registry, &exporting, &mut |_| {})?;
        exported.warnings.iter().for_each(|w| observer.warning(w));
        observer.stage(&format!("running the {} on every runtime", plan.title));
        let mut verifying = VerifyOptions::new(&bundle);
        verifying.search = options.search.clone();
        verifying.threads = options.threads;
        let verified = verify(registry, &verifying, &mut |_| {})?;
        parts.push(Part {
            plan,
            trained,
            exported,
            verified,
        });
    }
    observer.stage("drawing pictures");
    out.pictures = pictures::draw(registry, options, &parts, observer)?;
    out.seconds = start.elapsed().as_secs_f64();
    let text = report::text(options, &parts, &out);
    std::fs::write(&out.report, text).map_err(Error::io("write", &out.report))?;
    out.verified = parts
        .into_iter()
        .map(|part| (part.plan.model.to_owned(), part.verified))
        .collect();
    Ok(out)
}

/// The embedded data set.
const DATA: &str = "fashion-small";
/// Marks a folder as a demo's, so that the next one may replace what is in it.
const MARK: &str = ".zoo-demo";

/// A model and how long it learns. The time is a safety for slow machines: on two ordinary cores the epochs end before it.
struct Plan {
    model: &'static str,
    title: &'static str,
    set: &'static [&'static str],
    epochs: u64,
    max_seconds: f64,
}

const QUICK: [Plan; 2] = [
    Plan {
        model: "vae",
        title: "VAE",
        set: &[
            "model.hidden=[512, 256]",
            "model.latent=8",
            "train.learning_rate=2e-3",
            "train.schedule=cosine",
        ],
        epochs: 18,
        max_seconds: 18.0,
    },
    Plan {
        model: "gan",
        title: "GAN",
        set: &[
            "model.channels=64",
            "model.latent=32",
            "train.batch=32",
            "train.learning_rate=1e-3",
            "train.schedule=cosine",
            "train.ema=0.98",
        ],
        epochs: 15,
        max_seconds: 48.0,
    },
];

const FULL: [Plan; 2] = [
    Plan {
        model: "vae",
        title: "VAE",
        set: &[
            "model.arch=conv",
            "model.latent=12",
            "train.learning_rate=1.5e-3",
            "train.schedule=cosine",
        ],
        epochs: 20,
        max_seconds: 150.0,
    },
    Plan {
        model: "gan",
        title: "GAN",
        set: &[
            "model.channels=64",
            "model.latent=64",
            "train.batch=32",
            "train.learning_rate=5e-4",
            "train.schedule=cosine",
            "train.ema=0.99",
        ],
        epochs: 28,
        max_seconds: 360.0,
    },
];

/// What became of a plan.
struct Part {
    plan: &'static Plan,
    trained: TrainOutcome,
    exported: Exported,
    verified: Verification,
}

impl Part {
    fn model(&self) -> &'static str {
        self.plan.model
    }
}

/// `90 s`, `2.5 min`
fn minutes(seconds: f64) -> String {
    match seconds {
        s if s < 120.0 => format!("{s:.0} s"),
        s => format!("{} min", (s / 6.0).round() / 10.0),
    }
}

/// Makes the folder, or clears what an earlier demo left in it. Anything else is left alone.
fn prepare(dir: &Path) -> Result<()> {
    let mark = dir.join(MARK);
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries
            .collect::<std::io::Result<Vec<_>>>()
            .map_err(Error::io("read", dir))?,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(e) => return Err(Error::io("read", dir)(e)),
    };
    if !entries.is_empty() && !mark.is_file() {
        return Err(Error::NotARun {
            path: dir.to_owned(),
            what: "holds other files, and no earlier demo; give a new or empty folder with --out"
                .to_owned(),
        });
    }
    fs::create_dir_all(dir).map_err(Error::io("create", dir))?;
    fs::write(&mark, "").map_err(Error::io("write", &mark))?;
    for plan in &FULL {
        for name in [plan.model.to_owned(), format!("{}-onnx", plan.model)] {
            let path = dir.join(name);
            // A training that still runs there keeps its folder.
            if path.join("config.toml").is_file() {
                drop(RunDir::lock(&path)?);
            }
            if path.exists() {
                fs::remove_dir_all(&path).map_err(Error::io("remove", &path))?;
            }
        }
    }
    for name in pictures::NAMES.iter().chain(&["report.md"]) {
        let path = dir.join(name);
        match fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io("remove", &path)(e));
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TINY: [Plan; 2] = [
        Plan {
            model: "vae",
            title: "VAE",
            set: &["data.limit=128", "model.hidden=[8]", "model.latent=2"],
            epochs: 1,
            max_seconds: 60.0,
        },
        Plan {
            model: "gan",
            title: "GAN",
            set: &["data.limit=128", "model.channels=4", "model.latent=4"],
            epochs: 1,
            max_seconds: 60.0,
        },
    ];

    fn registry() -> Registry {
        Registry::new(
            [zoo_vae::plugins(), zoo_gan::plugins()]
                .into_iter()
                .flatten()
                .collect(),
        )
        .unwrap()
    }

    #[test]
    fn all_that_the_report_names_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let mut options = DemoOptions::new(dir.path().join("demo"));
        options.quick = true;
        let done = carry_out(&registry(), &options, &TINY, &|| false, &mut Quiet).unwrap();
        assert!(done.ok(), "{:?}", done.verified);
        let text = fs::read_to_string(&done.report).unwrap();
        for name in pictures::NAMES {
            assert!(text.contains(&format!("({name})")), "{name}");
            assert!(done.pictures.contains(&done.dir.join(name)));
            assert!(image::open(done.dir.join(name)).unwrap().width() > 100);
        }
        for path in [
            "vae/config.toml",
            "gan-onnx/README.md",
            "vae-onnx/onnx/decode.onnx",
        ] {
            assert!(done.dir.join(path).is_file(), "{path}");
        }
        assert!(
            text.contains("| VAE | 2 |") && text.contains("elbo_nats"),
            "{text}"
        );
        assert!(
            text.contains("| GAN | tract |") && text.contains("agrees"),
            "{text}"
        );
    }

    #[test]
    fn a_cancelled_demo_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let options = DemoOptions::new(dir.path());
        let done = carry_out(&registry(), &options, &TINY, &|| true, &mut Quiet).unwrap();
        assert!(done.cancelled && !done.ok() && !done.report.exists());
    }

    #[test]
    fn only_an_earlier_demo_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("demo");
        prepare(&out).unwrap();
        fs::write(out.join("report.md"), "old").unwrap();
        fs::write(out.join("notes.txt"), "mine").unwrap();
        fs::create_dir(out.join("vae-onnx")).unwrap();
        prepare(&out).unwrap();
        assert!(!out.join("report.md").exists() && !out.join("vae-onnx").exists());
        assert!(out.join("notes.txt").exists());

        let other = dir.path().join("other");
        fs::create_dir(&other).unwrap();
        fs::write(other.join("report.md"), "mine").unwrap();
        assert!(prepare(&other).unwrap_err().to_string().contains("--out"));
        assert!(other.join("report.md").exists());
    }
}
