//! The whole job once, on the embedded data.

use std::fs;
use std::path::Path;
use std::time::Instant;

use zoo_deploy::{ExportOptions, Result, VerifyOptions, export, verify};
use zoo_runs::settings::Given;
use zoo_runs::{Error, Observer, Quiet, Registry, RunDir, TrainOptions, train};
use zoo_runtimes::Search;
use zoo_sdk::StopReason;

use super::plan::{DATA, Done, FULL, Part, Plan, QUICK, minutes};
use super::{Demo, pictures, report};

/// Hears of everything while it happens.
pub trait DemoObserver: Observer {
    /// A part begins: `training the VAE`, ...
    fn stage(&mut self, _title: &str) {}
}

impl DemoObserver for Quiet {}

/// Trains the VAE and the GAN on the embedded data, exports both, verifies them on every runtime found, and leaves
/// pictures and a report.
///
/// # Errors
/// Those of training, export and verification.
pub fn demo(
    registry: &Registry,
    options: &Demo,
    search: &Search,
    cancel: &(dyn Fn() -> bool + Sync),
    observer: &mut dyn DemoObserver,
) -> Result<Done> {
    let plans = if options.quick { &QUICK } else { &FULL };
    carry_out(registry, options, search, plans, cancel, observer)
}

fn carry_out(
    registry: &Registry,
    options: &Demo,
    search: &Search,
    plans: &'static [Plan; 2],
    cancel: &(dyn Fn() -> bool + Sync),
    observer: &mut dyn DemoObserver,
) -> Result<Done> {
    let start = Instant::now();
    prepare(&options.out)?;
    let file = |name: &str| options.out.join(name);
    let mut out = Done {
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
        training.threads = options.threads.unwrap_or(0);
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
        exporting.threads = options.threads.unwrap_or(0);
        let exported = export(registry, &exporting, &mut |_| {})?;
        exported.warnings.iter().for_each(|w| observer.warning(w));
        observer.stage(&format!("running the {} on every runtime", plan.title));
        let mut verifying = VerifyOptions::new(&bundle);
        verifying.search = search.clone();
        verifying.threads = options.threads.unwrap_or(0);
        let verified = verify(registry, &verifying, &mut |_| {})?;
        parts.push(Part {
            plan,
            trained,
            exported,
            verified,
        });
    }
    observer.stage("drawing pictures");
    out.pictures = pictures::draw(registry, options, search, &parts, observer)?;
    out.seconds = start.elapsed().as_secs_f64();
    let text = report::text(options, &parts, &out);
    fs::write(&out.report, text).map_err(Error::io("write", &out.report))?;
    out.verified = parts
        .into_iter()
        .map(|part| (part.plan.model.to_owned(), part.verified))
        .collect();
    Ok(out)
}

/// Marks a folder as a demo's, so that the next one may replace what is in it.
const MARK: &str = ".zoo-demo";

/// Makes the folder, or clears what an earlier demo left in it. Anything else is left alone.
fn prepare(dir: &Path) -> Result<()> {
    let mark = dir.join(MARK);
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries
            .collect::<std::io::Result<Vec<_>>>()
            .map_err(Error::io("read", dir))?,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(e) => return Err(Error::io("read", dir)(e).into()),
    };
    if !entries.is_empty() && !mark.is_file() {
        return Err(Error::NotARun {
            path: dir.to_owned(),
            what: "holds other files, and no earlier demo; give a new or empty folder with --out"
                .to_owned(),
        }
        .into());
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
                return Err(Error::io("remove", &path)(e).into());
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

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

    fn carried_out(out: PathBuf, cancelled: bool) -> Done {
        let options = Demo {
            out,
            quick: true,
            seed: 0,
            threads: None,
        };
        let (registry, search) = (zoo_builtins::registry().unwrap(), Search::default());
        let cancel = || cancelled;
        carry_out(&registry, &options, &search, &TINY, &cancel, &mut Quiet).unwrap()
    }

    #[test]
    fn all_that_the_report_names_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let done = carried_out(dir.path().join("demo"), false);
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
        let done = carried_out(dir.path().to_owned(), true);
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
