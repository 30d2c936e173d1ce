//! Serves one plugin to the process that started this one. `zoo serve-plugin` does the same; this one is small.

#[cfg(unix)]
fn main() -> std::io::Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    match (arguments.next(), arguments.next().map(|s| s.into_string())) {
        (Some(path), Some(Ok(settings))) => {
            zoo_sdk::host::serve(std::path::Path::new(&path), &settings)
        }
        _ => Err(std::io::Error::other(
            "it is started by `zoo_sdk::host::isolate`, not by hand",
        )),
    }
}

#[cfg(not(unix))]
fn main() {}
