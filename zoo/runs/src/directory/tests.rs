//! Faults at every write, kills at random moments, damaged files.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use zoo_files::Disk;
use zoo_sdk::{Checkpoint, Metrics};

use super::{KEPT, RunDir, checkpoint};
use crate::Error;
use crate::testing::{Faults, Kind, checkpoint_at};

fn never(_: &Metrics, _: Option<&Metrics>) -> bool {
    false
}

fn always(_: &Metrics, _: Option<&Metrics>) -> bool {
    true
}

fn at(step: u64) -> Checkpoint {
    checkpoint_at(step, 3, true)
}

/// A run with checkpoints of these steps, unlocked again.
fn run_with(root: &Path, steps: &[u64]) {
    let mut run = lock(root);
    for &step in steps {
        run.save(&at(step), &always).unwrap();
    }
}

fn lock(root: &Path) -> RunDir {
    let run = RunDir::lock(root).unwrap();
    if !run.layout().config().exists() {
        run.disk.replace(&run.layout().config(), b"").unwrap();
    }
    run
}

/// Names in a folder, sorted.
fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_checkpoint_comes_back_and_its_bytes_are_stable() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (folder.path().join("a"), folder.path().join("b"));
    run_with(&a, &[7]);
    run_with(&b, &[7]);
    let files = names(&a.join("checkpoints/7"));
    assert_eq!(
        files,
        [
            "ema.safetensors",
            "model.safetensors",
            "optimizer.safetensors",
            "state.json"
        ]
    );
    for file in files {
        let bytes = |root: &Path| fs::read(root.join("checkpoints/7").join(&file)).unwrap();
        assert_eq!(bytes(&a), bytes(&b), "{file}");
    }
    assert_eq!(checkpoint::read(&a.join("checkpoints/7")).unwrap(), at(7));
    let without_ema = checkpoint_at(8, 3, false);
    lock(&a).save(&without_ema, &never).unwrap();
    assert_eq!(
        checkpoint::read(&a.join("checkpoints/8")).unwrap(),
        without_ema
    );
}

#[test]
fn the_last_three_are_kept_and_the_best_beside_them() {
    let folder = tempfile::tempdir().unwrap();
    let mut run = lock(folder.path());
    let lower =
        |new: &Metrics, old: Option<&Metrics>| old.is_none_or(|old| new["nll"] < old["nll"]);
    for (step, nll) in [(1, 5.0), (2, 1.0), (10, 3.0), (11, 2.0), (12, 4.0)] {
        let mut checkpoint = at(step);
        checkpoint.state.metrics.insert("nll".into(), nll);
        run.save(&checkpoint, &lower).unwrap();
    }
    assert_eq!(KEPT, 3);
    assert_eq!(
        names(&folder.path().join("checkpoints")),
        ["10", "11", "12"]
    );
    assert_eq!(
        checkpoint::read(&folder.path().join("best")).unwrap().step,
        2
    );
    assert_eq!(
        names(folder.path()),
        [".lock", "best", "checkpoints", "config.toml"]
    );
}

#[test]
fn saving_the_same_step_again_changes_nothing_and_another_state_replaces_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut run = lock(folder.path());
    let path = run.save(&at(4), &never).unwrap();
    let written = || {
        fs::metadata(path.join("state.json"))
            .unwrap()
            .modified()
            .unwrap()
    };
    let before = written();
    run.save(&at(4), &never).unwrap();
    assert_eq!(written(), before);
    let other = checkpoint_at(4, 99, false);
    run.save(&other, &never).unwrap();
    assert_eq!(checkpoint::read(&path).unwrap(), other);
    assert_eq!(names(&folder.path().join("checkpoints")), ["4"]);
    assert!(run.warnings.is_empty(), "{:?}", run.warnings);
}

#[test]
fn a_disk_full_at_any_operation_leaves_a_usable_checkpoint() {
    fail_at_each_operation(Kind::Once);
}

#[test]
fn a_crash_at_any_operation_leaves_a_usable_checkpoint() {
    fail_at_each_operation(Kind::FromThen);
}

/// Whatever operation fails, what was there stays usable, and the next process goes on as if nothing had been.
fn fail_at_each_operation(kind: Kind) {
    let template = tempfile::tempdir().unwrap();
    run_with(template.path(), &[1, 2, 3]);
    let mut failures = 0;
    for operation in 0.. {
        let when = format!("{kind:?} at {operation}");
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        copy(template.path(), root);
        let mut run = lock(root);
        let faults = Faults::new(kind, operation);
        run.disk = faults.disk();
        let saved = run.save(&at(4), &always);
        let operations = faults.count();
        drop(run);
        if let Err(error) = &saved {
            failures += 1;
            let text = error.to_string();
            assert!(matches!(error, Error::Save { step: 4, .. }), "{text}");
            assert!(text.contains("free some space"), "{text}");
        }

        // A reader that takes no lock finds a whole one, and nothing that looks damaged.
        let found = checkpoint::newest(&root.join("checkpoints")).unwrap();
        assert!(found.damaged.is_empty(), "{when}: {:?}", found.damaged);
        let (newest, _) = found.checkpoint.unwrap();
        assert!(
            newest == at(3) || newest == at(4),
            "{when}: {}",
            newest.step
        );

        let mut run = lock(root);
        assert!(checkpoint::read(&root.join("best")).is_ok(), "{when}");
        assert_eq!(run.resume_from().unwrap(), Some(newest), "{when}");
        run.save(&at(4), &never).unwrap();
        run.save(&at(5), &always).unwrap();
        assert!(run.warnings.is_empty(), "{when}: {:?}", run.warnings);
        let checkpoints = names(&root.join("checkpoints"));
        assert_eq!(checkpoints, ["3", "4", "5"], "{when}");
        assert_eq!(checkpoint::read(&root.join("best")).unwrap(), at(5));
        assert_eq!(names(root), [".lock", "best", "checkpoints", "config.toml"]);
        if saved.is_ok() && operations <= operation {
            break;
        }
    }
    assert!(failures > 20, "only {failures} faults had an effect");
}

/// Copies a folder without waiting for the disk.
fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let from = entry.unwrap().path();
        let to = to.join(from.file_name().unwrap());
        if from.is_dir() {
            fs::create_dir(&to).unwrap();
            copy(&from, &to);
        } else {
            fs::copy(&from, &to).unwrap();
        }
    }
}

/// A disk that is full for the very first save leaves no half checkpoint.
#[test]
fn a_fault_in_the_first_save_leaves_none() {
    for operation in 0..12 {
        let folder = tempfile::tempdir().unwrap();
        let mut run = lock(folder.path());
        run.disk = Faults::new(Kind::Once, operation).disk();
        assert!(run.save(&at(1), &never).is_err(), "operation {operation}");
        let found = checkpoint::newest(&run.layout().checkpoints()).unwrap();
        assert!(found.checkpoint.is_none() && found.damaged.is_empty());
        let left: Vec<_> = names(folder.path());
        assert!(!left.iter().any(|n| n.starts_with(".tmp-")), "{left:?}");
        run.disk = Disk::default();
        run.save(&at(1), &never).unwrap();
        assert_eq!(run.resume_from().unwrap(), Some(at(1)));
    }
}

/// Each kind of damage to the newest checkpoint: the one before is used, the damaged one kept aside and reported.
#[test]
fn damaged_checkpoints_are_passed_over_reported_and_kept() {
    type Damage = fn(&Path);
    let table: [(&str, Damage, &str); 9] = [
        (
            "cut model",
            |f| cut(&f.join("model.safetensors"), 5),
            "bytes, but state.json says",
        ),
        (
            "empty optimizer",
            |f| fs::write(f.join("optimizer.safetensors"), "").unwrap(),
            "bytes, but state.json says",
        ),
        (
            "flipped bit",
            |f| flip(&f.join("model.safetensors")),
            "damaged: its SHA-256",
        ),
        (
            "flipped ema",
            |f| flip(&f.join("ema.safetensors")),
            "damaged: its SHA-256",
        ),
        (
            "no model",
            |f| fs::remove_file(f.join("model.safetensors")).unwrap(),
            "cannot read",
        ),
        (
            "no state",
            |f| fs::remove_file(f.join("state.json")).unwrap(),
            "cannot read",
        ),
        ("cut state", |f| cut(&f.join("state.json"), 40), "no JSON"),
        (
            "changed state",
            |f| {
                let text = fs::read_to_string(f.join("state.json")).unwrap();
                fs::write(
                    f.join("state.json"),
                    text.replace("\"images\": 30", "\"images\": 31"),
                )
                .unwrap();
            },
            "hash does not fit",
        ),
        (
            "another step's",
            |f| {
                for file in names(f) {
                    fs::copy(f.with_file_name("2").join(&file), f.join(&file)).unwrap();
                }
            },
            "the folder's name is not its step",
        ),
    ];
    for (what, damage, message) in table {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        run_with(root, &[1, 2, 3]);
        damage(&root.join("checkpoints/3"));
        let found = checkpoint::newest(&root.join("checkpoints")).unwrap();
        assert_eq!(found.checkpoint.unwrap().0, at(2), "{what}");
        assert_eq!(found.damaged.len(), 1, "{what}");

        let mut run = lock(root);
        assert_eq!(run.resume_from().unwrap(), Some(at(2)), "{what}");
        let warnings = run.warnings.join("\n");
        assert!(warnings.contains(message), "{what}: {warnings}");
        assert!(
            warnings.contains("3.damaged-1") && warnings.contains("going on from step 2"),
            "{what}: {warnings}"
        );
        run.save(&at(3), &never).unwrap();
        assert_eq!(
            names(&root.join("checkpoints")),
            ["1", "2", "3", "3.damaged-1"],
            "{what}"
        );
        drop(run);
        assert_eq!(lock(root).resume_from().unwrap(), Some(at(3)), "{what}");
    }
}

#[test]
fn where_all_are_damaged_nothing_is_begun_afresh_unasked() {
    let folder = tempfile::tempdir().unwrap();
    run_with(folder.path(), &[1, 2]);
    for step in ["1", "2"] {
        flip(
            &folder
                .path()
                .join("checkpoints")
                .join(step)
                .join("model.safetensors"),
        );
    }
    let error = lock(folder.path()).resume_from().unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("none of its 2 checkpoints") && text.contains("to start afresh"),
        "{text}"
    );
    assert_eq!(names(&folder.path().join("checkpoints")), ["1", "2"]);
}

#[test]
fn a_damaged_best_is_replaced_and_kept_aside() {
    let folder = tempfile::tempdir().unwrap();
    run_with(folder.path(), &[1]);
    cut(&folder.path().join("best/state.json"), 10);
    let mut run = lock(folder.path());
    run.save(&at(2), &|_, old| old.is_none()).unwrap();
    assert_eq!(
        checkpoint::read(&folder.path().join("best")).unwrap().step,
        2
    );
    assert!(
        run.warnings.join("").contains("best.damaged-1"),
        "{:?}",
        run.warnings
    );
}

#[test]
fn a_run_in_use_is_refused_by_name_and_pid() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("run");
    let held = RunDir::lock(&root).unwrap();
    let error = RunDir::lock(&root).unwrap_err();
    assert!(matches!(error, Error::RunInUse { pid: Some(pid), .. } if pid == std::process::id()));
    let text = error.to_string();
    assert!(
        text.contains(&root.display().to_string()) && text.contains("in use by process"),
        "{text}"
    );
    drop(held);
    RunDir::lock(&root).unwrap();
}

#[test]
fn folders_with_other_things_are_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("thesis.tex"), "x").unwrap();
    let text = RunDir::lock(folder.path()).unwrap_err().to_string();
    assert!(
        text.contains("thesis.tex") && text.contains("new or empty folder"),
        "{text}"
    );
    assert_eq!(names(folder.path()), ["thesis.tex"]);
    let text = RunDir::lock(&folder.path().join("thesis.tex"))
        .unwrap_err()
        .to_string();
    assert!(text.contains("is a file"), "{text}");
}

const KILL_FOLDER: &str = "ZOO_TEST_KILL_FOLDER";

/// The victim of the test below: saves checkpoint after checkpoint and says so, until killed.
#[test]
fn kill_victim() {
    let Ok(root) = std::env::var(KILL_FOLDER) else {
        return;
    };
    let mut run = lock(Path::new(&root));
    let start = run.resume_from().unwrap().map_or(0, |c| c.step);
    assert!(run.warnings.is_empty(), "{:?}", run.warnings);
    for step in start + 1.. {
        run.save(&at(step), &always).unwrap();
        println!("saved {step}");
    }
}

/// kill -9 at any moment loses nothing that was reported as saved, and leaves nothing that looks damaged.
#[cfg(unix)]
#[test]
fn a_killed_process_loses_nothing_that_was_saved() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("run");
    let mut saved = 0;
    let moments = zoo_sdk::Stream::new(1).named("kill").uniform(12);
    for (round, moment) in moments.into_iter().enumerate() {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "directory::tests::kill_victim", "--nocapture"])
            .env(KILL_FOLDER, &root)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut steps = lines
            .map_while(|line| line.ok())
            .filter_map(|l| l.rsplit_once("saved ")?.1.parse::<u64>().ok());
        // Some die while they start and clear up after the one before, the others among their saves.
        if round % 3 != 2 {
            saved = steps.next().expect("the victim saves");
        }
        let reader = std::thread::spawn(move || steps.last());
        std::thread::sleep(Duration::from_millis((moment * 80.0) as u64));
        child.kill().unwrap();
        child.wait().unwrap();
        saved = reader.join().unwrap().unwrap_or(saved);

        let found = checkpoint::newest(&root.join("checkpoints")).unwrap();
        assert!(found.damaged.is_empty(), "{:?}", found.damaged);
        let (newest, _) = found.checkpoint.unwrap();
        assert_eq!(newest, at(newest.step));
        assert!(
            newest.step >= saved,
            "{saved} was saved, {} found",
            newest.step
        );
        let run = lock(&root);
        let best = checkpoint::read(&run.layout().best()).unwrap().step;
        assert!(
            best == newest.step || best == newest.step + 1,
            "best {best}, newest {}",
            newest.step
        );
        let left = names(&root);
        assert!(
            !left
                .iter()
                .any(|n| n.starts_with(".tmp-") || n.ends_with(".previous")),
            "{left:?}"
        );
    }
}

fn cut(file: &Path, bytes: usize) {
    let content = fs::read(file).unwrap();
    fs::write(file, &content[..content.len() - bytes]).unwrap();
}

fn flip(file: &Path) {
    let mut content = fs::read(file).unwrap();
    let last = content.len() - 1;
    content[last] ^= 1;
    fs::write(file, content).unwrap();
}
